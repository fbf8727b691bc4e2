"""NanoTrack v2 and v3: siamese trackers with a small backbone.

For v2, constants and order of the steps are those of OpenCV (`modules/video/src/tracking/tracker_nano.cpp`). Unlike in
OpenCV, the box can be set without a new template. OpenCV does not run v3, whose constants are those of its authors. The
networks take RGB.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest
from alpharefine.trackers.onnx_networks import load_onnx
from alpharefine.trackers.siamese import (
    change_penalty,
    context_side,
    cut_square,
    hanning_window,
    smooth_box,
    target_prob,
)

ROLES = ("backbone", "head")
"""Roles of the ONNX files, in order."""

_TEMPLATE_SIZE = 127
_SEARCH_SIZE = 255
_SEARCH_OVER_TEMPLATE = 2  # integer division of 255 by 127, as in OpenCV
_STRIDE = 16
_WINDOW_INFLUENCE = 0.455


class _Version(NamedTuple):
    """Constants of a version of NanoTrack.

    Attributes:
        penalty: Strength of the penalty for changes of size and aspect ratio.
        rate: Weight of the new size.
        uses_position: True if the penalty compares sizes with the target's position in place of its size, as in OpenCV.
    """

    penalty: float
    rate: float
    uses_position: bool


_VERSIONS = {16: _Version(0.055, 0.37, True), 15: _Version(0.138, 0.348, False)}
"""Constants of v2 and v3 by the side of the head's maps in cells."""


class NanoTracker(Tracker):
    """NanoTrack in one sequence. The side of the head's maps determines the version: 16 cells for v2, 15 for v3.

    Args:
        backbone: Network that maps a crop to features.
        head: Network that maps the features of the template (`input1`) and of the search crop (`input2`) to scores and
            distances.

    Raises:
        ValueError: If the maps of the head have another size.
    """

    def __init__(self, backbone: cv2.dnn.Net, head: cv2.dnn.Net) -> None:
        self._backbone = backbone
        self._head = head
        self._grid = self._map_side()
        if self._grid not in _VERSIONS:
            sides = " or ".join(f"{side}x{side}" for side in _VERSIONS)
            raise ValueError(f"The maps of the head must have {sides} cells, got {self._grid}x{self._grid}.")
        self._version = _VERSIONS[self._grid]
        self._window = hanning_window(self._grid)
        self._offsets = (np.arange(self._grid, dtype=np.float32) - self._grid // 2) * _STRIDE

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self.set_box(box_xywh)
        side = int(context_side(self._size))
        self._head.setInput(self._features(frame, side, _TEMPLATE_SIZE), "input1")

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box; the template does not change.

        Args:
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        box = np.asarray(box_xywh, dtype=np.float64)
        self._center, self._size = box[:2] + 0.5 * box[2:], box[2:].copy()

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame.

        Args:
            frame: Next frame, ``(H, W, 3)`` RGB uint8.
        """
        side = context_side(self._size, int(self._size.sum()))  # OpenCV truncates the sum to an integer only here
        scale = _TEMPLATE_SIZE / side
        self._head.setInput(self._features(frame, int(_SEARCH_OVER_TEMPLATE * side), _SEARCH_SIZE), "input2")
        logits, distances = self._head.forward(["output1", "output2"])

        left_top, right_bottom = distances.reshape(2, 2, self._grid, self._grid)
        sizes = left_top + right_bottom
        last_scale = context_side(self._center if self._version.uses_position else self._size * scale)
        scale_ratio = context_side(sizes) / np.float32(last_scale)
        aspect_ratio = np.float32(self._size[0] / self._size[1]) / (sizes[0] / sizes[1])
        score = target_prob(logits.reshape(2, self._grid, self._grid))
        penalty = change_penalty(scale_ratio, aspect_ratio, self._version.penalty)
        ranking = penalty * score * (1 - _WINDOW_INFLUENCE) + self._window * _WINDOW_INFLUENCE

        best = row, column = np.unravel_index(ranking.argmax(), ranking.shape)
        shift = self._offsets[[column, row]] + 0.5 * (right_bottom - left_top)[:, row, column]
        size = sizes[:, row, column] / scale
        rate = float(penalty[best] * score[best]) * self._version.rate
        self._center, self._size = smooth_box(self._center + shift / scale, size, self._size, rate, frame.shape[:2])
        return Track(
            np.concatenate([self._center - 0.5 * self._size, self._size]), float(ranking[best]), TrackState.NORMAL
        )

    def _map_side(self) -> int:
        """Return the side of the head's maps in cells."""
        for name, crop_size in (("input1", _TEMPLATE_SIZE), ("input2", _SEARCH_SIZE)):
            black = np.zeros((1, 1, 3), np.uint8)
            self._center = np.zeros(2)
            self._head.setInput(self._features(black, crop_size, crop_size), name)
        return int(self._head.forward("output1").shape[-1])

    def _features(self, frame: np.ndarray, side: int, crop_size: int) -> np.ndarray:
        x0, y0 = (int(v) - (side + 1) // 2 for v in self._center)
        self._backbone.setInput(cv2.dnn.blobFromImage(cut_square(frame, x0, y0, side, crop_size)))
        return self._backbone.forward()


def load(request: TrackerRequest) -> LoadedTracker:
    """Read and check the networks of NanoTrack v2 or v3.

    Args:
        request: Request with the ONNX files in the order of `ROLES`.

    Raises:
        UserError: If a file is missing or unreadable, or a file does not fit its role.
    """
    return load_onnx(request, NanoTracker, ROLES)
