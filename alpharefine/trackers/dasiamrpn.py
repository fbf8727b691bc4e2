"""DaSiamRPN: a siamese tracker with anchors, with the boxes of `cv2.TrackerDaSiamRPN`.

Constants and order of the steps are those of OpenCV (`modules/video/src/tracking/tracker_dasiamrpn.cpp`). Unlike in
OpenCV, the box can be set without a new template. The networks take BGR.
"""

from __future__ import annotations

import cv2
import numpy as np

from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest
from alpharefine.trackers.onnx_networks import load_onnx
from alpharefine.trackers.siamese import AnchorGrid, context_side, cut_square, hanning_window, smooth_box

ROLES = ("model", "kernel_cls1", "kernel_r1")
"""Roles of the ONNX files, in order."""

_TEMPLATE_SIZE = 127
_SEARCH_SIZE = 271
_GRID = 19
_PENALTY = 0.055
_WINDOW_INFLUENCE = 0.43
_RATE = 0.4
_NODE = "onnx_node_output_0!"  # name in `cv2.dnn` of the node that produces a tensor of an ONNX graph
_FEATURES, _BOX_KERNEL, _SCORE_KERNEL = f"{_NODE}63", f"{_NODE}65", f"{_NODE}68"


class DaSiamRPNTracker(Tracker):
    """DaSiamRPN in one sequence.

    Args:
        model: Network that maps a crop to distances and scores; the weights of two of its convolutions are the
            template.
        kernel_cls1: Network that maps the template's features to the weights of the score branch.
        kernel_r1: Network that maps the template's features to the weights of the box branch.

    Raises:
        ValueError: If a kernel network has more than one output.
    """

    def __init__(self, model: cv2.dnn.Net, kernel_cls1: cv2.dnn.Net, kernel_r1: cv2.dnn.Net) -> None:
        for role, network in zip(ROLES[1:], (kernel_cls1, kernel_r1), strict=True):
            if (num_outputs := len(network.getUnconnectedOutLayersNames())) != 1:
                raise ValueError(f"`{role}` must have one output, got {num_outputs}.")
        self._model = model
        self._kernel_cls1 = kernel_cls1
        self._kernel_r1 = kernel_r1
        self._outputs = model.getUnconnectedOutLayersNames()
        self._grid = AnchorGrid(hanning_window(_GRID))

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self.set_box(box_xywh)
        self._color = cv2.mean(frame)
        side = round(context_side(self._size))
        self._model.setInput(self._blob(frame, side, _TEMPLATE_SIZE))
        features = self._model.forward(_FEATURES)
        self._kernel_cls1.setInput(features)
        self._kernel_r1.setInput(features)
        self._model.setParam(_BOX_KERNEL, 0, self._kernel_r1.forward().reshape(20, 256, 4, 4))
        self._model.setParam(_SCORE_KERNEL, 0, self._kernel_cls1.forward().reshape(10, 256, 4, 4))

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
        side = context_side(self._size)
        scale = _TEMPLATE_SIZE / side
        search_side = round(side * _SEARCH_SIZE / _TEMPLATE_SIZE)
        self._model.setInput(self._blob(frame, search_side, _SEARCH_SIZE))
        deltas, logits = self._model.forward(self._outputs)

        best = self._grid.best(
            logits.reshape(2, -1, _GRID, _GRID),
            deltas.reshape(4, -1, _GRID, _GRID),
            (self._size * scale).astype(np.float32),
            _PENALTY,
            _WINDOW_INFLUENCE,
        )
        rate = best.penalty * best.score * _RATE
        self._center, self._size = smooth_box(
            self._center + best.shift / scale, best.size / scale, self._size, rate, frame.shape[:2]
        )
        return Track(np.concatenate([self._center - 0.5 * self._size, self._size]), best.score, TrackState.NORMAL)

    def _blob(self, frame: np.ndarray, side: int, crop_size: int) -> np.ndarray:
        x0, y0 = (round(v - 0.5 * (side + 1)) for v in self._center)
        return cv2.dnn.blobFromImage(cut_square(frame, x0, y0, side, crop_size, self._color), swapRB=True)


def load(request: TrackerRequest) -> LoadedTracker:
    """Read and check the networks of DaSiamRPN.

    Args:
        request: Request with the ONNX files in the order of `ROLES`.

    Raises:
        UserError: If a file is missing or unreadable, or a file does not fit its role.
    """
    return load_onnx(request, DaSiamRPNTracker, ROLES)
