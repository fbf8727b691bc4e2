"""Oracles: base trackers that know half of the truth, to tell apart what the refiner does for position and for size."""

from __future__ import annotations

from typing import Literal

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.trackers.base import Track, TrackerSource, TrackState


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
