"""VitTrack: a one-stream transformer tracker, with the boxes of `cv2.TrackerVit`.

Constants and order of the steps are those of OpenCV (`modules/video/src/tracking/tracker_vit.cpp`). Unlike in OpenCV,
the box can be set without a new template. As in OpenCV, the input is BGR minus ImageNet's RGB mean with the scale of
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

ROLES = ("vittrack",)
"""Roles of the ONNX files, in order."""

_TEMPLATE_SIZE = 128
_TEMPLATE_FACTOR = 2
_SEARCH_SIZE = 256
_SEARCH_FACTOR = 4
_GRID = 16
_LEAST_SCORE = 0.2
_MEAN = np.array([0.485, 0.456, 0.406]) * 255
_STD = np.array([0.229, 0.224, 0.225])
_SCALE = _STD * (1, -1, -1) / (_STD @ _STD) / 255  # OpenCV's `1.0 / Scalar` inverts a quaternion, not the elements


class VitTracker(Tracker):
    """VitTrack in one sequence.

    Args:
        network: Network that maps the crops `template` and `search` to a score map, a size map and an offset map.
    """

    def __init__(self, network: cv2.dnn.Net) -> None:
        self._network = network
        hann = np.hanning(_GRID + 2)[1:-1].astype(np.float32)
        self._window = np.outer(hann, hann)
        self._normalization = cv2.dnn.Image2BlobParams()
        self._normalization.mean = tuple(_MEAN)
        self._normalization.scalefactor = tuple(_SCALE)

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame; the box is rounded to whole pixels.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self.set_box(box_xywh)
        self._network.setInput(self._blob(frame, self._window_around(_TEMPLATE_FACTOR), _TEMPLATE_SIZE), "template")

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
        window = self._window_around(_SEARCH_FACTOR)
        self._network.setInput(self._blob(frame, window, _SEARCH_SIZE), "search")
        scores, sizes, offsets = self._network.forward(["output1", "output2", "output3"])

        ranking = scores.reshape(_GRID, _GRID) * self._window
        row, column = np.unravel_index(ranking.argmax(), ranking.shape)
        score = float(ranking[row, column])
        if score < _LEAST_SCORE:
            return Track(np.array(self._box, dtype=np.float64), score, TrackState.NOT_FOUND)
        center = (offsets.reshape(2, _GRID, _GRID)[:, row, column] + np.array([column, row], np.float32)) / _GRID
        size = sizes.reshape(2, _GRID, _GRID)[:, row, column]
        corner = (center - size / 2) * window.width + np.array([window.x0, window.y0], np.float32)
        x, y, w, h = (floor(v) for v in (*corner, *(size * window.width)))
        # Deviation: OpenCV lets a side become 0 and fails on the next frame.
        self._box = (x, y, max(w, 1), max(h, 1))
        return Track(np.array(self._box, dtype=np.float64), score, TrackState.NORMAL)

    def _window_around(self, factor: int) -> Window:
        x, y, w, h = self._box
        side = ceil(sqrt(w * h) * factor)
        return Window(x + int((w - side) / 2), y + int((h - side) / 2), side, side)

    def _blob(self, frame: np.ndarray, window: Window, crop_size: int) -> np.ndarray:
        crop = cv2.cvtColor(window.cut(frame, crop_size), cv2.COLOR_RGB2BGR)
        return cv2.dnn.blobFromImageWithParams(crop, self._normalization)


def load(request: TrackerRequest) -> LoadedTracker:
    """Read and check the networks of VitTrack.

    Args:
        request: Request with the ONNX files in the order of `ROLES`.

    Raises:
        UserError: If a file is missing or unreadable, or a file does not fit its role.
    """
    return load_onnx(request, VitTracker, ROLES)
