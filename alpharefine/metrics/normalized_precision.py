"""Normalised precision."""

from __future__ import annotations

from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import (
    NORM_PRECISION_INDEX,
    NORM_PRECISION_THRESHOLDS,
    norm_precision_curve,
)


class NormalizedPrecision(CurveMetric):
    """Normalised precision, averaged over sequences, in 0..1.

    As published: the share of the frames whose centre error is at most 0.20 of the ground truth's sides. Under `got10k`
    it is the mean of the curve over 0..0.5 instead, as that toolkit reports it.

    Args:
        protocol: whose conventions to follow.
        kwargs: passed to `torchmetrics.Metric`.

    >>> metric = NormalizedPrecision()
    >>> metric.update([[1, 1, 10, 10], [4, 1, 10, 10]], [[1, 1, 10, 10], [1, 1, 10, 10]])
    >>> metric.compute().item()
    0.5
    """

    num_thresholds = len(NORM_PRECISION_THRESHOLDS)
    _sequence_curve = staticmethod(norm_precision_curve)

    def _score(self, curve: Tensor) -> Tensor:
        return curve.mean() if self.protocol == "got10k" else curve[NORM_PRECISION_INDEX]
