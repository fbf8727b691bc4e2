"""A base tracker whose boxes are refined frame by frame."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.errors import UserError, naming
from alpharefine.evaluation.config import TrackerConfig
from alpharefine.evaluation.settings import RefinementSettings, time_limits
from alpharefine.inference.loading import LoadedNetwork, load_network
from alpharefine.inference.refiner import Refinement, Refiner
from alpharefine.trackers import LoadedTracker, Track, Tracker, TrackerEntry, TrackState, load_tracker

NO_FRAME = np.empty((0, 0, 3), dtype=np.uint8)
"""Frame of a tracker that does not use frames, or reads the files itself."""


class Step(NamedTuple):
    """Result for one frame.

    Attributes:
        track: Result of the base tracker.
        refinement: Refinement of its box. None if the box is not refined.
    """

    track: Track
    refinement: Refinement | None

    @property
    def box_xywh(self) -> np.ndarray:
        """Refined box, or the box of the tracker if it is not refined, ``(4,)`` in image pixels."""
        return self.track.box_xywh if self.refinement is None else self.refinement.box_xywh


class RefinedTracker:
    """One run of a tracker over one sequence. Refined boxes are passed back to the tracker if the settings say so.

    Args:
        tracker: Base tracker.
        entry: Registry entry of the tracker.
        refiner: Refiner. None runs the tracker alone.
        settings: Settings of the refinement. None without a refiner.

    Attributes:
        counts: Number of frames by key of `alpharefine.evaluation.failures.FRAME_COUNTS`.
        times_ms: Milliseconds of the base tracker and of the refinement in the last frame.
    """

    def __init__(
        self, tracker: Tracker, entry: TrackerEntry, refiner: Refiner | None, settings: RefinementSettings | None
    ) -> None:
        self._tracker, self._refiner, self._settings = tracker, refiner, settings
        self._keeps_frames = refiner is not None and entry.may_change_frames
        self._kept = NO_FRAME
        self.counts: Counter[str] = Counter()
        self.times_ms = (0.0, 0.0)

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8, or `NO_FRAME`.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        intact, start = self._keep(frame), perf_counter()
        self._tracker.initialize(frame, box_xywh.copy())
        middle = perf_counter()
        if self._refiner is not None:
            self._refiner.initialize(intact, box_xywh)
        self._note_times(start, middle)

    def track(self, frame: np.ndarray) -> Step:
        """Locate the target in the next frame.

        Args:
            frame: Next frame, ``(H, W, 3)`` RGB uint8, or `NO_FRAME`.
        """
        intact, start = self._keep(frame), perf_counter()
        track = self._tracker.track(frame)
        middle = perf_counter()
        step = Step(track, self._refine(intact, track))
        self._note_times(start, middle)
        return step

    def _note_times(self, start: float, middle: float) -> None:
        self.times_ms = (1e3 * (middle - start), 1e3 * (perf_counter() - middle))

    def _keep(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame that the tracker cannot change: a copy, in one buffer, if the tracker is not of this package.

        The tracker gets the frame itself, which it may keep and draw on.
        """
        if not self._keeps_frames or frame is NO_FRAME:
            return frame
        if self._kept.shape != frame.shape:
            self._kept = np.empty_like(frame)
        np.copyto(self._kept, frame)
        return self._kept

    def _refine(self, frame: np.ndarray, track: Track) -> Refinement | None:
        """Refine the box of a frame. Return None and count the reason where the box of the tracker is kept."""
        refiner, settings = self._refiner, self._settings
        reason = None if is_valid(track.box_xywh) else "invalid_box"
        if reason is None and settings is not None:
            reason = _why_not(track, settings)
        if reason is not None:
            self.counts[reason] += 1
            return None
        if refiner is None or settings is None:
            return None
        refinement = refiner.refine(frame, track.box_xywh, mask=settings.saves_box_masks)
        self.counts[outcome_of(refinement)] += 1
        if not refinement.refined:
            return None
        withhold = settings.when_lost != "refine" and track.state is TrackState.NOT_FOUND
        if settings.feedback and not withhold and refinement.score >= settings.min_feedback_score:
            self._tracker.set_box(refinement.box_xywh.copy())
        if not settings.save_masks or settings.saves_box_masks:
            return refinement
        return replace(refinement, mask=refiner.segment(frame, mask_region(refinement)))


def load_base_tracker(tracker: TrackerConfig, refiner: Refiner | None, device: str = "auto") -> LoadedTracker:
    """Load the base tracker of a run.

    Args:
        tracker: Base tracker.
        refiner: Refiner of the run. None without refinement.
        device: Torch device. ``auto`` selects the GPU if there is one.

    Raises:
        UserError: If a file is missing or invalid, or the code of the tracker fails.
    """
    with naming(f"--tracker {tracker.name} cannot be built"):
        return load_tracker(
            tracker.name, weights=tracker.weights, refiner=refiner, device=device, limits=time_limits(tracker)
        )


def load_refiner(
    settings: RefinementSettings, device: str = "auto", checkpoint: LoadedNetwork | None = None
) -> Refiner:
    """Build the refiner of a run.

    Args:
        settings: Refinement settings.
        device: Torch device. ``auto`` selects the GPU if there is one.
        checkpoint: Loaded checkpoint `settings.ckpt`. None loads it.

    Raises:
        UserError: If the checkpoint is missing or does not hold a refinement network.
    """
    if checkpoint is None:
        checkpoint = load_network(settings.ckpt, settings.geometry)
    backend = checkpoint.make_backend(device, settings.precision)
    return Refiner(backend, settings.box_from, settings.mask_threshold, settings.flip_test)


def _why_not(track: Track, settings: RefinementSettings) -> str | None:
    """Return the reason why the settings leave a box unrefined. None if it is refined."""
    if settings.when_lost == "keep" and track.state is TrackState.NOT_FOUND:
        return "lost"
    if settings.min_score is None:
        return None
    if np.isnan(track.score):
        raise UserError("`--min_score` requires a tracker that gives scores, got the score NaN; leave it out.")
    return None if track.score >= settings.min_score else "low_score"


def outcome_of(refinement: Refinement) -> str:
    """Return the key of `alpharefine.evaluation.failures.FRAME_COUNTS` that counts a refinement.

    Args:
        refinement: Refinement of one box.
    """
    return "refined" if refinement.refined else refinement.failure or "not_found"


def mask_region(refinement: Refinement) -> np.ndarray:
    """Return the box, ``(4,)`` xywh, around which the mask is predicted: the unclipped box if it is valid."""
    return refinement.raw_box_xywh if is_valid(refinement.raw_box_xywh) else refinement.box_xywh
