"""The state that the one-pass evaluation metrics share: a sum of curves over sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric

from alpharefine.metrics.functional import Protocol, check_protocol


class CurveMetric(Metric, ABC):
    """The mean over sequences of a curve; every sequence weighs the same, long or short.

    The state is the float64 sum of the curves and the number of sequences, so it is right when sequences are spread
    unevenly over processes. It must not be cast: `set_dtype` or `.to(torch.bfloat16)` would round the sum.

    Args:
        protocol: whose conventions to follow.
        kwargs: passed to `torchmetrics.Metric`.

    Raises:
        UserError: if the protocol is unknown.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    num_thresholds: ClassVar[int]
    """Length of the curve."""

    curve_sum: Tensor
    num_sequences: Tensor

    def __init__(self, protocol: Protocol = "lasot", **kwargs: Any) -> None:
        check_protocol(protocol)
        super().__init__(**kwargs)
        self.protocol: Protocol = protocol
        self.add_state("curve_sum", torch.zeros(self.num_thresholds, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_sequences", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None = None) -> None:
        """Add one sequence.

        Args:
            pred_xywh: ``(N, 4)`` or longer, result boxes as written in files; tensor or array.
            target_xywh: ``(N, 4)``, ground truth.
            absent: ``(N,)`` bool, frames without a visible target; none if left out.

        Raises:
            UserError: as `alpharefine.metrics.functional.score_frames`.
        """
        curve = self._sequence_curve(pred_xywh, target_xywh, absent, self.protocol)
        self.curve_sum += torch.from_numpy(curve).to(self.curve_sum.device)
        self.num_sequences += 1

    def compute(self) -> Tensor:
        """The score, a scalar in 0..1; NaN if there was no sequence."""
        return self._score(self._mean_curve())

    def curve(self) -> Tensor:
        """The mean curve over the sequences of all processes, float64 in 0..1; NaN if there was no sequence."""
        with self.sync_context(should_sync=self._to_sync, should_unsync=self._should_unsync):
            return self._mean_curve()

    def _mean_curve(self) -> Tensor:
        return self.curve_sum / self.num_sequences

    @staticmethod
    @abstractmethod
    def _sequence_curve(
        pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None, protocol: Protocol
    ) -> np.ndarray:
        """The curve of one sequence."""

    @abstractmethod
    def _score(self, curve: Tensor) -> Tensor:
        """The published number of a curve."""
