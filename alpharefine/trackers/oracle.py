"""Oracles: base trackers that know half of the truth, to tell apart what the refiner does for position and for size.

`OracleTracker` knows nothing else; `CentredTracker` is any other tracker, put back on its target after every frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from alpharefine.boxes import clip_to_image, is_valid, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.errors import UserError
from alpharefine.trackers.base import Track, Tracker, TrackerSource, TrackState

CENTRED = "oracle:"
"""What the name of a tracker begins with that is put back on its target after every frame."""


class OracleTracker:
    """The true centre with the last size, or the true size about the last centre.

    Where the ground truth is no box, the target is not found and the last box stays.

    Args:
        boxes_xywh: ``(N, 4)`` ground truth in image pixels; the first row belongs to the frame of `initialize`.
        knows: which half is the truth.
    """

    def __init__(self, boxes_xywh: np.ndarray, knows: Literal["centre", "size"]) -> None:
        self._boxes_xywh = np.asarray(boxes_xywh, dtype=np.float64)
        self._knows = knows

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:  # noqa: ARG002 - the protocol's
        """Go back to the first frame."""
        self._index = 0
        self.set_box(box_xywh)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box."""
        self._box_xywh = np.array(box_xywh, dtype=np.float64)

    def track(self, frame: np.ndarray) -> Track:  # noqa: ARG002 - the protocol's
        """The known half of the next frame's truth with the other half of the last box."""
        self._index += 1
        true_xywh = self._boxes_xywh[self._index]
        if not is_valid(true_xywh):
            return Track(self._box_xywh.copy(), float("nan"), TrackState.NOT_FOUND)
        centred, sized = (true_xywh, self._box_xywh) if self._knows == "centre" else (self._box_xywh, true_xywh)
        centre, size = centred[:2] + 0.5 * centred[2:], sized[2:]
        self._box_xywh = np.concatenate([centre - 0.5 * size, size])
        return Track(self._box_xywh.copy(), float("nan"), TrackState.NORMAL)


def oracle_source(name: str, knows: Literal["centre", "size"]) -> TrackerSource:
    """An oracle that knows the true centre or the true size."""
    return TrackerSource(
        name,
        accepts_feedback=True,
        needs_frames=False,
        gives_score=False,
        open=lambda _, boxes_xywh: OracleTracker(boxes_xywh, knows),
    )


class CentredTracker:
    """A tracker that looks for its target about the true centre in every frame: what perfect localisation would give.

    Its boxes are its own, inside the picture, with sides of at least 10 px (or the picture's own). Where the
    ground truth is no box, it goes on from where it was.

    Args:
        tracker: the one that is put back.
        boxes_xywh: ``(N, 4)`` ground truth in image pixels; the first row belongs to the frame of `initialize`.
    """

    def __init__(self, tracker: Tracker, boxes_xywh: np.ndarray) -> None:
        self._tracker = tracker
        self._boxes_xywh = np.asarray(boxes_xywh, dtype=np.float64)

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target."""
        self._index = 0
        self._tracker.initialize(frame, box_xywh)

    def track(self, frame: np.ndarray) -> Track:
        """The tracker's own box; its centre is the truth's after that, its size stays."""
        self._index += 1
        track = self._tracker.track(frame)
        if not is_valid(track.box_xywh):
            return track
        if is_valid(self._boxes_xywh[self._index]):
            self.set_box(track.box_xywh)
        clipped_xyxy = clip_to_image(xywh_to_xyxy(track.box_xywh), (frame.shape[0], frame.shape[1]))
        return track._replace(box_xywh=xyxy_to_xywh(clipped_xyxy))

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the size of the last box; the centre is the truth's, where there is one."""
        true_xywh = self._boxes_xywh[self._index]
        centred = true_xywh if is_valid(true_xywh) else np.asarray(box_xywh, dtype=np.float64)
        size = np.asarray(box_xywh[2:], dtype=np.float64)
        self._tracker.set_box(np.concatenate([centred[:2] + 0.5 * centred[2:] - 0.5 * size, size]))


def centred_source(source: TrackerSource) -> TrackerSource:
    """The tracker of another source, put back on its target after every frame.

    Raises:
        UserError: if it cannot be put anywhere.
    """
    if not source.accepts_feedback:
        raise UserError(f"--tracker {CENTRED}{source.name}: {source.name} cannot be told where its target is.")
    return replace(
        source,
        name=f"{CENTRED}{source.name}",
        open=lambda name, boxes_xywh: CentredTracker(source.open(name, boxes_xywh), boxes_xywh),
    )
