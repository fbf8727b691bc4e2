"""Normalized precision."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from alpharefine.metrics.curve import CurveMetric
from alpharefine.metrics.functional import NORM_PRECISION_INDEX, NORM_PRECISION_THRESHOLDS, OnePassCurves


class NormalizedPrecision(CurveMetric):
    """Normalized precision, averaged over sequences, in 0..1.

    The published number is the share of the frames whose center error is at most 0.20 of the ground truth's sides. The
    toolkit of `got10k` reports the mean of the curve over 0..0.5 instead.

    Args:
        protocol: Scoring conventions.
        kwargs: Arguments of `torchmetrics.Metric`.

    >>> metric = NormalizedPrecision()
    >>> metric.update([[1, 1, 10, 10], [4, 1, 10, 10]], [[1, 1, 10, 10], [1, 1, 10, 10]])
    >>> metric.compute().item()
    0.5
    """

    num_thresholds = len(NORM_PRECISION_THRESHOLDS)

    @staticmethod
    def select(curves: OnePassCurves) -> np.ndarray:
        """Return the normalized precision curve.

        Args:
            curves: Curves of one sequence.
        """
        return curves.norm_precision

    def score(self, curve: Tensor) -> Tensor:
        """Return each curve at 0.20, or its mean under `got10k`.

        Args:
            curve: ``(..., 51)`` normalized precision curves.
        """
        return curve.mean(-1) if self.protocol == "got10k" else curve[..., NORM_PRECISION_INDEX]
