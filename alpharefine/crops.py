"""The search-region crop and the way back, in two geometries.

A *window* is the integer rectangle of the picture around a box that is cut out and resized to a square *crop*.

* ``exact``: points go from the picture to the crop and back through the same window, so a label and the box mapped back
  are exact inverses. What everything here is trained in.
* ``original``: what the authors' code computes, for weights that were trained by it. Label and way back differ by up to
  several per cent of IoU for small targets.
* ``original_window``: the same with another way back, for the same weights: through the window, half a crop pixel
  further, where a network that has learnt the labels of ``original`` points to on average. Not measured on real data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from alpharefine.boxes import clip_as_original, clip_to_image

GeometryName = Literal["exact", "original", "original_window"]

CROP_SIZE = 256
"""Side of the square crop in pixels (Alpha-Refine, section 4.1)."""

SEARCH_FACTOR = 2.0
"""Side of the window over side of the box (Alpha-Refine, section 4.1)."""

_MAX_BUILT_AREA = 2**26
"""Pixels of the largest window that is built in memory; a diverging tracker asks for larger ones."""


@dataclass(frozen=True)
class Window:
    """An integer rectangle of a picture, which may reach over its borders.

    Attributes:
        x0: left edge in image pixels.
        y0: top edge in image pixels.
        width: in pixels, at least 1.
        height: in pixels, at least 1.
    """

    x0: int
    y0: int
    width: int
    height: int

    @classmethod
    def around(cls, box_xywh: np.ndarray, search_factor: float = SEARCH_FACTOR) -> Window:
        """The window of a box: ``search_factor`` times its size, with the same centre, on whole pixels.

        Args:
            box_xywh: ``(4,)`` in image pixels, positive size.
            search_factor: side of the window over side of the box.

        Raises:
            ValueError: if a number is not finite or a side is not positive.
        """
        x, y, w, h = (float(v) for v in box_xywh)
        if not np.isfinite([x, y, w, h]).all() or w <= 0 or h <= 0:
            raise ValueError(
                f"`box_xywh` must be four finite numbers with a positive width and height, got {[x, y, w, h]}."
            )
        width, height = int(np.ceil(search_factor * w)), int(np.ceil(search_factor * h))
        return cls(round(x + 0.5 * w - 0.5 * width), round(y + 0.5 * h - 0.5 * height), width, height)

    def overlaps(self, image_size: tuple[int, int]) -> bool:
        """Whether any pixel of a picture of this height and width lies in the window."""
        height, width = image_size
        return self.x0 < width and self.y0 < height and self.x0 + self.width > 0 and self.y0 + self.height > 0

    def cut(self, image: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Cut the window out of a picture and resize it to a square; black outside of the picture.

        Only the pixels inside the window are read.

        Args:
            image: ``(H, W)`` or ``(H, W, C)``, uint8.
            crop_size: side of the square in pixels.

        Returns:
            ``(crop_size, crop_size)`` or ``(crop_size, crop_size, C)``, uint8.
        """
        left, top, right, bottom = self._seen(image.shape[:2])
        if left >= right or top >= bottom:
            return np.zeros((crop_size, crop_size, *image.shape[2:]), dtype=image.dtype)
        patch = image[top:bottom, left:right]
        if self.width * self.height > _MAX_BUILT_AREA:
            return self._sample(patch, left, top, crop_size)
        if patch.shape[:2] != (self.height, self.width):
            padded = np.zeros((self.height, self.width, *image.shape[2:]), dtype=image.dtype)
            padded[top - self.y0 : bottom - self.y0, left - self.x0 : right - self.x0] = patch
            patch = padded
        crop: np.ndarray = cv2.resize(patch, (crop_size, crop_size), interpolation=cv2.INTER_LINEAR)
        return crop.reshape(crop_size, crop_size, *image.shape[2:])

    def _seen(self, image_size: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The part of the picture that is copied: left, top, right, bottom."""
        height, width = image_size
        right, bottom = min(self.x0 + self.width, width), min(self.y0 + self.height, height)
        return max(self.x0, 0), max(self.y0, 0), right, bottom

    def _sample(self, patch: np.ndarray, left: int, top: int, crop_size: int) -> np.ndarray:
        """The crop of the part of the picture that starts at `left`, `top`, without building the window."""
        positions = np.arange(crop_size) + 0.5
        columns = (positions * (self.width / crop_size) - 0.5).clip(0, self.width - 1)
        rows = (positions * (self.height / crop_size) - 0.5).clip(0, self.height - 1)
        framed = np.pad(patch, [(1, 1), (1, 1), (0, 0)][: patch.ndim])
        values = _interpolate(framed, rows + (self.y0 - top + 1), columns + (self.x0 - left + 1))
        crop: np.ndarray = np.rint(values).astype(patch.dtype)
        return crop

    def to_crop(self, boxes_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from the picture to the crop, not clamped.

        Args:
            boxes_xyxy: ``(..., 4)`` in image pixels.
            crop_size: side of the crop in pixels.

        Returns:
            ``(..., 4)`` xyxy in crop pixels.
        """
        crop_xyxy: np.ndarray = (np.asarray(boxes_xyxy, dtype=np.float64) - self._origin) * (crop_size / self._size)
        return crop_xyxy

    def to_image(self, crop_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from the crop back to the picture; the inverse of `to_crop`.

        Args:
            crop_xyxy: ``(..., 4)`` in crop pixels.
            crop_size: side of the crop in pixels.

        Returns:
            ``(..., 4)`` xyxy in image pixels.
        """
        boxes_xyxy: np.ndarray = np.asarray(crop_xyxy, dtype=np.float64) * (self._size / crop_size) + self._origin
        return boxes_xyxy

    def paste(self, crop_mask: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
        """Put a mask of the crop back where it belongs in the picture.

        Args:
            crop_mask: ``(S, S)`` float32 probabilities.
            image_size: height and width of the picture.

        Returns:
            ``(H, W)`` float32 probabilities, 0 outside of the window.
        """
        height, width = image_size
        mask = np.zeros((height, width), dtype=np.float32)
        if self.overlaps(image_size):
            left, top, right, bottom = Window._seen(self, image_size)
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
        return np.array([self.x0, self.y0, self.x0, self.y0], dtype=np.float64)

    @property
    def _size(self) -> np.ndarray:
        return np.array([self.width, self.height, self.width, self.height], dtype=np.float64)


@dataclass(frozen=True)
class OriginalWindow(Window):
    """A window whose maps to the crop and back are those of the authors' code, float32 where theirs are.

    Deviation: a window wholly left of or above the picture is black, where theirs shows wrong pixels.

    Attributes:
        box_xywh: image pixels, the box that the window is of; the maps use it, not the window.
        search_factor: side of the window over side of the box.
    """

    box_xywh: tuple[float, float, float, float]
    search_factor: float

    @classmethod
    def around(cls, box_xywh: np.ndarray, search_factor: float = SEARCH_FACTOR) -> OriginalWindow:
        """The same window as in the geometry ``exact``, which keeps what it was made from."""
        window = Window.around(box_xywh, search_factor)
        x, y, w, h = (float(v) for v in box_xywh)
        return cls(window.x0, window.y0, window.width, window.height, (x, y, w, h), search_factor)

    def _seen(self, image_size: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The last row or column is lost as soon as the window reaches the border."""
        left, top, right, bottom = super()._seen(image_size)
        height, width = image_size
        return left, top, min(right, width - 1), min(bottom, height - 1)

    def to_crop(self, boxes_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from the picture to the crop: the middle of the box is at ``(crop_size - 1) / 2``."""
        x, y, w, h = self.box_xywh
        boxes = np.asarray(boxes_xyxy, dtype=np.float64)
        scale = (crop_size / self._size[:2]).astype(np.float32)
        low, size = boxes[..., :2].astype(np.float32), (boxes[..., 2:] - boxes[..., :2]).astype(np.float32)
        shift = low + np.float32(0.5) * size - np.array([x + 0.5 * w, y + 0.5 * h], dtype=np.float32)
        centre, half = np.float32((crop_size - 1) / 2) + shift * scale, np.float32(0.5) * size * scale
        return np.concatenate([centre.astype(np.float64) - half, centre.astype(np.float64) + half], axis=-1)

    def to_image(self, crop_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from the crop back to the picture: the crop starts at the corner of the unrounded window."""
        x, y, w, h = self.box_xywh
        reach = (self.search_factor - 1) / 2
        corners = np.asarray(crop_xyxy)
        size = (corners[..., 2:] - corners[..., :2]).astype(np.float64)
        scale = self._size[:2] / crop_size
        low = np.array([x - reach * w, y - reach * h]) + corners[..., :2].astype(np.float64) * scale
        return np.concatenate([low, low + size * scale], axis=-1)


@dataclass(frozen=True)
class OriginalWindowBack(OriginalWindow):
    """The window of the geometry ``original`` with a way back that is right on average, see ``original_window``."""

    def to_image(self, crop_xyxy: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Map boxes from the crop back to the picture: labels lie half a crop pixel before their targets on average."""
        return Window.to_image(self, np.asarray(crop_xyxy, dtype=np.float64) + 0.5, crop_size)


class Geometry(NamedTuple):
    """What belongs together.

    Attributes:
        window: the window of a box.
        clip: puts boxes ``(..., 4)`` xyxy inside a picture of a height and width.
    """

    window: type[Window]
    clip: Callable[[np.ndarray, tuple[int, int]], np.ndarray]

    def mirrored(self, crop_xyxy: np.ndarray) -> np.ndarray:
        """The same boxes in the crop mirrored left to right, about the middle that the geometry's labels have.

        Args:
            crop_xyxy: ``(..., 4)``, crop pixels.

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
    """Bilinear values at each row position with each column position; the border's value outside of the image."""
    values = image
    for axis, positions in ((0, rows), (1, columns)):
        last = image.shape[axis] - 1
        inside = positions.clip(0, last)
        low = inside.astype(np.int64)
        part = (inside - low).reshape([-1 if i == axis else 1 for i in range(image.ndim)])
        values = values.take(low, axis) * (1 - part) + values.take((low + 1).clip(max=last), axis) * part
    return values
