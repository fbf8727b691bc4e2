"""State of the target. Arrays are ``(y, x)`` or ``(h, w)``, float32 in image pixels."""

from __future__ import annotations

import numpy as np

from alpharefine.trackers.dimp.crop import box_in_sample


class Target:
    """Position and size of the target.

    Args:
        box_xywh: Box in the first frame, ``(4,)`` in image pixels.
        sample_size: Side of the search region's crop in pixels.
        search_area_scale: Side of the search region in target sizes.

    Attributes:
        center_yx: Center, ``(2,)``.
        size_hw: Size, ``(2,)``.
        scale: Number of image pixels per crop pixel.
        base_size_hw: Size in the first frame, ``(2,)`` in crop pixels.
    """

    def __init__(self, box_xywh: np.ndarray, sample_size: int, search_area_scale: float) -> None:
        corner, self.size_hw = _reversed(box_xywh)
        self.center_yx = corner + (self.size_hw - 1) / 2
        area = self.size_hw.prod() * np.float32(search_area_scale**2)
        self.scale = np.float32(np.sqrt(area) / sample_size)
        self.base_size_hw = self.size_hw / self.scale
        self._found_yx: np.ndarray | None = None

    @property
    def box_xywh(self) -> np.ndarray:
        """Box of the target, ``(4,)`` float64 in image pixels."""
        corner = self.center_yx - (self.size_hw - 1) / 2
        return np.concatenate([corner[::-1], self.size_hw[::-1]]).astype(np.float64)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the box; the scale still refers to the size in the first frame.

        Deviation: Alpha-Refine's code places the center half a pixel to the right of and below that of `box_xywh`.

        Args:
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        corner, self.size_hw = _reversed(box_xywh)
        self.center_yx = self._found_yx = corner + (self.size_hw - 1) / 2
        self._set_scale()

    def move_to(self, center_yx: np.ndarray, image_hw: tuple[int, ...], inside_ratio: float) -> None:
        """Move the center; a fraction of the target along each side stays inside the image.

        Args:
            center_yx: New center, ``(2,)`` in image pixels.
            image_hw: Shape of the image, height and width first.
            inside_ratio: Fraction of the target that stays inside the image.
        """
        reach = np.float32(0.5 - inside_ratio) * self.size_hw
        self.center_yx = np.clip(center_yx, -reach, np.asarray(image_hw[:2], np.float32) + reach)

    def box_in(self, sample_center_yx: np.ndarray, scale: np.float32, sample_hw: np.ndarray) -> np.ndarray:
        """Return the box in the pixels of a crop; see `box_in_sample`.

        Args:
            sample_center_yx: Center of the crop, ``(2,)`` in image pixels.
            scale: Number of image pixels per crop pixel.
            sample_hw: Size of the crop, ``(2,)`` in crop pixels.

        Returns:
            Box, ``(4,)`` float32 xywh in crop pixels.
        """
        return box_in_sample(self.center_yx, self.size_hw, sample_center_yx, scale, sample_hw)

    def take_box(
        self, box_xywh: np.ndarray, sample_center_yx: np.ndarray, scale: np.float32, sample_hw: np.ndarray
    ) -> None:
        """Replace the box by one in the pixels of a crop.

        Args:
            box_xywh: Box, ``(4,)`` in crop pixels.
            sample_center_yx: Center of the crop, ``(2,)`` in image pixels.
            scale: Number of image pixels per crop pixel.
            sample_hw: Size of the crop, ``(2,)`` in crop pixels.
        """
        # As in the authors' code: here the center is corner + size / 2, in `box_in_sample` half a pixel less.
        corner, size_hw = _reversed(box_xywh)
        self.center_yx = (corner + size_hw / 2 - (sample_hw - 1) / 2) * scale + sample_center_yx
        self.size_hw = size_hw * scale
        self._found_yx = self.center_yx
        self._set_scale()

    def mark_found(self) -> None:
        """Mark the current position as one with a refined box."""
        self._found_yx = self.center_yx

    def settle(self) -> None:
        """Return to the position of the last refined box if this frame has none."""
        if self._found_yx is not None:
            self.center_yx = self._found_yx

    def _set_scale(self) -> None:
        self.scale = np.float32(np.sqrt(self.size_hw.prod() / self.base_size_hw.prod()))


def _reversed(box_xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return corner ``(y, x)`` and size ``(h, w)``."""
    box = np.asarray(box_xywh, dtype=np.float32)
    return box[1::-1], box[:1:-1]
