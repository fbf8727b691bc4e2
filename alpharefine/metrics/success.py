"""Area under the success curve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import SUCCESS_THRESHOLDS, Protocol, success_curve


class SuccessAUC(CurveMetric):
    """Success AUC: the mean of the success curve over 21 overlap thresholds, averaged over sequences, in 0..1.

    Under `lasot` a perfect tracker scores 0.9274 on the LaSOT test set: overlap 1 is not greater than 1, and absent
    frames stay in the denominator.

    Args:
        protocol: whose conventions to follow.
        kwargs: passed to `torchmetrics.Metric`.

    >>> metric = SuccessAUC()
    >>> metric.update([[1, 1, 10, 10], [6, 1, 10, 10]], [[1, 1, 10, 10], [1, 1, 10, 10]])
    >>> round(metric.compute().item(), 4)
    0.6429
    """

    def __init__(self, protocol: Protocol = "lasot", **kwargs: Any) -> None:
        super().__init__(len(SUCCESS_THRESHOLDS), protocol, **kwargs)

    def _sequence_curve(self, pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None) -> np.ndarray:
        return success_curve(pred_xywh, target_xywh, absent, self.protocol)

    def _score(self, curve: Tensor) -> Tensor:
        return curve.mean()
