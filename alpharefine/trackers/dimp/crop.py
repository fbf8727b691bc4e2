"""Crop of a frame, and its window in the frame.

Arrays are ``(y, x)`` or ``(h, w)`` in float32, as in the authors' code, because the boxes depend on its rounding. Boxes
in crops are xywh in crop pixels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alpharefine.trackers.dimp.threads import one_thread

BorderMode = Literal["replicate", "inside", "inside_major"]
Arithmetic = Literal["integer", "float"]


class Sample(NamedTuple):
    """Crop of a frame.

    Attributes:
        pixels: Pixels of the crop, ``(3, h, w)`` float32 RGB in 0..255.
        corners_yx: Window ``(4,)`` float32: y0, x0, y1, x1 in image pixels, with an exclusive end.
    """

    pixels: Tensor
    corners_yx: np.ndarray

    @property
    def center_yx(self) -> np.ndarray:
        """Center of the window's pixels, ``(2,)`` in image pixels."""
        center: np.ndarray = np.float32(0.5) * (self.corners_yx[:2] + self.corners_yx[2:] - 1)
        return center

    @property
    def scale(self) -> np.float32:
        """Number of image pixels per crop pixel."""
        size = np.asarray(self.pixels.shape[1:], np.float32)
        return np.float32(np.sqrt(np.prod((self.corners_yx[2:] - self.corners_yx[:2]) / size)))


def cut_sample(
    frame: np.ndarray,
    center_yx: np.ndarray,
    sample_hw: np.ndarray,
    output_hw: tuple[int, int],
    border: BorderMode = "replicate",
    max_scale_change: float | None = None,
    arithmetic: Arithmetic = "integer",
    device: torch.device | str = "cpu",
) -> Sample:
    """Crop a window of a frame and resize it. Only pixels inside the window are read.

    Args:
        frame: Frame, ``(H, W, 3)`` uint8.
        center_yx: Center of the window, ``(2,)`` in image pixels, truncated to whole pixels.
        sample_hw: Size of the window, ``(2,)`` in image pixels.
        output_hw: Size of the crop in pixels.
        border: Treatment of windows that exceed the frame. ``replicate`` repeats the pixels at the border. ``inside``
            shrinks and shifts the window until it fits into the frame; ``inside_major`` until the side that fits better
            does.
        max_scale_change: Maximum factor by which the window shrinks; None for no limit.
        arithmetic: ``integer`` for windows of whole pixels, as the authors' code with the PyTorch versions of its time;
            ``float`` as the same code with current versions.
        device: Device of the crop, on which the window is resized.
    """
    image_hw = np.array(frame.shape[:2])
    center, sample = np.trunc(center_yx).astype(np.int64), np.asarray(sample_hw, np.float32)
    if border != "replicate":
        ratios = sample / image_hw.astype(np.float32)
        factor = np.clip(ratios.max() if border == "inside" else ratios.min(), 1, max_scale_change)
        sample = np.trunc(sample / np.float32(factor))
    # Large windows are subsampled by an integer step before they are resized.
    step = max(int((sample / np.asarray(output_hw, np.float32)).min() - np.float32(0.1)), 1)
    offset = center % step
    low, high = _window((center - offset) // step, sample / np.float32(step), arithmetic)
    thinned_hw = -(-(image_hw - offset) // step)
    if border != "replicate":
        low, high = _shift_inside(low, high, thinned_hw)
    first, last = np.trunc(low).astype(np.int64), np.trunc(high).astype(np.int64)
    patch = _cut(frame[offset[0] :: step, offset[1] :: step], first, last)
    pixels = torch.from_numpy(patch).to(device).permute(2, 0, 1).float()
    if patch.shape[:2] != tuple(output_hw):
        with one_thread():
            pixels = F.interpolate(pixels[None], output_hw, mode="bilinear", align_corners=False)[0]
    return Sample(pixels, np.float32(step) * np.concatenate([low, high]).astype(np.float32))


def _window(center: np.ndarray, size: np.ndarray, arithmetic: Arithmetic) -> tuple[np.ndarray, np.ndarray]:
    side = np.maximum(np.rint(size), 2).astype(np.int64)
    if arithmetic == "integer":
        return center - (side - 1) // 2, center + side // 2 + 1
    return center - (side - 1) / 2, center + side / 2 + 1


def _shift_inside(low: np.ndarray, high: np.ndarray, image_hw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift a window into the image; a window larger than the image exceeds both ends equally."""
    shift = np.maximum(-low, 0) - np.maximum(high - image_hw, 0)
    low, high = low + shift, high + shift
    over = np.floor((np.maximum(-low, 0) + np.maximum(high - image_hw, 0)) / 2).astype(low.dtype)
    back = np.where(over > 0, -low - over, 0)
    return low + back, high + back


def _cut(image: np.ndarray, first_yx: np.ndarray, end_yx: np.ndarray) -> np.ndarray:
    """Return the pixels of a rectangle; outside the image, the pixels at the border are repeated."""
    last_yx = np.array(image.shape[:2]) - 1
    (top, left), (bottom, right) = np.clip(first_yx, 0, last_yx), np.clip(end_yx - 1, 0, last_yx)
    patch = image[top : bottom + 1, left : right + 1]
    missing = (end_yx - first_yx) - patch.shape[:2]
    if not missing.any():
        return np.ascontiguousarray(patch)
    before = np.minimum(np.maximum((top, left) - first_yx, 0), missing)
    (above, before_x), (below, after_x) = before.tolist(), (missing - before).tolist()
    return cv2.copyMakeBorder(patch, above, below, before_x, after_x, cv2.BORDER_REPLICATE)


def box_in_sample(
    center_yx: np.ndarray, size_hw: np.ndarray, sample_center_yx: np.ndarray, scale: np.float32, sample_hw: np.ndarray
) -> np.ndarray:
    """Convert a box from image pixels to crop pixels.

    Args:
        center_yx: Center of the box, ``(2,)`` in image pixels.
        size_hw: Size of the box, ``(2,)`` in image pixels.
        sample_center_yx: Center of the crop, ``(2,)`` in image pixels.
        scale: Number of image pixels per crop pixel.
        sample_hw: Size of the crop, ``(2,)`` in crop pixels.

    Returns:
        Box, ``(4,)`` float32 xywh in crop pixels.
    """
    center = (center_yx - sample_center_yx) / scale + (sample_hw - 1) / 2
    size = size_hw / scale
    corner = center - (size - 1) / 2
    return np.concatenate([corner[::-1], size[::-1]]).astype(np.float32)
