"""Precision at 20 px."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import PRECISION_INDEX, PRECISION_THRESHOLDS, OnePassCurves


class Precision(CurveMetric):
    """Precision: share of the frames whose center error is at most 20 px, averaged over sequences, in 0..1.

    Args:
        protocol: Scoring conventions.
        kwargs: Arguments of `torchmetrics.Metric`.

    >>> metric = Precision()
    >>> metric.update([[1, 1, 10, 10], [30, 1, 10, 10]], [[1, 1, 10, 10], [1, 1, 10, 10]])
    >>> metric.compute().item()
    0.5
    """

    num_thresholds = len(PRECISION_THRESHOLDS)

    @staticmethod
    def select(curves: OnePassCurves) -> np.ndarray:
        """Return the precision curve.

        Args:
            curves: Curves of one sequence.
        """
        return curves.precision

    def score(self, curve: Tensor) -> Tensor:
        """Return each curve at 20 px.

        Args:
            curve: ``(..., 51)`` precision curves.
        """
        return curve[..., PRECISION_INDEX]
