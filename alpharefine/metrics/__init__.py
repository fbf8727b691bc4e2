"""Metrics: one-pass evaluation of trackers, and the overlap of boxes and masks during training."""

from alpharefine.metrics.functional import (
    PROTOCOLS,
    FrameScores,
    Protocol,
    norm_precision_curve,
    precision_curve,
    score_frames,
    success_curve,
)
from alpharefine.metrics.normalized_precision import NormalizedPrecision
from alpharefine.metrics.overlap import BoxIoU, MaskIoU
from alpharefine.metrics.precision import Precision
from alpharefine.metrics.success import SuccessAUC

__all__ = [
    "PROTOCOLS",
    "BoxIoU",
    "FrameScores",
    "MaskIoU",
    "NormalizedPrecision",
    "Precision",
    "Protocol",
    "SuccessAUC",
    "norm_precision_curve",
    "precision_curve",
    "score_frames",
    "success_curve",
]
