"""Boxes to files: a base tracker, with or without refinement, over sequences in one pass."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal

import cv2
import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.crops import GeometryName
from alpharefine.data.images import read_image
from alpharefine.errors import SequenceError, UserError
from alpharefine.evaluation.processes import run_in_processes
from alpharefine.evaluation.sequences import EvaluationSequence
from alpharefine.inference.options import BoxSource, ComputePrecision
from alpharefine.inference.refiner import Refinement, Refiner
from alpharefine.masks import MASK_THRESHOLD
from alpharefine.trackers import SELF_TRACKERS, Tracker, TrackerSource, load_tracker
from alpharefine.trackers.base import Track, TrackState
from alpharefine.trackers.replay import ReplayTracker
from alpharefine.trackers.trax import TimeLimits, TraxTracker

WhenLost = Literal["refine", "report", "keep"]

MIN_FEEDBACK_SCORE = 0.2
"""Chosen with NanoTrack on five short test sequences, where an unsure refiner made the closed loop drift."""

TIME_COLUMNS = ("decode", "base", "refine")


@dataclass(frozen=True)
class RunSettings:
    """What decides the boxes of a run.

    Attributes:
        tracker: name of the base tracker.
        tracker_weights: its files.
        results_dir: where published results are, for ``replay``.
        results_digest: of their content; None for the folder of one tracker, whose content is looked at itself.
        ckpt: checkpoint of the refiner; None runs the base tracker alone.
        feedback: whether the refined box is handed back to the tracker; None where the tracker can take it.
        min_feedback_score: hand the refined box back only where the refiner's own score is at least this; None for
            `MIN_FEEDBACK_SCORE`, or 0 in the geometry ``original`` and for the refiner fed its own box.
        when_lost: in frames where the tracker says that it has not found its target, refine its box as always, only
            report the refined box and hand nothing back, or keep the tracker's box.
        min_score: refine only where the tracker's score is at least this; None refines every frame.
        data_root: folder of the frames.
        annotations_dir: folder of the ground truth, where that is not read from the data root.
        geometry: of the refiner, in place of the one that its checkpoint records.
        precision: of the refiner.
        box_from: which head the refined box is taken from.
        mask_threshold: probability above which a pixel belongs to the target.
        flip_test: whether the refiner looks at each search region mirrored too.
        save_masks: whether to keep the mask of every frame.
        limits: how long a program of ``cmd:`` may take. The boxes of one that is in time do not depend on it.
    """

    tracker: str
    tracker_weights: tuple[str, ...] = ()
    results_dir: str | None = None
    results_digest: str | None = None
    ckpt: str | None = None
    feedback: bool | None = None
    min_feedback_score: float | None = None
    when_lost: WhenLost = "refine"
    min_score: float | None = None
    data_root: str | None = None
    annotations_dir: str | None = None
    geometry: GeometryName | None = None
    precision: ComputePrecision = "auto"
    box_from: BoxSource = "auto"
    mask_threshold: float = MASK_THRESHOLD
    flip_test: bool = False
    save_masks: bool = False
    limits: TimeLimits = field(default_factory=TimeLimits)


@dataclass(frozen=True)
class SequenceResult:
    """Boxes and times of one sequence.

    Attributes:
        boxes_xywh: ``(N, 4)`` float64; the first row is the ground truth's, or the published one in a replay.
        times_ms: ``(N, 3)``, milliseconds spent on decoding, in the base tracker and on refinement.
        masks: binary pictures in PNG's format, one for each frame after the first; None if they are not kept.
    """

    boxes_xywh: np.ndarray
    times_ms: np.ndarray
    masks: list[bytes] | None = None


def load_refiner(settings: RunSettings, ckpt: str, device: str) -> Refiner:
    """The refiner of a run.

    Args:
        settings: what the run is to do.
        ckpt: the refiner's file.
        device: see `Refiner`.

    Raises:
        UserError: if the file is missing or unfit, or has not the heads that the settings ask for.
    """
    try:
        refiner = Refiner.from_checkpoint(
            ckpt,
            device,
            settings.precision,
            geometry=settings.geometry,
            box_from=settings.box_from,
            mask_threshold=settings.mask_threshold,
            flip_test=settings.flip_test,
        )
    except ValueError as error:
        raise UserError(f"{error} Give another checkpoint, or leave `--box_from` out.") from error
    if settings.save_masks and "mask" not in refiner.heads:
        raise UserError("`--save_masks`: the network has no mask head; leave it out.")
    return refiner


def require_possible(settings: RunSettings, accepts_feedback: bool, gives_score: bool) -> None:
    """Refuse what a tracker cannot do.

    Args:
        settings: what is asked of it.
        accepts_feedback: see `TrackerSource`.
        gives_score: see `TrackerSource`.

    Raises:
        UserError: if it is to take a box back, or to be refined by its score, and cannot.
    """
    if settings.feedback and not accepts_feedback:
        raise UserError(f"`--feedback`: {settings.tracker} cannot take the refined box; use `--no-feedback`.")
    if settings.min_score is not None and not gives_score:
        raise UserError(f"`--min_score`: {settings.tracker} does not tell how sure it is; leave it out.")


def choose_min_feedback_score(settings: RunSettings, geometry: GeometryName | None) -> float:
    """The least score that a box is handed back with, chosen by the refiner's geometry where the settings leave it."""
    if settings.min_feedback_score is not None:
        return settings.min_feedback_score
    return MIN_FEEDBACK_SCORE if geometry == "exact" and settings.tracker not in SELF_TRACKERS else 0.0


