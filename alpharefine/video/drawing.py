"""Boxes and masks on frames. Each kind of box has its own color and line style."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from alpharefine.boxes import is_valid

Color = tuple[int, int, int]


class BoxStyle(NamedTuple):
    """Color and line style of a box.

    Attributes:
        label: Name in the legend.
        color: RGB color. The styles are distinct under common kinds of color blindness.
        dash: Length of a dash and of a gap, in line widths. 0 draws a solid line.
    """

    label: str
    color: Color
    dash: int


BASE = BoxStyle("base tracker", (225, 60, 10), 6)
"""Style of the base tracker's box: vermilion, dashed."""

REFINED = BoxStyle("refined", (0, 200, 120), 0)
"""Style of the refined box: green, solid."""

TRUTH = BoxStyle("ground truth", (255, 225, 60), 2)
"""Style of the ground truth: yellow, dotted."""

GIVEN = BoxStyle("given box", (255, 255, 255), 0)
"""Style of the box that the tracker starts from: white, solid."""

MASK_COLOR: Color = (70, 160, 255)
"""RGB of masks."""

_MASK = BoxStyle("mask", MASK_COLOR, 0)
_MASK_OPACITY = 0.45
_HALO: Color = (0, 0, 0)


def draw_mask(frame: np.ndarray, mask: np.ndarray) -> None:
    """Tint the pixels of a mask and draw its outline, in place.

    Args:
        frame: ``(H, W, 3)`` RGB uint8.
        mask: ``(H, W)`` bool.
    """
    inside = frame[mask].astype(np.float32)
    frame[mask] = ((1 - _MASK_OPACITY) * inside + _MASK_OPACITY * np.array(MASK_COLOR, np.float32)).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(frame, contours, -1, MASK_COLOR, max(1, line_width(frame) // 2), cv2.LINE_AA)


def draw_box(frame: np.ndarray, box_xywh: np.ndarray, style: BoxStyle, thickness: int | None = None) -> None:
    """Draw a box with a dark halo, in place. A box without a finite positive size is not drawn.

    Args:
        frame: ``(H, W, 3)`` RGB uint8.
        box_xywh: Box, ``(4,)`` in image pixels.
        style: Style of the box.
        thickness: Width of the line in pixels. None selects `line_width`.
    """
    if not is_valid(box_xywh):
        return
    height, width = frame.shape[:2]
    x, y, w, h = box_xywh
    # Far outside of the frame, coordinates would overflow in OpenCV.
    x1, x2 = np.clip([x, x + w], -width, 2 * width).round().astype(int).tolist()
    y1, y2 = np.clip([y, y + h], -height, 2 * height).round().astype(int).tolist()
    thickness = line_width(frame) if thickness is None else thickness
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    for color, extra in ((_HALO, 2), (style.color, 0)):
        for start, end in pairwise(corners):
            _draw_line(frame, start, end, color, thickness + extra, style.dash * thickness)


def draw_legend(frame: np.ndarray, styles: Sequence[BoxStyle], has_mask: bool = False) -> None:
    """Draw the names of the boxes with their lines, and of the mask, in the upper left corner, in place.

    Args:
        frame: ``(H, W, 3)`` RGB uint8.
        styles: Styles of the boxes.
        has_mask: Name the mask.
    """
    styles = [*styles, _MASK] if has_mask else styles
    scale, thickness = max(0.35, min(frame.shape[:2]) / 1000), line_width(frame)
    step, margin, sample = round(32 * scale), round(12 * scale), round(85 * scale)
    font = cv2.FONT_HERSHEY_SIMPLEX
    text_width = max(cv2.getTextSize(style.label, font, scale, 1)[0][0] for style in styles)
    area = frame[: step * len(styles) + 2 * margin, : text_width + sample + 3 * margin]
    area[:] = area // 3
    for row, style in enumerate(styles):
        y = margin + step * row + round(0.7 * step)
        middle = y - round(0.25 * step)
        if style is _MASK:
            half = round(0.3 * step)
            cv2.rectangle(frame, (margin, middle - half), (margin + sample, middle + half), style.color, cv2.FILLED)
        else:
            _draw_line(
                frame, (margin, middle), (margin + sample, middle), style.color, thickness, style.dash * thickness
            )
        cv2.putText(frame, style.label, (2 * margin + sample, y), font, scale, (255, 255, 255), 1, cv2.LINE_AA)


def line_width(frame: np.ndarray) -> int:
    """Return the width of lines in pixels, which grows with the frame.

    Args:
        frame: ``(H, W, 3)``.
    """
    side: int = min(frame.shape[:2])
    return max(2, round(side / 240))


def _draw_line(
    frame: np.ndarray, start: tuple[int, int], end: tuple[int, int], color: Color, thickness: int, dash: int
) -> None:
    """Draw a line along one axis, solid or of dashes that are as long as the gaps between them."""
    length = abs(end[0] - start[0]) + abs(end[1] - start[1])
    if dash == 0 or length == 0:
        cv2.line(frame, start, end, color, thickness)
        return
    ends = np.array([start, end], dtype=np.float64)
    reach = max(dash - thickness, 0)  # OpenCV extends a line by half of its width at both ends
    for offset in range(0, length, 2 * dash):
        parts = np.array([offset, min(offset + reach, length)])[:, None] / length
        first, last = (ends[0] + parts * (ends[1] - ends[0])).round().astype(int).tolist()
        cv2.line(frame, first, last, color, thickness)
