"""Self-refinement: no base tracker; the refiner takes its own last box as input."""

from __future__ import annotations

import numpy as np

from alpharefine.trackers.base import BoxRefiner, Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest


class SelfTracker(Tracker):
    """Returns the last box for the next frame.

    Args:
        refiner: Refiner, initialized by the caller, that refines the last box once in `track`; None for no such pass.
    """

    def __init__(self, refiner: BoxRefiner | None = None) -> None:
        self._refiner = refiner

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:  # noqa: ARG002 - the protocol's
        """Store the first box.

        Args:
            frame: Not used.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self.set_box(box_xywh)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box."""
        self._box_xywh = np.array(box_xywh, dtype=np.float64)

    def track(self, frame: np.ndarray) -> Track:
        """Return the last box, refined once if there is a refiner that finds the target."""
        if self._refiner is not None:
            refinement = self._refiner.refine(frame, self._box_xywh)
            if refinement.refined:
                self.set_box(refinement.box_xywh)
        return Track(self._box_xywh.copy(), float("nan"), TrackState.NORMAL)


def load_once(request: TrackerRequest) -> LoadedTracker:  # noqa: ARG001 - the signature of `TrackerEntry.load`
    """Load the tracker that returns the last box; the evaluation refines it.

    Args:
        request: Request for the tracker.
    """
    return LoadedTracker(lambda _: SelfTracker())


def load_twice(request: TrackerRequest) -> LoadedTracker:
    """Load the tracker that refines the last box; the evaluation refines it again.

    Args:
        request: Request with the refiner of the evaluation.
    """
    return LoadedTracker(lambda _: SelfTracker(request.refiner))
