"""Curves and overlaps of one sequence, as defined by the toolkits for one-pass evaluation and for GOT-10k.

The toolkits for one-pass evaluation compute the same three curves. They differ in details that change the fourth digit
of a score: which result boxes are repaired, which frames are dropped, whether a box of 10 px ends on pixel 9 or 10, and
how a frame without a visible target counts. One function per protocol computes `FrameScores`, from which the curves
follow.

Boxes are ``x, y, w, h`` rows exactly as in annotation and result files, without an offset. N is the number of
ground-truth rows. All arithmetic is in float64.

Frames without a usable ground truth:

================  ==========================  =====================================  ============================
protocol          `absent` flag               a value at 0 or below                  NaN
================  ==========================  =====================================  ============================
lasot, pysot      a miss in every curve       success: a miss; precision: a hit      as `absent`
pytracking        a miss in every curve       a miss; normalized precision: a hit    as `absent`
pytracking_valid  not counted                 not counted [1]_                       as `absent`
got10k            scored as any other frame   scored as any other frame              not counted
================  ==========================  =====================================  ============================

.. [1] Except in the numerator of the normalized precision, where such a frame is a hit, as in the toolkit.

For precision, `pysot` tests whether the center of the box is at 0 or below, instead of its four values. UAV123 and NfS
mark absent targets with NaN, which only the toolkit of `got10k` handles. The other protocols treat such a row like the
`absent` flag. It is never a hit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import ArrayLike

from alpharefine.errors import UserError
from alpharefine.options import Protocol

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

SUCCESS_THRESHOLDS = np.linspace(0.0, 1.0, 21)
"""Overlaps; a frame counts if its overlap is greater."""

PRECISION_THRESHOLDS = np.arange(51.0)
"""Center errors in pixels; a frame counts if its error is not greater."""

NORM_PRECISION_THRESHOLDS = np.linspace(0.0, 0.5, 51)
"""Center errors relative to the sides of the ground-truth box; a frame counts if its error is not greater."""

GOT10K_THRESHOLDS = np.linspace(0.0, 1.0, 101)
"""Overlaps of GOT-10k's success curve; a frame counts if its overlap is greater."""

PRECISION_INDEX = 20
"""Index of the reported precision, at 20 px, in `PRECISION_THRESHOLDS`."""

NORM_PRECISION_INDEX = 20
"""Index of the reported normalized precision, at 0.20, in `NORM_PRECISION_THRESHOLDS`."""

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class FrameScores:
    """Overlaps and center errors of the M scored frames of a sequence.

    Attributes:
        overlaps: IoU, ``(M,)``. -1 and NaN are a miss at every threshold.
        errors: Center errors in pixels, ``(M,)``. -1 is a hit at every threshold; NaN and infinity are a miss.
        norm_errors: Center errors relative to the sides of the ground-truth box, ``(M,)``, with the same exceptions.
        num_frames: Denominator of the curves. It may differ from M.
    """

    overlaps: np.ndarray
    errors: np.ndarray
    norm_errors: np.ndarray
    num_frames: int


@dataclass(frozen=True)
class OnePassCurves:
    """Curves of one sequence, float64 in 0..1.

    Attributes:
        success: Ratio of frames whose overlap is greater than each of `SUCCESS_THRESHOLDS`, ``(21,)``.
        precision: Ratio of frames whose center error is at most each of `PRECISION_THRESHOLDS`, ``(51,)``.
        norm_precision: Ratio of frames whose normalized center error is at most each of `NORM_PRECISION_THRESHOLDS`,
            ``(51,)``.
    """

    success: np.ndarray
    precision: np.ndarray
    norm_precision: np.ndarray


