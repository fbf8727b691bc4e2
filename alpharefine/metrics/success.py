"""Area under the success curve."""

from __future__ import annotations

from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import SUCCESS_THRESHOLDS, success_curve


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

    num_thresholds = len(SUCCESS_THRESHOLDS)
    _sequence_curve = staticmethod(success_curve)

    def _score(self, curve: Tensor) -> Tensor:
        return curve.mean()
