"""Base of the one-pass evaluation metrics: the mean of a curve over sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric

from alpharefine.metrics.functional import OnePassCurves, check_protocol, one_pass_curves
from alpharefine.options import Protocol


class CurveMetric(Metric, ABC):
    """Mean of a curve over sequences; every sequence has the same weight, whatever its length.

    The state is the float64 sum of the curves and the number of sequences, so the mean is right when the sequences are
    spread unevenly over processes. The state must not be cast (`set_dtype`, `.to(torch.bfloat16)`).

    Args:
        protocol: Scoring conventions.
        kwargs: Arguments of `torchmetrics.Metric`.

    Raises:
        UserError: If the protocol is unknown.
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
            pred_xywh: ``(N, 4)`` result boxes as written in files, tensor or array; further rows are ignored.
            target_xywh: ``(N, 4)`` ground truth.
            absent: ``(N,)`` bool, frames without a visible target; None if there are none.

        Raises:
            UserError: If `alpharefine.metrics.functional.score_frames` refuses the arguments.
        """
        self._add(one_pass_curves(pred_xywh, target_xywh, absent, self.protocol))

    def add_curves(self, curves: OnePassCurves) -> None:
        """Add one sequence whose curves are known, in place of `update`; several metrics can share them.

        Args:
            curves: Curves under the protocol of this metric.
        """
        self._add(curves)
        # torchmetrics wraps `update` to do this.
        self._update_count += 1
        self._computed = None

    def compute(self) -> Tensor:
        """Return the score, a scalar in 0..1; NaN if there was no sequence."""
        return self.score(self._mean_curve())

    def curve(self) -> Tensor:
        """Return the mean curve over the sequences of all processes, float64 in 0..1; NaN if there was no sequence."""
        with self.sync_context(self.dist_sync_fn, should_sync=self._to_sync):
            return self._mean_curve()

    @staticmethod
    @abstractmethod
    def select(curves: OnePassCurves) -> np.ndarray:
        """Return the curve that this metric averages.

        Args:
            curves: Curves of one sequence.
        """

    @abstractmethod
    def score(self, curve: Tensor) -> Tensor:
        """Return the published number of each curve, in 0..1.

        Args:
            curve: ``(..., T)`` curves.
        """

    def _mean_curve(self) -> Tensor:
        return self.curve_sum / self.num_sequences

    def _add(self, curves: OnePassCurves) -> None:
        self.curve_sum += torch.from_numpy(self.select(curves)).to(self.curve_sum.device)
        self.num_sequences += 1
