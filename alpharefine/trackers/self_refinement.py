"""Self: no base tracker at all; the refiner is fed its own last box."""

from __future__ import annotations

import numpy as np

from alpharefine.trackers.base import BoxRefiner, Track, TrackState


class SelfTracker:
    """Proposes the last box for the next frame, refined once already where a refiner is given.

    Args:
        refiner: makes a first pass inside of `track`, having been shown the target by the caller. None for no pass.
    """

    def __init__(self, refiner: BoxRefiner | None = None) -> None:
        self._refiner = refiner

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:  # noqa: ARG002 - the protocol's
        """Take the first box."""
        self.set_box(box_xywh)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box."""
        self._box_xywh = np.array(box_xywh, dtype=np.float64)

    def track(self, frame: np.ndarray) -> Track:
        """The last box."""
        if self._refiner is not None:
            refinement = self._refiner.refine(frame, self._box_xywh)
            if refinement.refined:
                self.set_box(refinement.box_xywh)
        return Track(self._box_xywh.copy(), float("nan"), TrackState.NORMAL)
