"""One-pass evaluation of one sequence, as four toolkits define it.

The toolkits agree on the three curves and differ in the details that decide the fourth digit of a score: which result
boxes are repaired, which frames are left out, whether a box of 10 px ends on pixel 9 or 10, and what a frame without a
visible target counts. One function for each protocol turns two lists of boxes into `FrameScores`, from which the curves
are counted.

Boxes are ``x, y, w, h`` rows exactly as they stand in LaSOT's annotation and result files, not shifted. But for
`got10k`, a ground-truth box with any of the four at 0 or below is taken for a missing one. N is the number of
ground-truth rows. All arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike

from alpharefine.errors import UserError

Protocol = Literal["lasot", "pysot", "pytracking", "pytracking_valid", "got10k"]
"""Whose conventions to follow: the official LaSOT toolkit, pysot-toolkit, pytracking (also divided by the valid frames
only, its `exclude_invalid_frames`) or the LaSOT experiment of got10k-toolkit."""

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

SUCCESS_THRESHOLDS = np.linspace(0.0, 1.0, 21)
"""Overlaps; a frame counts if its overlap is greater."""

PRECISION_THRESHOLDS = np.arange(51.0)
"""Centre errors in pixels; a frame counts if its error is no greater."""

NORM_PRECISION_THRESHOLDS = np.linspace(0.0, 0.5, 51)
"""Centre errors in sides of the ground-truth box; a frame counts if its error is no greater."""

PRECISION_INDEX = 20
"""Where the published precision stands on its curve: 20 px."""

NORM_PRECISION_INDEX = 20
"""Where the published normalised precision stands on its curve: 0.20."""


@dataclass(frozen=True)
class FrameScores:
    """What the curves of one sequence are counted from.

    Attributes:
        overlaps: ``(M,)``, one value a scored frame; -1 where the protocol rules the frame out, NaN for a NaN box.
        errors: ``(M,)``, centre errors in pixels; -1 where the frame is a hit in any case, NaN or infinite where
            it is a miss in any case.
        norm_errors: ``(M,)``, centre errors in sides of the ground-truth box, with the same special values.
        num_frames: what the counts are divided by; may be more than M.
    """

    overlaps: np.ndarray
    errors: np.ndarray
    norm_errors: np.ndarray
    num_frames: int


def success_curve(
    pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None = None, protocol: Protocol = "lasot"
) -> np.ndarray:
    """Share of the frames whose overlap is greater than each of `SUCCESS_THRESHOLDS`.

    Arguments and errors are those of `score_frames`.

    Returns:
        ``(21,)`` float64 in 0..1.

    >>> target = [[1, 1, 10, 10], [1, 1, 10, 10]]
    >>> success_curve([[1, 1, 10, 10], [6, 1, 10, 10]], target)[[0, 6, 7, 20]].tolist()
    [1.0, 1.0, 0.5, 0.0]
    """
    frames = score_frames(pred_xywh, target_xywh, absent, protocol)
    return _share(frames.overlaps[:, None] > SUCCESS_THRESHOLDS, frames.num_frames)


def precision_curve(
    pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None = None, protocol: Protocol = "lasot"
) -> np.ndarray:
    """Share of the frames whose centre error is within each of `PRECISION_THRESHOLDS`.

    Arguments and errors are those of `score_frames`.

    Returns:
        ``(51,)`` float64 in 0..1.

    >>> target = [[1, 1, 10, 10], [1, 1, 10, 10]]
    >>> precision_curve([[1, 1, 10, 10], [6, 1, 10, 10]], target)[[0, 4, 5, 50]].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """
    frames = score_frames(pred_xywh, target_xywh, absent, protocol)
    return _share(frames.errors[:, None] <= PRECISION_THRESHOLDS, frames.num_frames)


def norm_precision_curve(
    pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None = None, protocol: Protocol = "lasot"
) -> np.ndarray:
    """Share of the frames whose normalised centre error is within each of `NORM_PRECISION_THRESHOLDS`.

    Arguments and errors are those of `score_frames`.

    Returns:
        ``(51,)`` float64 in 0..1.

    >>> target = [[1, 1, 10, 20], [1, 1, 10, 20]]
    >>> norm_precision_curve([[1, 1, 10, 20], [1, 6, 10, 20]], target)[[0, 24, 25, 50]].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """
    frames = score_frames(pred_xywh, target_xywh, absent, protocol)
    return _share(frames.norm_errors[:, None] <= NORM_PRECISION_THRESHOLDS, frames.num_frames)


def _share(hits: np.ndarray, num_frames: int) -> np.ndarray:
    return np.asarray(np.count_nonzero(hits, axis=0) / num_frames)


def score_frames(
    pred_xywh: ArrayLike, target_xywh: ArrayLike, absent: ArrayLike | None = None, protocol: Protocol = "lasot"
) -> FrameScores:
    """Overlaps and centre errors of one sequence under a protocol.

    A result that is longer than the ground truth is cut, as the official toolkit does.

    Args:
        pred_xywh: ``(N, 4)`` or longer, result boxes of one sequence.
        target_xywh: ``(N, 4)``, ground truth.
        absent: ``(N,)`` bool, frames without a visible target; none if left out.
        protocol: whose conventions to follow.

    Raises:
        UserError: if a shape is wrong, the result is shorter than the ground truth, the protocol is unknown or does not
            allow a box, or no frame counts.
    """
    check_protocol(protocol)
    pred, target = _boxes("pred_xywh", pred_xywh), _boxes("target_xywh", target_xywh)
    if len(pred) < len(target):
        raise UserError(
            f"The result has {len(pred)} boxes and the ground truth has {len(target)}: a result needs one box a frame; "
            "run the tracker on the whole sequence again."
        )
    gone = np.zeros(len(target), dtype=bool) if absent is None else _array(absent).astype(bool)
    if gone.shape != (len(target),):
        raise UserError(
            f"`absent` needs one flag for each of the {len(target)} ground-truth boxes, got shape {gone.shape}."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        frames = _SCORERS[protocol](pred[: len(target)], target, gone)
    if frames.num_frames == 0:
        raise UserError(
            f"None of the {len(target)} frames counts under the protocol `{protocol}`, so there is no score; "
            "leave the sequence out."
        )
    return frames


def check_protocol(protocol: str) -> None:
    """Raise a `UserError` for a protocol that does not exist."""
    if protocol not in PROTOCOLS:
        raise UserError(f"`protocol` must be one of {', '.join(PROTOCOLS)}; got {protocol!r}.")


def _array(values: ArrayLike) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _boxes(argument: str, values: ArrayLike) -> np.ndarray:
    boxes = _array(values).astype(np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UserError(f"`{argument}` must hold x, y, w, h rows of one sequence, shape (N, 4); got {boxes.shape}.")
    return boxes


def _lasot(pred: np.ndarray, target: np.ndarray, absent: np.ndarray) -> FrameScores:
    """The official toolkit: bad rows repaired, absent frames dropped but still part of the denominator."""
    bad = np.isnan(pred).any(1) | (pred[:, 2:] <= 0).any(1)
    pred = _with_first_row_of(target, _repeat_row_before(pred, bad))[~absent]
    scored = target[~absent]
    invalid = (scored <= 0).any(1)
    return FrameScores(
        np.where(invalid, -1.0, _inclusive_overlaps(pred, scored)),
        np.where(invalid, -1.0, _distances(_centres(pred), _centres(scored))),
        np.where(invalid, -1.0, _distances(_centres(pred) / scored[:, 2:], _centres(scored) / scored[:, 2:])),
        len(target),
    )


def _pysot(pred: np.ndarray, target: np.ndarray, absent: np.ndarray) -> FrameScores:
    """pysot-toolkit: as `_lasot` without repair and without the first ground-truth row; continuous overlap."""
    pred, scored = pred[~absent], target[~absent]
    overlaps = _continuous_overlaps(pred, scored).clip(0.0, 1.0)
    centres, sides = _centres(scored), scored[:, 2:] + 1e-16
    norm_centres = centres / sides
    return FrameScores(
        np.where((scored <= 0).any(1), -1.0, overlaps),
        np.where((centres <= 0).any(1), -1.0, _distances(_centres(pred), centres)),
        np.where((norm_centres <= 0).any(1), -1.0, _distances(_centres(pred) / sides, norm_centres)),
        len(target),
    )


def _pytracking(pred: np.ndarray, target: np.ndarray, absent: np.ndarray) -> FrameScores:
    """Pytracking: no frame dropped, the ruled-out ones are misses (but for the normalised error of a bad box)."""
    broken = np.isnan(pred).any(1) | (pred[:, 2:] < 0).any(1)
    if broken.any():
        row = int(broken.argmax())
        raise UserError(
            f"The protocol `pytracking` allows no NaN and no negative size in a result, got {pred[row].tolist()} in "
            f"row {row + 1}; use the protocol `lasot`, which repairs such rows."
        )
    pred = _with_first_row_of(target, _repeat_row_before(pred, (pred[:, 2:] == 0).any(1)))
    invalid = (target <= 0).any(1)
    ruled_out = invalid | absent
    norm_errors = _distances(_centres(pred) / target[:, 2:], _centres(target) / target[:, 2:])
    return FrameScores(
        np.where(ruled_out, -1.0, _inclusive_overlaps(pred, target)),
        np.where(ruled_out, np.inf, _distances(_centres(pred), _centres(target))),
        np.where(absent, np.inf, np.where(invalid, -1.0, norm_errors)),
        len(target),
    )


def _pytracking_valid(pred: np.ndarray, target: np.ndarray, absent: np.ndarray) -> FrameScores:
    """Pytracking with `exclude_invalid_frames`: the same counts, divided by the valid frames."""
    frames = _pytracking(pred, target, absent)
    num_valid = int(np.count_nonzero((target > 0).all(1) & ~absent))
    return FrameScores(frames.overlaps, frames.errors, frames.norm_errors, num_valid)


def _got10k(pred: np.ndarray, target: np.ndarray, _absent: np.ndarray) -> FrameScores:
    """got10k-toolkit: absent frames are scored as any other, only rows with a NaN ground truth are dropped."""
    known = ~np.isnan(target).any(1)
    pred, target = _with_first_row_of(target, pred)[known], target[known]
    overlaps = _continuous_overlaps(pred, target, eps=float(np.finfo(np.float64).eps))
    offsets = _centres(pred) - _centres(target)
    return FrameScores(
        overlaps.clip(0.0, 1.0),
        np.linalg.norm(offsets, axis=1),
        np.linalg.norm(offsets / np.maximum(target[:, 2:], 1.0), axis=1),
        len(target),
    )


_SCORERS: dict[Protocol, Callable[[np.ndarray, np.ndarray, np.ndarray], FrameScores]] = {
    "lasot": _lasot,
    "pysot": _pysot,
    "pytracking": _pytracking,
    "pytracking_valid": _pytracking_valid,
    "got10k": _got10k,
}


def _repeat_row_before(pred: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Replace each bad row by the nearest row before it that is not; bad rows at the start become the first row."""
    source = np.where(bad, 0, np.arange(len(pred)))
    return pred[np.maximum.accumulate(source)]


