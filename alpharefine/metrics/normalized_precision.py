"""Normalised precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import (
    NORM_PRECISION_INDEX,
    NORM_PRECISION_THRESHOLDS,
    Protocol,
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

    def __init__(self, protocol: Protocol = "lasot", **kwargs: Any) -> None:
        super().__init__(len(NORM_PRECISION_THRESHOLDS), protocol, **kwargs)

    def _sequence_curve(self, pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None) -> np.ndarray:
        return norm_precision_curve(pred_xywh, target_xywh, absent, self.protocol)

    def _score(self, curve: Tensor) -> Tensor:
        return curve.mean() if self.protocol == "got10k" else curve[NORM_PRECISION_INDEX]
