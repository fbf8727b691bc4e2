"""Area under the success curve."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import SUCCESS_THRESHOLDS, OnePassCurves


class SuccessAUC(CurveMetric):
    """Success AUC: the mean of the success curve over 21 overlap thresholds, averaged over sequences, in 0..1.

    Under `lasot` a perfect tracker scores 0.9274 on the LaSOT test set: an overlap of 1 is not greater than the last
    threshold, and absent frames stay in the denominator.

    Args:
        protocol: Scoring conventions.
        kwargs: Arguments of `torchmetrics.Metric`.

    >>> metric = SuccessAUC()
    >>> metric.update([[1, 1, 10, 10], [6, 1, 10, 10]], [[1, 1, 10, 10], [1, 1, 10, 10]])
    >>> round(metric.compute().item(), 4)
    0.6429
    """

    num_thresholds = len(SUCCESS_THRESHOLDS)

    @staticmethod
    def select(curves: OnePassCurves) -> np.ndarray:
        """Return the success curve.

        Args:
            curves: Curves of one sequence.
        """
        return curves.success

    def score(self, curve: Tensor) -> Tensor:
        """Return the area under each curve.

        Args:
            curve: ``(..., 21)`` success curves.
        """
        return curve.mean(-1)