class Pipeline:
    """A base tracker and a refiner, loaded once, run over any number of sequences.

    Args:
        settings: what to run.
        device: of the refiner, and of trackers in PyTorch.

    Raises:
        UserError: if a file is missing or unfit, or settings do not go together.
    """

    def __init__(self, settings: RunSettings, device: str = "auto") -> None:
        self.settings = settings
        self.refiner = None if settings.ckpt is None else load_refiner(settings, settings.ckpt, device)
        self.source: TrackerSource = load_tracker(
            settings.tracker,
            weights=[Path(path) for path in settings.tracker_weights],
            results_dir=None if settings.results_dir is None else Path(settings.results_dir),
            refiner=self.refiner,
            device=device,
            limits=settings.limits,
        )
        require_possible(settings, self.source.accepts_feedback, self.source.gives_score)
        self.feedback = self.source.accepts_feedback if settings.feedback is None else settings.feedback
        if settings.tracker in SELF_TRACKERS and not self.feedback:
            raise UserError(f"`--no-feedback`: {settings.tracker} moves by the refined box alone; leave it out.")
        self._draws_from_masks = settings.save_masks and self.refiner is not None and self.refiner.box_head == "mask"
        geometry = None if self.refiner is None else self.refiner.geometry
        self.min_feedback_score = choose_min_feedback_score(settings, geometry)

    def frame_paths(self, sequence: EvaluationSequence) -> list[Path] | None:
        """The frames to read of a sequence; None if nobody looks at them.

        Raises:
            UserError: if frames are looked at and there are none.
        """
        if self.refiner is None and not self.source.needs_frames:
            return None
        if sequence.frame_paths is None:
            raise UserError(
                f"`--tracker {self.settings.tracker}`{' with `--ckpt`' if self.refiner else ''} looks at the frames of "
                f"{sequence.name}: give `--data_root`."
            )
        return sequence.frame_paths

    def __call__(self, sequence: EvaluationSequence) -> SequenceResult:
        """Run one sequence from its first box to its last frame.

        Raises:
            UserError: if a frame does not decode, the first box lies outside of its frame, or the tracker objects.
        """
        tracker = self.source.open(sequence.name, sequence.truth.boxes_xywh)
        if not isinstance(tracker, TraxTracker):
            return self._run(tracker, sequence)
        tracker.frame_paths = sequence.frame_paths
        with contextlib.closing(tracker):
            return self._run(tracker, sequence)

    def run_all(self, sequences: Iterable[EvaluationSequence]) -> Iterator[tuple[str, SequenceResult | SequenceError]]:
        """Run sequences one after the other, and yield each by its name, or what went wrong in it alone.

        Raises:
            UserError: of the first sequence whose fault may be that of others too.
        """
        for sequence in sequences:
            result: SequenceResult | SequenceError
            try:
                result = self(sequence)
            except SequenceError as error:
                result = error
            yield sequence.name, result

    def _run(self, tracker: Tracker, sequence: EvaluationSequence) -> SequenceResult:
        frame_paths, truth = self.frame_paths(sequence), sequence.truth.boxes_xywh
        boxes_xywh, times_ms = np.empty((len(truth), 4)), np.zeros((len(truth), len(TIME_COLUMNS)))
        boxes_xywh[0] = tracker.first_xywh if isinstance(tracker, ReplayTracker) else truth[0]
        masks: list[bytes] = []
        mask: np.ndarray | None = None
        watch = _Stopwatch()
        for t in range(len(truth)):
            looked_at = t == 0 or self.refiner is not None or not self.source.opens_files
            frame = read_image(frame_paths[t]) if frame_paths is not None and looked_at else _NO_FRAME
            decode_ms = watch.lap()
            if t == 0:
                if frame_paths is not None:
                    require_inside(sequence.name, truth[0], frame)
                tracker.initialize(frame, truth[0])
                base_ms = watch.lap()
                if self.refiner is not None:
                    self.refiner.initialize(frame, truth[0])
            else:
                track = tracker.track(frame)
                boxes_xywh[t], base_ms = track.box_xywh, watch.lap()
                mask = None
                if self.refiner is not None and self._is_sure(track) and is_valid(track.box_xywh):
                    refinement = self.refiner.refine(frame, track.box_xywh, mask=self._draws_from_masks)
                    if refinement.refined:
                        boxes_xywh[t] = refinement.box_xywh
                        mask = self._mask(self.refiner, frame, refinement)
                        if self._hands_back(track, refinement):
                            tracker.set_box(refinement.box_xywh)
            times_ms[t] = decode_ms, base_ms, watch.lap()
            if self.settings.save_masks and t > 0:
                masks.append(encode_mask(mask, frame.shape[:2], self.settings.mask_threshold))
                watch.lap()
        return SequenceResult(boxes_xywh, times_ms, masks if self.settings.save_masks else None)

    def _mask(self, refiner: Refiner, frame: np.ndarray, refinement: Refinement) -> np.ndarray | None:
        """The mask to keep: that which the box was drawn around, else one of the window about the refined box."""
        if not self.settings.save_masks or self._draws_from_masks:
            return refinement.mask
        return refiner.segment(frame, mask_region(refinement))

    def _is_sure(self, track: Track) -> bool:
        if self.settings.when_lost == "keep" and track.state is TrackState.NOT_FOUND:
            return False
        if self.settings.min_score is None:
            return True
        if np.isnan(track.score):
            raise UserError(f"`--min_score`: {self.settings.tracker} gave no number as its score; leave it out.")
        return track.score >= self.settings.min_score

    def _hands_back(self, track: Track, refinement: Refinement) -> bool:
        is_lost = self.settings.when_lost != "refine" and track.state is TrackState.NOT_FOUND
        return self.feedback and not is_lost and refinement.score >= self.min_feedback_score


