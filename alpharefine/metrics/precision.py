"""Precision at 20 px."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import PRECISION_INDEX, PRECISION_THRESHOLDS, Protocol, precision_curve


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

    def __init__(self, protocol: Protocol = "lasot", **kwargs: Any) -> None:
        super().__init__(len(PRECISION_THRESHOLDS), protocol, **kwargs)

    def _sequence_curve(self, pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None) -> np.ndarray:
        return precision_curve(pred_xywh, target_xywh, absent, self.protocol)

    def _score(self, curve: Tensor) -> Tensor:
        return curve[PRECISION_INDEX]