def _with_first_row_of(target: np.ndarray, pred: np.ndarray) -> np.ndarray:
    return np.concatenate([target[:1], pred[1:]])


def _inclusive_overlaps(a_xywh: np.ndarray, b_xywh: np.ndarray) -> np.ndarray:
    """IoU of boxes that end on the pixel ``x + w - 1``; sizes are taken as written."""
    high = np.minimum(a_xywh[:, :2] + a_xywh[:, 2:] - 1, b_xywh[:, :2] + b_xywh[:, 2:] - 1)
    low = np.maximum(a_xywh[:, :2], b_xywh[:, :2])
    return _overlaps((high - low + 1).clip(min=0), a_xywh, b_xywh)


def _continuous_overlaps(a_xywh: np.ndarray, b_xywh: np.ndarray, eps: float = 0.0) -> np.ndarray:
    """IoU of boxes that end at ``x + w``; sizes are taken as written."""
    high = np.minimum(a_xywh[:, :2] + a_xywh[:, 2:], b_xywh[:, :2] + b_xywh[:, 2:])
    low = np.maximum(a_xywh[:, :2], b_xywh[:, :2])
    return _overlaps((high - low).clip(min=0), a_xywh, b_xywh, eps)


def _overlaps(sides: np.ndarray, a_xywh: np.ndarray, b_xywh: np.ndarray, eps: float = 0.0) -> np.ndarray:
    intersection = sides.prod(1)
    union = a_xywh[:, 2:].prod(1) + b_xywh[:, 2:].prod(1) - intersection
    overlaps: np.ndarray = intersection / (union + eps)
    return overlaps


def _centres(boxes_xywh: np.ndarray) -> np.ndarray:
    """``(N, 2)``: the middle of the pixels ``x`` to ``x + w - 1``."""
    centres: np.ndarray = boxes_xywh[:, :2] + (boxes_xywh[:, 2:] - 1) / 2
    return centres


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(a - b, axis=1))
