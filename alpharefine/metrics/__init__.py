"""Metrics: one-pass evaluation of trackers, GOT-10k's scores, and the overlap of boxes and masks during training."""

from alpharefine.metrics.functional import (
    PROTOCOLS,
    FrameScores,
    OnePassCurves,
    got10k_overlaps,
    one_pass_curves,
    score_frames,
)
from alpharefine.metrics.got10k import AverageOverlap, SuccessRate
from alpharefine.metrics.normalized_precision import NormalizedPrecision
from alpharefine.metrics.overlap import BoxIoU, MaskIoU
from alpharefine.metrics.precision import Precision
from alpharefine.metrics.success import SuccessAUC
from alpharefine.options import Protocol

__all__ = [
    "PROTOCOLS",
    "AverageOverlap",
    "BoxIoU",
    "FrameScores",
    "MaskIoU",
    "NormalizedPrecision",
    "OnePassCurves",
    "Precision",
    "Protocol",
    "SuccessAUC",
    "SuccessRate",
    "got10k_overlaps",
    "one_pass_curves",
    "score_frames",
]
