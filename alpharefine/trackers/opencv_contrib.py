"""CSRT and KCF of OpenCV's contrib modules.

These trackers search around their own last box and cannot be given another one without a new initialization, so they do
not accept feedback. Sources: CSRT (Lukezic et al., CVPR 2017), KCF (Henriques et al., TPAMI 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from alpharefine.errors import SequenceError, UserError
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest


class ContribTracker(Tracker):
    """Tracker of OpenCV's contrib modules.

    Args:
        name: Name of the tracker, for messages.
        create: Function that returns a new OpenCV tracker.
    """

    def __init__(self, name: str, create: Callable[[], Any]) -> None:
        self._name = name
        self._create = create

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame; the box is rounded to whole pixels.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.

        Raises:
            SequenceError: If OpenCV refuses the frame or the box.
        """
        x, y, w, h = (round(float(value)) for value in box_xywh)
        self._last_xywh = np.array(box_xywh, dtype=np.float64)
        self._tracker = self._create()
        try:
            self._tracker.init(_bgr(frame), (x, y, w, h))
        except cv2.error as error:
            raise self._failure(error) from error

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame. If OpenCV does not find it, the last box is returned.

        Raises:
            SequenceError: If OpenCV fails.
        """
        try:
            found, box_xywh = self._tracker.update(_bgr(frame))
        except cv2.error as error:
            raise self._failure(error) from error
        if found:
            self._last_xywh = np.array(box_xywh, dtype=np.float64)
        return Track(self._last_xywh.copy(), float("nan"), TrackState.NORMAL if found else TrackState.NOT_FOUND)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Do nothing: OpenCV has no function for feedback."""

    def _failure(self, error: cv2.error) -> SequenceError:
        return SequenceError(f"--tracker {self._name}: OpenCV fails ({' '.join(str(error).split())}).")


def load_csrt(request: TrackerRequest) -> LoadedTracker:
    """Load CSRT.

    Args:
        request: Request for the tracker.

    Raises:
        UserError: If OpenCV is installed without its contrib modules.
    """
    return _load(request.name, "TrackerCSRT")


def load_kcf(request: TrackerRequest) -> LoadedTracker:
    """Load KCF.

    Args:
        request: Request for the tracker.

    Raises:
        UserError: If OpenCV is installed without its contrib modules.
    """
    return _load(request.name, "TrackerKCF")


def _load(name: str, class_name: str) -> LoadedTracker:
    tracker_class = getattr(cv2, class_name, None) or getattr(getattr(cv2, "legacy", None), class_name, None)
    if tracker_class is None:
        raise UserError(
            f"--tracker {name} needs OpenCV's contrib modules, which OpenCV {cv2.__version__} here does not have; "
            "install opencv-contrib-python in place of opencv-python."
        )
    return LoadedTracker(lambda _: ContribTracker(name, tracker_class.create))


def _bgr(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
