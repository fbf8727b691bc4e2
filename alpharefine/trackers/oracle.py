"""Oracles: base trackers that know a part of the ground truth. They separate the errors of position and of size.

`OracleTracker` has no appearance model. `CenteredTracker` is another tracker that is moved to the true center after
every frame.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from alpharefine.boxes import clip_to_image, is_valid, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackedSequence, TrackerRequest


class OracleTracker(Tracker):
    """Combines the true center with the last size, or the true size with the last center.

    In frames without a valid ground-truth box, the last box is returned in state `NOT_FOUND`.

    Args:
        boxes_xywh: Ground truth, ``(N, 4)`` in image pixels; the first row belongs to the frame of `initialize`.
        knows: Part of the box that is taken from the ground truth.
    """

    def __init__(self, boxes_xywh: np.ndarray, knows: Literal["center", "size"]) -> None:
        self._boxes_xywh = np.asarray(boxes_xywh, dtype=np.float64)
        self._knows = knows

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:  # noqa: ARG002 - the protocol's
        """Return to the first frame.

        Args:
            frame: Not used.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self._index = 0
        self.set_box(box_xywh)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box."""
        self._box_xywh = np.array(box_xywh, dtype=np.float64)

    def track(self, frame: np.ndarray) -> Track:  # noqa: ARG002 - the protocol's
        """Return the known part of the next ground-truth box, combined with the other part of the last box."""
        self._index += 1
        true_xywh = self._boxes_xywh[self._index]
        if not is_valid(true_xywh):
            return Track(self._box_xywh.copy(), float("nan"), TrackState.NOT_FOUND)
        of_center, of_size = (true_xywh, self._box_xywh) if self._knows == "center" else (self._box_xywh, true_xywh)
        center, size = of_center[:2] + 0.5 * of_center[2:], of_size[2:]
        self._box_xywh = np.concatenate([center - 0.5 * size, size])
        return Track(self._box_xywh.copy(), float("nan"), TrackState.NORMAL)


class CenteredTracker(Tracker):
    """Tracker that searches around the true center in every frame, as after perfect localization.

    The boxes are those of the inner tracker, clipped to the image, with sides of at least 10 px (or the size of the
    image). In frames without a valid ground-truth box, the inner tracker is not moved.

    Args:
        tracker: Inner tracker, which accepts feedback.
        boxes_xywh: Ground truth, ``(N, 4)`` in image pixels; the first row belongs to the frame of `initialize`.
    """

    def __init__(self, tracker: Tracker, boxes_xywh: np.ndarray) -> None:
        self._tracker = tracker
        self._boxes_xywh = np.asarray(boxes_xywh, dtype=np.float64)

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self._index = 0
        self._tracker.initialize(frame, box_xywh)

    def track(self, frame: np.ndarray) -> Track:
        """Return the inner tracker's box, and move that tracker to the true center; its size does not change."""
        self._index += 1
        track = self._tracker.track(frame)
        if not is_valid(track.box_xywh):
            return track
        if is_valid(self._boxes_xywh[self._index]):
            self.set_box(track.box_xywh)
        clipped_xyxy = clip_to_image(xywh_to_xyxy(track.box_xywh), (frame.shape[0], frame.shape[1]))
        return track._replace(box_xywh=xyxy_to_xywh(clipped_xyxy))

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the size of the last box; the center is the true one if the ground truth is valid."""
        true_xywh = self._boxes_xywh[self._index]
        of_center = true_xywh if is_valid(true_xywh) else np.asarray(box_xywh, dtype=np.float64)
        size = np.asarray(box_xywh[2:], dtype=np.float64)
        self._tracker.set_box(np.concatenate([of_center[:2] + 0.5 * of_center[2:] - 0.5 * size, size]))

    def close(self) -> None:
        """Close the inner tracker."""
        self._tracker.close()


def load_center(request: TrackerRequest) -> LoadedTracker:  # noqa: ARG001 - the signature of `TrackerEntry.load`
    """Load the oracle that knows the true center.

    Args:
        request: Request for the tracker.
    """
    return LoadedTracker(lambda sequence: OracleTracker(sequence.truth_xywh, "center"))


def load_size(request: TrackerRequest) -> LoadedTracker:  # noqa: ARG001 - the signature of `TrackerEntry.load`
    """Load the oracle that knows the true size.

    Args:
        request: Request for the tracker.
    """
    return LoadedTracker(lambda sequence: OracleTracker(sequence.truth_xywh, "size"))


def center_on_truth(inner: LoadedTracker) -> LoadedTracker:
    """Return a tracker that is moved to the true center after every frame.

    Args:
        inner: Tracker that accepts feedback.
    """

    def make(sequence: TrackedSequence) -> Tracker:
        return CenteredTracker(inner.make(sequence), sequence.truth_xywh)

    return LoadedTracker(make)