def one_pass_curves(
    pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None = None, protocol: Protocol = "lasot"
) -> OnePassCurves:
    """Compute the three curves of one sequence.

    Args:
        pred_xywh: ``(N, 4)`` result boxes; further rows are ignored.
        target_xywh: ``(N, 4)`` ground truth.
        absent: ``(N,)`` bool, frames without a visible target; None if there are none.
        protocol: Scoring conventions.

    Raises:
        UserError: If `score_frames` raises it.

    >>> target = [[1, 1, 10, 20], [1, 1, 10, 20]]
    >>> curves = one_pass_curves([[1, 1, 10, 20], [1, 6, 10, 20]], target)  # overlap 0.6, error 5 px, normalized 0.25
    >>> curves.success[[0, 11, 13, 20]].tolist()
    [1.0, 1.0, 0.5, 0.0]
    >>> curves.precision[[0, 4, 5, 50]].tolist()
    [0.5, 0.5, 1.0, 1.0]
    >>> curves.norm_precision[[0, 24, 25, 50]].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """
    frames = score_frames(pred_xywh, target_xywh, absent, protocol)
    return OnePassCurves(
        count_greater(frames.overlaps, SUCCESS_THRESHOLDS) / frames.num_frames,
        _count_within(frames.errors, PRECISION_THRESHOLDS) / frames.num_frames,
        _count_within(frames.norm_errors, NORM_PRECISION_THRESHOLDS) / frames.num_frames,
    )


