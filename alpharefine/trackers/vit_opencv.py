"""VitTrack with the boxes of `cv2.TrackerVit`, for comparison with OpenCV; `alpharefine.trackers.vit` is more accurate.

Constants and order of the steps are those of OpenCV (`modules/video/src/tracking/tracker_vit.cpp`). Unlike in OpenCV,
the box can be set without a new template. As in OpenCV, the input is BGR minus ImageNet's RGB mean with the factors of
`_SCALE`, and the box has whole pixels.
"""

from __future__ import annotations

from math import ceil, floor, sqrt

import cv2
import numpy as np

from alpharefine.crops import Window
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest
from alpharefine.trackers.onnx_networks import load_onnx
from alpharefine.trackers.vit import (
    MEAN,
    ROLES,
    SEARCH_FACTOR,
    SEARCH_SIZE,
    STD,
    TEMPLATE_FACTOR,
    TEMPLATE_SIZE,
    VitNetwork,
)

_LEAST_SCORE = 0.2

_SCALE = STD * (1, -1, -1) / (STD @ STD)
"""Factors of the channels. OpenCV's `1.0 / Scalar` inverts a quaternion in place of the elements."""


class OpenCVVitTracker(Tracker):
    """VitTrack in one sequence, with the boxes of `cv2.TrackerVit`.

    Args:
        network: Network that maps the crops `template` and `search` to a score map, a size map and an offset map.
    """

    def __init__(self, network: cv2.dnn.Net) -> None:
        self._network = VitNetwork(network, MEAN, _SCALE)

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame; the box is rounded to whole pixels.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self.set_box(box_xywh)
        self._network.set_template(_bgr_crop(frame, self._window(TEMPLATE_FACTOR), TEMPLATE_SIZE))

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box, rounded to whole pixels; the template does not change.

        Args:
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        x, y, w, h = (round(float(v)) for v in box_xywh)
        self._box = (x, y, max(w, 1), max(h, 1))

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame. With a score below 0.2 it is not found, and the last box is returned.

        Args:
            frame: Next frame, ``(H, W, 3)`` RGB uint8.
        """
        window = self._window(SEARCH_FACTOR)
        cell = self._network.search(_bgr_crop(frame, window, SEARCH_SIZE))
        if cell.score < _LEAST_SCORE:
            return Track(np.array(self._box, dtype=np.float64), cell.score, TrackState.NOT_FOUND)
        corner = (cell.center - cell.size / 2) * window.width + np.array([window.x0, window.y0], np.float32)
        x, y, w, h = (floor(v) for v in (*corner, *(cell.size * window.width)))
        # Deviation: OpenCV lets a side become 0 and fails on the next frame.
        self._box = (x, y, max(w, 1), max(h, 1))
        return Track(np.array(self._box, dtype=np.float64), cell.score, TrackState.NORMAL)

    def _window(self, factor: int) -> Window:
        x, y, w, h = self._box
        side = ceil(sqrt(w * h) * factor)
        return Window(x + int((w - side) / 2), y + int((h - side) / 2), side, side)


def load(request: TrackerRequest) -> LoadedTracker:
    """Read and check the network of VitTrack.

    Args:
        request: Request with the ONNX file.

    Raises:
        UserError: If the file is missing or unreadable, or holds another network.
    """
    return load_onnx(request, OpenCVVitTracker, ROLES)


def _bgr_crop(frame: np.ndarray, window: Window, crop_size: int) -> np.ndarray:
    return cv2.cvtColor(window.cut(frame, crop_size), cv2.COLOR_RGB2BGR)
