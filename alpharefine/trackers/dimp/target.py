"""What a tracker of the DiMP family knows of where its target is. ``(y, x)`` and ``(h, w)``, float32, image pixels."""

from __future__ import annotations

import numpy as np

from alpharefine.trackers.dimp.crop import box_in_sample


class Target:
    """Place and size of the target.

    Args:
        box_xywh: ``(4,)`` in the first frame.
        sample_size: side of the search region's crop in pixels.
        search_area_scale: side of the search region in sizes of the target.

    Attributes:
        center_yx: ``(2,)``.
        size_hw: ``(2,)``.
        scale: image pixels a crop pixel.
        base_size_hw: ``(2,)``, the first frame's size in crop pixels.
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
        """``(4,)`` float64."""
        corner = self.center_yx - (self.size_hw - 1) / 2
        return np.concatenate([corner[::-1], self.size_hw[::-1]]).astype(np.float64)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Take somebody else's box; the first frame's size stays the measure of scale.

        Deviation: Alpha-Refine's code takes the center half a pixel right of and below that of `box_xywh`.
        """
        corner, self.size_hw = _reversed(box_xywh)
        self.center_yx = self._found_yx = corner + (self.size_hw - 1) / 2
        self._set_scale()

    def move_to(self, center_yx: np.ndarray, image_hw: tuple[int, ...], inside_ratio: float) -> None:
        """Move the target; a part of it along each side stays in the picture."""
        reach = np.float32(0.5 - inside_ratio) * self.size_hw
        self.center_yx = np.clip(center_yx, -reach, np.asarray(image_hw[:2], np.float32) + reach)

    def box_in(self, sample_center_yx: np.ndarray, scale: np.float32, sample_hw: np.ndarray) -> np.ndarray:
        """The box ``(4,)`` in the pixels of a crop, see `box_in_sample`."""
        return box_in_sample(self.center_yx, self.size_hw, sample_center_yx, scale, sample_hw)

    def take_box(
        self, box_xywh: np.ndarray, sample_center_yx: np.ndarray, scale: np.float32, sample_hw: np.ndarray
    ) -> None:
        """Take a box ``(4,)`` in the pixels of a crop."""
        # The authors' code goes back by the box's middle, and comes by a middle half a pixel less.
        corner, size_hw = _reversed(box_xywh)
        self.center_yx = (corner + size_hw / 2 - (sample_hw - 1) / 2) * scale + sample_center_yx
        self.size_hw = size_hw * scale
        self._found_yx = self.center_yx
        self._set_scale()

    def mark_found(self) -> None:
        """Count the place where the target is as one that a box was found at."""
        self._found_yx = self.center_yx

    def settle(self) -> None:
        """Go back to where a box was last found, if this frame's search has found none."""
        if self._found_yx is not None:
            self.center_yx = self._found_yx

    def _set_scale(self) -> None:
        self.scale = np.float32(np.sqrt(self.size_hw.prod() / self.base_size_hw.prod()))


def _reversed(box_xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corner ``(y, x)`` and size ``(h, w)``."""
    box = np.asarray(box_xywh, dtype=np.float32)
    return box[1::-1], box[:1:-1]
