"""Checks of the frames of a video, and of the boxes in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alpharefine.boxes import MARGIN, are_corners
from alpharefine.errors import SequenceError, UserError


def require_size(place: str | Path, frame: np.ndarray, first_size: tuple[int, ...]) -> None:
    """Check that a frame has the size of the first frame of its video.

    Args:
        place: Path of the frame, or a description of its origin, for the message.
        frame: Frame, ``(H, W, 3)``.
        first_size: Shape of the first frame.

    Raises:
        SequenceError: If the size differs.
    """
    if frame.shape != first_size:
        size, first = (f"{shape[1]}x{shape[0]} px" for shape in (frame.shape, first_size))
        raise SequenceError(
            f"{place} has {size}, the first frame of its sequence has {first}; the frames of a sequence must have one "
            "size: restore it, or leave the sequence out."
        )


def require_in_frame(owner: str, boxes_xywh: np.ndarray, frame: np.ndarray) -> None:
    """Check that given boxes fit the frames of a video, and that the first box is in the first frame.

    Args:
        owner: Origin of the boxes, for messages.
        boxes_xywh: Boxes, ``(N, 4)`` in image pixels.
        frame: First frame, ``(H, W, 3)``.

    Raises:
        UserError: If the first box lies outside the frame or is larger, or the boxes are x1, y1, x2, y2.
    """
    (x, y, w, h), (height, width) = boxes_xywh[0].tolist(), frame.shape[:2]
    first = f"{x:g},{y:g},{w:g},{h:g}"
    if are_corners(boxes_xywh, (height, width)):
        raise UserError(
            f"{owner} must be x,y,w,h in pixels, but its boxes leave the frame of {width}x{height} px (the first is "
            f"{first}) and fit it as x1,y1,x2,y2; convert it."
        )
    is_outside = x >= width or y >= height or x + w <= 0 or y + h <= 0
    if is_outside or w > (1 + MARGIN) * width or h > (1 + MARGIN) * height:
        fault = "lies outside" if is_outside else "is larger than"
        raise UserError(
            f"{owner}: the first box {first} {fault} the first frame of {width}x{height} px. The tracker starts from "
            "this box: correct it."
        )
