"""GOT-10k's scores: average overlap (AO) and success rate (SR) over the frames of all sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric

from alpharefine.errors import UserError
from alpharefine.metrics.functional import GOT10K_THRESHOLDS, count_greater, got10k_overlaps


class OverlapMetric(Metric, ABC):
    """Mean over frames of a function of the overlap; every frame has the same weight, so long sequences weigh more.

    The float64 state must not be cast (`set_dtype`, `.to(torch.bfloat16)`).

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    num_frames: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("num_frames", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        pred_xywh: ArrayLike,
        target_xywh: ArrayLike,
        absent: ArrayLike | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        """Add one sequence.

        Args:
            pred_xywh: ``(N, 4)`` result boxes as written in files, tensor or array; further rows are ignored.
            target_xywh: ``(N, 4)`` ground truth.
            absent: ``(N,)`` bool, frames whose ``cover`` is 0; None if there are none.
            image_size: Height and width in pixels, to which boxes are clipped; None to leave them unclipped.

        Raises:
            UserError: If `alpharefine.metrics.functional.got10k_overlaps` refuses the arguments.
        """
        self._add(got10k_overlaps(pred_xywh, target_xywh, absent, image_size))

    def add_overlaps(self, overlaps: np.ndarray) -> None:
        """Add one sequence whose overlaps are known, in place of `update`; several metrics can share them.

        Args:
            overlaps: ``(M,)`` result of `alpharefine.metrics.functional.got10k_overlaps`.
        """
        self._add(overlaps)
        # torchmetrics wraps `update` to do this.
        self._update_count += 1
        self._computed = None

    @abstractmethod
    def _add(self, overlaps: np.ndarray) -> None: ...


class AverageOverlap(OverlapMetric):
    """AO: the mean overlap over the frames of all sequences, in 0..1.

    It also counts the success curve, whose area approximates the AO.

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.

    >>> metric = AverageOverlap()
    >>> metric.update([[0, 0, 10, 10]] * 3, [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5]])
    >>> round(metric.compute().item(), 6)
    0.75
    """

    overlap_sum: Tensor
    num_greater: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("overlap_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_greater", torch.zeros(len(GOT10K_THRESHOLDS), dtype=torch.int64), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the AO, a scalar; NaN if there was no frame."""
        return self.overlap_sum / self.num_frames

    def curve(self) -> Tensor:
        """Return the success curve over the frames of all processes, ``(101,)`` float64; NaN if there was no frame."""
        with self.sync_context(self.dist_sync_fn, should_sync=self._to_sync):
            return self.num_greater.double() / self.num_frames

    def _add(self, overlaps: np.ndarray) -> None:
        self.overlap_sum += float(overlaps.sum())
        self.num_greater += torch.from_numpy(count_greater(overlaps, GOT10K_THRESHOLDS)).to(self.num_greater.device)
        self.num_frames += len(overlaps)


class SuccessRate(OverlapMetric):
    """SR: the share of the frames of all sequences whose overlap is greater than a threshold, in 0..1.

    Args:
        threshold: Overlap in 0..1; GOT-10k reports 0.5 and 0.75.
        kwargs: Arguments of `torchmetrics.Metric`.

    Raises:
        UserError: If the threshold is not in 0..1.

    >>> metric = SuccessRate(0.5)
    >>> metric.update([[0, 0, 10, 10]] * 3, [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5]])
    >>> metric.compute().item()
    0.5
    """

    num_hits: Tensor

    def __init__(self, threshold: float, **kwargs: Any) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise UserError(f"`threshold` must be an overlap in 0..1, got {threshold}; GOT-10k reports 0.5 and 0.75.")
        super().__init__(**kwargs)
        self.threshold = threshold
        self.add_state("num_hits", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the SR, a scalar; NaN if there was no frame."""
        return self.num_hits.double() / self.num_frames

    def _add(self, overlaps: np.ndarray) -> None:
        self.num_hits += int(np.count_nonzero(overlaps > self.threshold))
        self.num_frames += len(overlaps)
