"""Search-region crops and the mapping between image and crop coordinates.

A *window* is an integer rectangle of the image around a box. It is resized to a square *crop*. There are three
geometries:

* ``exact``: Boxes are mapped to the crop and back through the same window, so the two mappings are exact inverses.
  This is the default for training.
* ``original``: The mappings of the original code, for weights trained with it. The two mappings are not inverses; for
  small targets the resulting IoU error reaches several percent.
* ``original_window``: The labels of ``original`` with another mapping back to the image: through the window, shifted by
  half a crop pixel. This removes the average offset of the labels. It has not been evaluated on real data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from alpharefine.boxes import ImageSize, clip_as_original, clip_to_image
from alpharefine.options import GeometryName

CROP_SIZE = 256
"""Side length of the square crop in pixels (Alpha-Refine, section 4.1)."""

SEARCH_FACTOR = 2.0
"""Ratio of the window size to the box size (Alpha-Refine, section 4.1)."""

_MAX_BUILT_AREA = 2**26
"""Maximum number of pixels of a window that is built in memory. Diverging trackers request larger windows."""


@dataclass(frozen=True)
class Window:
    """Integer rectangle of an image. It may extend beyond the image borders.

    Attributes:
        x0: Left edge in image pixels.
        y0: Top edge in image pixels.
        width: Width in pixels, at least 1.
        height: Height in pixels, at least 1.
    """

    x0: int
    y0: int
    width: int
    height: int

    @classmethod
    def around(cls, box_xywh: np.ndarray | Sequence[float], search_factor: float = SEARCH_FACTOR) -> Window:
        """Create the window of a box: the box scaled about its center and rounded to whole pixels.

        Args:
            box_xywh: Box of shape ``(4,)`` in image pixels, with positive size.
            search_factor: Ratio of the window size to the box size.

        Raises:
            ValueError: If a value is not finite or the size is not positive.
        """
        x, y, w, h = (float(v) for v in box_xywh)
        if not all(map(isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
            raise ValueError(
                f"`box_xywh` must be four finite numbers with a positive width and height, got {[x, y, w, h]}."
            )
        width, height = ceil(search_factor * w), ceil(search_factor * h)
        return cls(round(x + 0.5 * w - 0.5 * width), round(y + 0.5 * h - 0.5 * height), width, height)

    def overlaps(self, image_size: tuple[int, int]) -> bool:
        """Test whether the window contains at least one pixel of an image.

        Args:
            image_size: Height and width of the image.
        """
        height, width = image_size
        return self.x0 < width and self.y0 < height and self.x0 + self.width > 0 and self.y0 + self.height > 0

    def cut(self, image: np.ndarray, crop_size: int = CROP_SIZE, out: np.ndarray | None = None) -> np.ndarray:
        """Crop an image to the window and resize it to a square. Pixels outside the image are black.

        Only the pixels inside the window are read.

        Args:
            image: Image of shape ``(H, W)`` or ``(H, W, C)``, uint8.
            crop_size: Side length of the crop in pixels.
            out: Contiguous array of the shape and type of the crop that it is written to. None for a new one.

        Returns:
            Crop of shape ``(crop_size, crop_size)`` or ``(crop_size, crop_size, C)``, uint8.
        """
        if out is None:
            out = np.empty((crop_size, crop_size, *image.shape[2:]), dtype=image.dtype)
        left, top, right, bottom = self._visible_region(image.shape[:2])
        if left >= right or top >= bottom:
            out[:] = 0
            return out
        patch = image[top:bottom, left:right]
        if self.width * self.height > _MAX_BUILT_AREA:
            out[:] = self._sample(patch, left, top, crop_size)
            return out
        if patch.shape[:2] != (self.height, self.width):
            padded = np.zeros((self.height, self.width, *image.shape[2:]), dtype=image.dtype)
            padded[top - self.y0 : bottom - self.y0, left - self.x0 : right - self.x0] = patch
            patch = padded
        cv2.resize(patch, (crop_size, crop_size), dst=out, interpolation=cv2.INTER_LINEAR)
        return out

    def cut_reduced(self, pixels: np.ndarray, reduction: int) -> np.ndarray:
        """Cut the crop out of an image of reduced resolution. Pixels outside the image are black.

        Args:
            pixels: RGB image of shape ``(H / reduction, W / reduction, 3)``, uint8. Pixel i covers
                ``[reduction * i, reduction * (i + 1))`` of the image. Rows below the window may be missing.
            reduction: Ratio of the resolution of the image to that of `pixels`.

        Returns:
            Crop of shape ``(CROP_SIZE, CROP_SIZE, 3)``, uint8.
        """
        step = self._size[:2] / (CROP_SIZE * reduction)
        first = self._origin[:2] / reduction + step / 2 - 0.5
        to_pixels = np.array([[step[0], 0, first[0]], [0, step[1], first[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        four = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)  # sampled in less than half of the time of three channels
        crop = cv2.warpAffine(four, to_pixels, (CROP_SIZE, CROP_SIZE), flags=flags)
        return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGBA2RGB))

    def _visible_region(self, image_size: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the image region that is copied: left, top, right, bottom."""
        height, width = image_size
        right, bottom = min(self.x0 + self.width, width), min(self.y0 + self.height, height)
        return max(self.x0, 0), max(self.y0, 0), right, bottom

    def _sample(self, patch: np.ndarray, left: int, top: int, crop_size: int) -> np.ndarray:
        """Sample the crop from the image region that starts at `left`, `top`, without building the window."""
        positions = np.arange(crop_size) + 0.5
        columns = (positions * (self.width / crop_size) - 0.5).clip(0, self.width - 1)
        rows = (positions * (self.height / crop_size) - 0.5).clip(0, self.height - 1)
        framed = np.pad(patch, [(1, 1), (1, 1), (0, 0)][: patch.ndim])
        values = _interpolate(framed, rows + (self.y0 - top + 1), columns + (self.x0 - left + 1))
        crop: np.ndarray = np.rint(values).astype(patch.dtype)
        return crop

    def to_crop(self, boxes_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from image to crop coordinates, without clamping.

        Args:
            boxes_xyxy: Boxes of shape ``(..., 4)`` in image pixels.
            crop_size: Side length of the crop in pixels.

        Returns:
            Boxes of shape ``(..., 4)``, xyxy in crop pixels.
        """
        crop_xyxy: np.ndarray = (boxes_xyxy - self._origin) * (crop_size / self._size)
        return crop_xyxy

    def to_image(self, crop_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from crop to image coordinates. This is the inverse of `to_crop`.

        Args:
            crop_xyxy: Boxes of shape ``(..., 4)`` in crop pixels.
            crop_size: Side length of the crop in pixels.

        Returns:
            Boxes of shape ``(..., 4)``, xyxy in image pixels.
        """
        boxes_xyxy: np.ndarray = crop_xyxy * (self._size / crop_size) + self._origin
        return boxes_xyxy

    @classmethod
    def each_to_image(cls, windows: Sequence[Self], crop_xyxy: np.ndarray) -> np.ndarray:
        """Map a box of each of several crops to image coordinates, as `to_image` does, in one computation.

        Args:
            windows: N windows.
            crop_xyxy: A box for each, ``(N, 4)`` in crop pixels.

        Returns:
            Boxes of shape ``(N, 4)``, xyxy in image pixels.
        """
        columns = zip(*(vars(window).values() for window in windows), strict=True)
        arrays: Any = [np.array(column).T for column in columns]  # `to_image` takes arrays in place of numbers
        return cls(*arrays).to_image(crop_xyxy)

    def paste(self, crop_mask: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
        """Map a mask from crop to image coordinates.

        Args:
            crop_mask: Probability map of shape ``(S, S)``, float32.
            image_size: Height and width of the image.

        Returns:
            Probability map of shape ``(H, W)``, float32, 0 outside the window.
        """
        height, width = image_size
        mask = np.zeros((height, width), dtype=np.float32)
        if self.overlaps(image_size):
            left, top, right, bottom = Window._visible_region(self, image_size)
            if self.width * self.height > _MAX_BUILT_AREA:
                rows = (np.arange(top, bottom) + (0.5 - self.y0)) * (len(crop_mask) / self.height) - 0.5
                columns = (np.arange(left, right) + (0.5 - self.x0)) * (len(crop_mask) / self.width) - 0.5
                mask[top:bottom, left:right] = _interpolate(crop_mask, rows, columns)
            else:
                full = cv2.resize(crop_mask, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
                mask[top:bottom, left:right] = full[top - self.y0 : bottom - self.y0, left - self.x0 : right - self.x0]
        return mask

    @property
    def _origin(self) -> np.ndarray:
        return np.array([self.x0, self.y0, self.x0, self.y0], dtype=np.float64).T

    @property
    def _size(self) -> np.ndarray:
        return np.array([self.width, self.height, self.width, self.height], dtype=np.float64).T


@dataclass(frozen=True)
class OriginalWindow(Window):
    """Window with the coordinate mappings of the original code, at the same precision (partly float32).

    Deviation: a window entirely to the left of or above the image gives a black crop. The original code returns wrong
    pixels in this case.

    Attributes:
        box_xywh: Box of the window in image pixels. The mappings use this box instead of the rounded window.
        search_factor: Ratio of the window size to the box size.
    """

    box_xywh: tuple[float, float, float, float]
    search_factor: float

    @classmethod
    def around(cls, box_xywh: np.ndarray | Sequence[float], search_factor: float = SEARCH_FACTOR) -> OriginalWindow:
        """Create the window of a box: the rectangle of the ``exact`` geometry, with the unrounded box.

        Args:
            box_xywh: Box of shape ``(4,)`` in image pixels, with positive size.
            search_factor: Ratio of the window size to the box size.
        """
        window = Window.around(box_xywh, search_factor)
        x, y, w, h = (float(v) for v in box_xywh)
        return cls(window.x0, window.y0, window.width, window.height, (x, y, w, h), search_factor)

    def _visible_region(self, image_size: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the image region that is copied. The last image row and column are never part of it."""
        left, top, right, bottom = super()._visible_region(image_size)
        height, width = image_size
        return left, top, min(right, width - 1), min(bottom, height - 1)

    def to_crop(self, boxes_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from image to crop coordinates. The center of `box_xywh` maps to ``(crop_size - 1) / 2``.

        Args:
            boxes_xyxy: Boxes of shape ``(..., 4)`` in image pixels.
            crop_size: Side length of the crop in pixels.
        """
        x, y, w, h = self.box_xywh
        scale = (crop_size / self._size[:2]).astype(np.float32)
        low = boxes_xyxy[..., :2].astype(np.float32)
        size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).astype(np.float32)
        shift = low + np.float32(0.5) * size - np.array([x + 0.5 * w, y + 0.5 * h], dtype=np.float32)
        center, half = np.float32((crop_size - 1) / 2) + shift * scale, np.float32(0.5) * size * scale
        corners = np.subtract(center, half, dtype=np.float64), np.add(center, half, dtype=np.float64)
        return np.concatenate(corners, axis=-1)

    def to_image(self, crop_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from crop to image coordinates. The crop origin maps to the corner of the unrounded window.

        Args:
            crop_xyxy: Boxes of shape ``(..., 4)`` in crop pixels.
            crop_size: Side length of the crop in pixels.
        """
        x, y, w, h = self.box_xywh
        reach = (self.search_factor - 1) / 2
        scale = self._size[..., :2] / crop_size
        low = np.array([x - reach * w, y - reach * h]).T + crop_xyxy[..., :2] * scale
        return np.concatenate([low, low + (crop_xyxy[..., 2:] - crop_xyxy[..., :2]) * scale], axis=-1)


@dataclass(frozen=True)
class OriginalWindowBack(OriginalWindow):
    """Window of the ``original_window`` geometry: `OriginalWindow` with an unbiased mapping back to the image."""

    def to_image(self, crop_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from crop to image coordinates. The labels lie half a crop pixel before their targets on average.

        Args:
            crop_xyxy: Boxes of shape ``(..., 4)`` in crop pixels.
            crop_size: Side length of the crop in pixels.
        """
        return Window.to_image(self, np.asarray(crop_xyxy, dtype=np.float64) + 0.5, crop_size)


class Geometry(NamedTuple):
    """Window class and the matching box clipping.

    Attributes:
        window: Class of the search-region windows.
        clip: Function that clips boxes of shape ``(..., 4)``, xyxy, to an image of a given height and width, or to one
            image each.
    """

    window: type[Window]
    clip: Callable[[np.ndarray, ImageSize], np.ndarray]

    def mirrored(self, crop_xyxy: np.ndarray) -> np.ndarray:
        """Mirror boxes of a crop horizontally, about the center that the labels of the geometry have.

        Args:
            crop_xyxy: Boxes of shape ``(..., 4)`` in crop pixels.

        >>> GEOMETRIES["exact"].mirrored(np.array([0.0, 10.0, 100.0, 60.0]))
        array([156.,  10., 256.,  60.])
        """
        far_end = CROP_SIZE if self.window is Window else CROP_SIZE - 1
        x1, y1, x2, y2 = np.moveaxis(crop_xyxy, -1, 0)
        return np.stack([far_end - x2, y1, far_end - x1, y2], axis=-1)


GEOMETRIES: dict[GeometryName, Geometry] = {
    "exact": Geometry(Window, clip_to_image),
    "original": Geometry(OriginalWindow, clip_as_original),
    "original_window": Geometry(OriginalWindowBack, clip_as_original),
}


def _interpolate(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate bilinearly on the grid of row and column positions. Positions outside use the border value."""
    values = image
    for axis, positions in ((0, rows), (1, columns)):
        last = image.shape[axis] - 1
        inside = positions.clip(0, last)
        low = inside.astype(np.int64)
        part = (inside - low).reshape([-1 if i == axis else 1 for i in range(image.ndim)])
        values = values.take(low, axis) * (1 - part) + values.take((low + 1).clip(max=last), axis) * part
    return values