_NO_FRAME = np.empty((0, 0, 3), dtype=np.uint8)


def mask_region(refinement: Refinement) -> np.ndarray:
    """The box ``(4,)`` about which the mask is looked for: not clipped, as in the original, where that is a box."""
    return refinement.raw_box_xywh if is_valid(refinement.raw_box_xywh) else refinement.box_xywh


def encode_mask(mask: np.ndarray | None, image_size: tuple[int, int], threshold: float) -> bytes:
    """A picture that is white where the target is, in PNG's format.

    Args:
        mask: ``(H, W)`` probabilities; None for no target.
        image_size: height and width.
        threshold: above which a pixel belongs to the target.
    """
    inside = np.zeros(image_size, bool) if mask is None else mask > threshold
    return cv2.imencode(".png", inside.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()


def require_inside(name: str, box_xywh: np.ndarray, frame: np.ndarray) -> None:
    """Refuse a target outside of its frame.

    Raises:
        UserError: if the box ``(4,)`` xywh of the sequence of this name does not touch the frame ``(H, W, 3)``.
    """
    (x, y, w, h), (height, width) = box_xywh.tolist(), frame.shape[:2]
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise UserError(
            f"Sequence {name}: its first box {[x, y, w, h]} lies outside of its first frame of {width}x{height} px; a "
            "tracker starts from that box: correct the ground truth, or leave the sequence out."
        )


def check_run(settings: RunSettings, sequences: Iterable[EvaluationSequence]) -> None:
    """Find what is wrong with the settings before the first frame is read.

    Raises:
        UserError: if a file is missing or unfit, or settings do not go together or not with the sequences.
    """
    pipeline = Pipeline(settings, device="cpu")
    for sequence in sequences:
        pipeline.frame_paths(sequence)
        pipeline.source.open(sequence.name, sequence.truth.boxes_xywh)


class _Stopwatch:
    def __init__(self) -> None:
        self._last = perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now = perf_counter()
        elapsed, self._last = now - self._last, now
        return 1e3 * elapsed


def run_sequences(
    settings: RunSettings, sequences: Iterable[EvaluationSequence], num_processes: int = 1
) -> Iterator[tuple[str, SequenceResult | SequenceError]]:
    """Run sequences and yield each as it is done, or what went wrong in it alone.

    Args:
        settings: what to run.
        sequences: which.
        num_processes: see `run_in_processes`; the boxes do not depend on it.

    Raises:
        UserError: of the first sequence whose fault may be that of others too, after those being run have been yielded.
    """
    yield from run_in_processes(functools.partial(Pipeline, settings), sequences, num_processes)