def count_greater(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Count the values that are greater than each threshold. NaN is not counted.

    Args:
        values: ``(M,)`` float64.
        thresholds: ``(T,)`` float64.

    Returns:
        ``(T,)`` int64.

    >>> count_greater(np.array([0.5, np.nan, 0.7]), np.array([0.4, 0.5, 0.7])).tolist()
    [2, 1, 0]
    """
    ordered = np.sort(values)  # NaN is sorted to the end
    num_not_nan = np.searchsorted(ordered, np.inf, side="right")
    return np.asarray(num_not_nan - np.searchsorted(ordered, thresholds, side="right"))


def _count_within(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Count the values that are at most each threshold. NaN is not counted."""
    return np.asarray(np.searchsorted(np.sort(values), thresholds, side="right"))


def score_frames(
    pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None = None, protocol: Protocol = "lasot"
) -> FrameScores:
    """Compute the overlaps and center errors of one sequence.

    Args:
        pred_xywh: ``(N, 4)`` result boxes; further rows are ignored, as in the official toolkit.
        target_xywh: ``(N, 4)`` ground truth.
        absent: ``(N,)`` bool, frames without a visible target; None if there are none.
        protocol: Scoring conventions.

    Raises:
        UserError: If a shape is wrong, the result is shorter than the ground truth, the protocol is unknown or does not
            allow a result box, or no frame counts.
    """
    check_protocol(protocol)
    pred, target, gone = _check_sequence(pred_xywh, target_xywh, absent)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        frames = _SCORERS[protocol](pred, target, gone | np.isnan(target).any(0))
    if frames.num_frames == 0:
        raise UserError(
            f"None of the {target.shape[1]} frames counts under the protocol `{protocol}`, so there is no score; "
            "leave the sequence out."
        )
    return frames


def got10k_overlaps(
    pred_xywh: ArrayLike,
    target_xywh: ArrayLike,
    absent: ArrayLike | None = None,
    image_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Compute the overlaps of one sequence from which GOT-10k's AO and SR are computed.

    The first frame, frames without a visible target and frames with a NaN ground truth are dropped. Both boxes are
    clipped to the image as in got10k-toolkit: first the top-left corner, then the size to the remaining part of the
    image.

    Deviation: a result box with a NaN has an overlap of 0. In the toolkit, it makes the scores NaN.

    Args:
        pred_xywh: ``(N, 4)`` result boxes; further rows are ignored.
        target_xywh: ``(N, 4)`` ground truth.
        absent: ``(N,)`` bool, frames whose ``cover`` is 0; None if there are none.
        image_size: Height and width in pixels; None does not clip the boxes.

    Returns:
        Overlaps of the M remaining frames, ``(M,)`` float64 in 0..1.

    Raises:
        UserError: If a shape is wrong, the result is shorter than the ground truth, or no frame counts.

    >>> target = [[0, 0, 10, 10], [0, 0, 10, 10], [5, 0, 10, 10]]
    >>> got10k_overlaps(target[:1] * 3, target, image_size=(10, 10)).round(6).tolist()
    [1.0, 0.5]
    """
    pred, target, gone = _check_sequence(pred_xywh, target_xywh, absent)
    counted = ~(gone | np.isnan(target).any(0))
    counted[:1] = False
    if not counted.any():
        raise UserError(
            f"None of the {len(counted)} frames counts: the target must be visible after the first frame; "
            "leave the sequence out."
        )
    pred, target = _keep(counted, pred), _keep(counted, target)
    if image_size is not None:
        pred, target = _clip(pred, image_size), _clip(target, image_size)
    return np.asarray(np.nan_to_num(_capped(_overlaps(pred, target, eps=_EPS))))


def check_protocol(protocol: str) -> None:
    """Check that a protocol exists.

    Args:
        protocol: One of `PROTOCOLS`.

    Raises:
        UserError: If the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"`protocol` must be one of {', '.join(PROTOCOLS)}; got {protocol!r}.")


def _check_sequence(
    pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the result and the ground truth as ``(4, N)`` arrays, and the absence flags."""
    pred, target = _columns("pred_xywh", pred_xywh), _columns("target_xywh", target_xywh)
    num_frames = target.shape[1]
    if pred.shape[1] < num_frames:
        raise UserError(
            f"The result has {pred.shape[1]} boxes and the ground truth has {num_frames}: a result needs one box "
            "per frame; run the tracker on the whole sequence again."
        )
    gone = np.zeros(num_frames, dtype=bool) if absent is None else _array(absent).astype(bool)
    if gone.shape != (num_frames,):
        raise UserError(
            f"`absent` needs one flag for each of the {num_frames} ground-truth boxes, got shape {gone.shape}."
        )
    return pred[:, :num_frames], target, gone


def _array(values: ArrayLike) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _columns(argument: str, values: ArrayLike) -> np.ndarray:
    boxes = _array(values)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UserError(f"`{argument}` must hold x, y, w, h rows of one sequence, shape (N, 4); got {boxes.shape}.")
    return np.array(boxes.T, dtype=np.float64, order="C")


def _lasot(pred: np.ndarray, target: np.ndarray, absent: np.ndarray) -> FrameScores:
    """Official LaSOT toolkit: bad result rows are repaired. Absent frames are dropped but stay in the denominator."""
    bad = np.isnan(pred).any(0) | (pred[2:] <= 0).any(0)
    pred = _keep(~absent, _with_first_box_of(target, _repeat_box_before(pred, bad)))
    scored = _keep(~absent, target)
    invalid = (scored <= 0).any(0)
    errors, norm_errors = _center_errors(pred, scored, scored[2:])
    return FrameScores(
        np.where(invalid, -1.0, _overlaps(pred, scored, pixel=1.0)),
        np.where(invalid, -1.0, errors),
        np.where(invalid, -1.0, norm_errors),
        target.shape[1],
    )


def _pysot(pred: np.ndarray, target: np.ndarray, absent: np.ndarray) -> FrameScores:
    """pysot-toolkit: like `_lasot`, but no box is repaired or replaced, and overlaps use continuous coordinates."""
    pred, scored = _keep(~absent, pred), _keep(~absent, target)
    centers, sides = _centers(scored), scored[2:] + 1e-16
    errors, norm_errors = _center_errors(pred, scored, sides)
    return FrameScores(
        np.where((scored <= 0).any(0), -1.0, _capped(_overlaps(pred, scored))),
        np.where((centers <= 0).any(0), -1.0, errors),
        np.where((centers / sides <= 0).any(0), -1.0, norm_errors),
        target.shape[1],
    )


def _pytracking(pred: np.ndarray, target: np.ndarray, absent: np.ndarray) -> FrameScores:
    """Pytracking: no frame is dropped. Frames without a usable ground truth are misses.

    As an exception, a box with a value at 0 or below is a hit of the normalized precision.
    """
    broken = np.isnan(pred).any(0) | (pred[2:] < 0).any(0)
    if broken.any():
        index = int(broken.argmax())
        raise UserError(
            f"The protocol `pytracking` allows no NaN and no negative size in a result, got {pred[:, index].tolist()} "
            f"in row {index + 1}; use the protocol `lasot`, which repairs such rows."
        )
    pred = _with_first_box_of(target, _repeat_box_before(pred, (pred[2:] == 0).any(0)))
    invalid = (target <= 0).any(0)
    excluded = invalid | absent
    errors, norm_errors = _center_errors(pred, target, target[2:])
    return FrameScores(
        np.where(excluded, -1.0, _overlaps(pred, target, pixel=1.0)),
        np.where(excluded, np.inf, errors),
        np.where(absent, np.inf, np.where(invalid, -1.0, norm_errors)),
        target.shape[1],
    )


def _pytracking_valid(pred: np.ndarray, target: np.ndarray, absent: np.ndarray) -> FrameScores:
    """Pytracking with `exclude_invalid_frames`: the same counts, divided by the number of valid frames."""
    frames = _pytracking(pred, target, absent)
    num_valid = int(np.count_nonzero((target > 0).all(0) & ~absent))
    return FrameScores(frames.overlaps, frames.errors, frames.norm_errors, num_valid)


def _got10k(pred: np.ndarray, target: np.ndarray, _absent: np.ndarray) -> FrameScores:
    """LaSOT experiment of got10k-toolkit: absent frames count like any other. Only NaN ground truths are dropped."""
    known = ~np.isnan(target).any(0)
    pred, target = _keep(known, _with_first_box_of(target, pred)), _keep(known, target)
    sides = np.maximum(target[2:], 1.0)
    offsets = _centers(pred) - _centers(target)
    return FrameScores(
        _capped(_overlaps(pred, target, eps=_EPS)),
        _lengths(offsets),
        _lengths(offsets / sides),
        target.shape[1],
    )


_SCORERS: dict[Protocol, Callable[[np.ndarray, np.ndarray, np.ndarray], FrameScores]] = {
    "lasot": _lasot,
    "pysot": _pysot,
    "pytracking": _pytracking,
    "pytracking_valid": _pytracking_valid,
    "got10k": _got10k,
}


def _repeat_box_before(pred: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Replace each bad box by the last good box before it, or by the first box if there is none."""
    if not bad.any():
        return pred
    source = np.where(bad, 0, np.arange(len(bad)))
    return pred[:, np.maximum.accumulate(source)]


def _keep(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return boxes if mask.all() else boxes[:, np.flatnonzero(mask)]


def _with_first_box_of(target: np.ndarray, pred: np.ndarray) -> np.ndarray:
    return np.concatenate([target[:, :1], pred[:, 1:]], axis=1)


def _clip(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    size = np.array([[image_size[1]], [image_size[0]]])
    corners = boxes[:2].clip(0.0, size)
    return np.concatenate([corners, boxes[2:].clip(0.0, size - corners)])


def _overlaps(a: np.ndarray, b: np.ndarray, pixel: float = 0.0, eps: float = 0.0) -> np.ndarray:
    """IoU of boxes that end at ``x + w - pixel``; areas are ``w * h``."""
    high = np.minimum(a[:2] + a[2:] - pixel, b[:2] + b[2:] - pixel)
    width, height = np.maximum(high - np.maximum(a[:2], b[:2]) + pixel, 0.0)
    intersection = width * height
    return np.asarray(intersection / (a[2] * a[3] + b[2] * b[3] - intersection + eps))


def _capped(overlaps: np.ndarray) -> np.ndarray:
    """Limit overlaps to 1. Rounding can make that of equal boxes slightly greater."""
    return np.asarray(np.minimum(overlaps, 1.0))


def _centers(boxes: np.ndarray) -> np.ndarray:
    """Centers, ``(2, N)``, of boxes that cover the pixels ``x`` to ``x + w - 1``."""
    return np.asarray(boxes[:2] + (boxes[2:] - 1) / 2)


def _center_errors(pred: np.ndarray, target: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances between the centers, in pixels and relative to `sides`."""
    pred_centers, centers = _centers(pred), _centers(target)
    return _lengths(pred_centers - centers), _lengths(pred_centers / sides - centers / sides)


def _lengths(offsets: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(offsets[0] * offsets[0] + offsets[1] * offsets[1]))
