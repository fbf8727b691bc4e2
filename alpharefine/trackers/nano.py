"""NanoTrack: a siamese tracker with a light backbone, whose boxes are those of `cv2.TrackerNano`.

The constants and the order of the steps are OpenCV's (`modules/video/src/tracking/tracker_nano.cpp`); the box can
be set here without learning the template anew. The networks take RGB.
"""

from __future__ import annotations

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
"""The ONNX files, in order."""

_TEMPLATE_SIZE = 127
_SEARCH_SIZE = 255
_SEARCH_OVER_TEMPLATE = 2  # OpenCV divides 255 by 127 as integers
_STRIDE = 16
_GRID = 16
_PENALTY = 0.055
_WINDOW_INFLUENCE = 0.455
_RATE = 0.37


class NanoTracker(Tracker):
    """NanoTrack v2.

    Args:
        backbone: a crop to its features.
        head: the features of the template (`input1`) and of the search crop (`input2`) to scores and distances.
    """

    def __init__(self, backbone: cv2.dnn.Net, head: cv2.dnn.Net) -> None:
        self._backbone = backbone
        self._head = head
        self._window = hanning_window(_GRID)
        self._offsets = (np.arange(_GRID, dtype=np.float32) - _GRID // 2) * _STRIDE

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from its box in the first frame."""
        self.set_box(box_xywh)
        side = int(context_side(self._size))
        self._head.setInput(self._features(frame, side, _TEMPLATE_SIZE), "input1")

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box; the template stays as it is."""
        box = np.asarray(box_xywh, dtype=np.float64)
        self._center, self._size = box[:2] + 0.5 * box[2:], box[2:].copy()

    def track(self, frame: np.ndarray) -> Track:
        """Find the target in the next frame."""
        side = context_side(self._size, int(self._size.sum()))  # OpenCV cuts the sum to an integer here alone
        scale = _TEMPLATE_SIZE / side
        self._head.setInput(self._features(frame, int(_SEARCH_OVER_TEMPLATE * side), _SEARCH_SIZE), "input2")
        logits, distances = self._head.forward(["output1", "output2"])

        left_top, right_bottom = distances.reshape(2, 2, _GRID, _GRID)
        sizes = left_top + right_bottom
        # OpenCV compares with the scale of the target's position, not with that of its size; kept so that boxes agree.
        scale_ratio = context_side(sizes) / np.float32(context_side(self._center))
        aspect_ratio = np.float32(self._size[0] / self._size[1]) / (sizes[0] / sizes[1])
        score = target_prob(logits.reshape(2, _GRID, _GRID))
        penalty = change_penalty(scale_ratio, aspect_ratio, _PENALTY)
        ranking = penalty * score * (1 - _WINDOW_INFLUENCE) + self._window * _WINDOW_INFLUENCE

        best = row, column = np.unravel_index(ranking.argmax(), ranking.shape)
        shift = self._offsets[[column, row]] + 0.5 * (right_bottom - left_top)[:, row, column]
        size = sizes[:, row, column] / scale
        rate = float(penalty[best] * score[best]) * _RATE
        self._center, self._size = smooth_box(self._center + shift / scale, size, self._size, rate, frame.shape[:2])
        return Track(
            np.concatenate([self._center - 0.5 * self._size, self._size]), float(ranking[best]), TrackState.NORMAL
        )

    def _features(self, frame: np.ndarray, side: int, crop_size: int) -> np.ndarray:
        x0, y0 = (int(v) - (side + 1) // 2 for v in self._center)
        self._backbone.setInput(cv2.dnn.blobFromImage(cut_square(frame, x0, y0, side, crop_size)))
        return self._backbone.forward()


def load(request: TrackerRequest) -> LoadedTracker:
    """Read and check the networks of NanoTrack v2.

    Args:
        request: Request with the ONNX files in the order of `ROLES`.

    Raises:
        UserError: If a file is missing or unreadable, or a file does not fit its role.
    """
    return load_onnx(request, NanoTracker, ROLES)
