"""Labels of mask images: which pictures mask one target, which number their objects, and which are ambiguous."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from alpharefine.errors import UserError

_MID_GRAY = 127

_MAX_LABEL = 255

_COLOR_NOISE = 8
"""Largest difference between the channels of a gray pixel, which JPEG compression causes."""

_DARK, _BRIGHT = 32, 223
"""Limits of the gray levels that are neither background nor target, with room for JPEG noise."""

_FLAT_SHARE = 0.3
"""Share of flat pixels among those of middle gray above which the levels are labels and not smoothed edges."""

_SAVE_LABELS = "save one palette PNG with an index per object, or one mask per target (0 and 255)"


class LabelImage(NamedTuple):
    """Labels of a mask image.

    Attributes:
        labels: Labels of shape ``(H, W)``, uint8; 0 is the background.
        target_color: Color of the only target of a mask without smoothed edges, if the mask does not number its
            objects: red, green and blue. None for every other mask. Two colors in one video are two objects.
    """

    labels: np.ndarray
    target_color: tuple[int, int, int] | None = None


def labels_of_picture(picture: Image.Image, path: Path) -> LabelImage:
    """Return the labels of a decoded mask image.

    ======================================================  ==========================================
    picture                                                  labels
    ======================================================  ==========================================
    palette                                                  indices
    binary; gray with two levels                             1 on the target
    gray with smoothed edges                                 1 above mid-gray
    16-bit gray with levels up to 255                        levels; 1 if 255 is the only one
    RGB with equal channels                                  as gray
    RGB in the colors of the PASCAL VOC and DAVIS palette    indices in that palette
    RGB with black and one other color                       1 on the other color
    with an alpha channel that is constant                   as without it
    with an alpha channel, in one color                      alpha as gray
    anything else                                            refused
    ======================================================  ==========================================

    Args:
        picture: Decoded picture.
        path: Path of the picture, for error messages.

    Raises:
        UserError: If the labels are ambiguous.
    """
    if picture.mode == "P":
        return LabelImage(_palette_indices(picture, path))
    if picture.mode in ("LA", "La", "RGBA", "RGBa"):
        picture = _without_alpha(picture, path)
    if picture.mode == "1":
        return LabelImage(np.array(picture, dtype=np.uint8))
    pixels = np.array(picture)
    if picture.mode == "L":
        return _gray_labels(pixels, path)
    if picture.mode == "RGB":
        return _color_labels(pixels, path)
    if picture.mode.startswith("I"):
        return _deep_labels(pixels, path)
    raise _ambiguous(path, f"a mask of mode {picture.mode} is not supported")


def _ambiguous(path: Path, fault: str) -> UserError:
    return UserError(f"{path}: {fault}; {_SAVE_LABELS}.")


def _palette_indices(picture: Image.Image, path: Path) -> np.ndarray:
    indices = np.array(picture, dtype=np.uint8)
    colors = np.array(picture.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    is_black = colors.max(axis=1) == 0
    used = np.unique(indices)
    if not is_black[0] and is_black[used[used < len(colors)]].any():
        raise _ambiguous(
            path, f"index 0 is the background, but its color is {_text(colors[0])} and another index is black"
        )
    return indices


def _without_alpha(picture: Image.Image, path: Path) -> Image.Image:
    """Return the colors if alpha says nothing, or alpha if the colors say nothing."""
    picture = picture.convert("RGBA" if picture.mode.startswith("RGB") else "LA")
    *channels, alpha = picture.split()
    opacity = np.array(alpha)
    colors = np.stack([np.array(channel) for channel in channels], axis=-1)
    if (opacity == opacity.flat[0]).all() or not colors[opacity == 0].any():
        shown = Image.fromarray(colors.squeeze(-1) if len(channels) == 1 else colors)
        if (opacity == opacity.flat[0]).all() or colors.any():
            return shown
    if (colors == colors[0, 0]).all():
        return alpha
    raise _ambiguous(path, "both the colors and the transparency of this mask vary")


def _gray_labels(gray: np.ndarray, path: Path) -> LabelImage:
    levels = np.flatnonzero(cv2.calcHist([gray], [0], None, [256], [0, 256]))  # ten times as fast as `np.bincount`
    if len(levels) == 1 or (len(levels) == 2 and levels[0] == 0):
        level = int(levels[-1])
        return LabelImage((gray > 0).view(np.uint8), (level, level, level) if level else None)
    if levels[-1] <= _MID_GRAY:
        raise UserError(
            f"{path}: a grayscale mask must be brighter than {_MID_GRAY} on the target, but its maximum is "
            f"{levels[-1]}; save labels as a palette image, or the target as 255."
        )
    middle = (gray > _DARK) & (gray < _BRIGHT)
    if middle.any():
        kernel = np.ones((3, 3), np.uint8)
        flat = middle & (cv2.dilate(gray, kernel) == cv2.erode(gray, kernel))
        if np.count_nonzero(flat) > _FLAT_SHARE * np.count_nonzero(middle):
            found = ", ".join(map(str, np.unique(gray[flat])[:5]))
            raise _ambiguous(
                path, f"this grayscale mask has areas of middle gray ({found}), which may be labels or soft edges"
            )
    return LabelImage((gray > _MID_GRAY).view(np.uint8))


def _deep_labels(values: np.ndarray, path: Path) -> LabelImage:
    """Return the labels of a picture with more than 8 bits. Its levels are labels, unless they span the whole range."""
    levels = np.unique(values)
    if levels[0] < 0:
        raise _ambiguous(path, f"a label must not be negative, got {levels[0]}")
    if levels[-1] <= _MAX_LABEL:
        small = values.astype(np.uint8)
        return _gray_labels(small, path) if levels[-1] == _MAX_LABEL else LabelImage(small)
    if len(levels) == 2 and levels[0] == 0:
        return LabelImage((values > 0).astype(np.uint8), (int(levels[1]),) * 3)
    if levels[-1] == 65535:
        return _gray_labels((values // 257).astype(np.uint8), path)
    raise _ambiguous(path, f"a 16-bit mask must have labels up to {_MAX_LABEL}, got {levels[-1]}")


def _color_labels(pixels: np.ndarray, path: Path) -> LabelImage:
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    table = _voc_table()
    if int((high - low).max()) <= _COLOR_NOISE:
        gray = _gray_labels(pixels[..., 1] if (high == low).all() else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), path)
        index = table.get(_code(gray.target_color)) if gray.target_color else None
        return gray if index is None else LabelImage(gray.labels * np.uint8(index))
    codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    found = np.unique(codes)
    if all(int(code) in table for code in found):
        labels = np.array([table[int(code)] for code in found], dtype=np.uint8)
        return LabelImage(labels[np.searchsorted(found, codes)])
    if len(found) <= 2 and found[0] == 0:
        color = int(found[-1])
        return LabelImage((codes > 0).astype(np.uint8), (color >> 16, color >> 8 & 255, color & 255))
    raise _ambiguous(path, f"this color mask has {len(found)} colors, so its objects are not known")


@cache
def _voc_table() -> dict[int, int]:
    """Return the index of every color of the palette of PASCAL VOC, which DAVIS uses, by its 24-bit code."""
    table = {}
    for index in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            color[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
        table[_code((color[0], color[1], color[2]))] = index
    return table


def _code(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _text(color: np.ndarray) -> str:
    return ",".join(str(int(value)) for value in color)
