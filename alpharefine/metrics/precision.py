"""Precision at 20 px."""

from __future__ import annotations

from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import PRECISION_INDEX, PRECISION_THRESHOLDS, precision_curve


class Precision(CurveMetric):
    """Precision: share of the frames whose centre error is at most 20 px, averaged over sequences, in 0..1.

    Args:
        protocol: whose conventions to follow.
        kwargs: passed to `torchmetrics.Metric`.

    >>> metric = Precision()
    >>> metric.update([[1, 1, 10, 10], [30, 1, 10, 10]], [[1, 1, 10, 10], [1, 1, 10, 10]])
    >>> metric.compute().item()
    0.5
    """

    num_thresholds = len(PRECISION_THRESHOLDS)
    _sequence_curve = staticmethod(precision_curve)

    def _score(self, curve: Tensor) -> Tensor:
        return curve[PRECISION_INDEX]
