"""Run stage for trackers that run here: a base tracker with or without refinement, one sequence at a time."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import cv2
import numpy as np

from alpharefine.boxes import MARGIN, are_corners, is_valid
from alpharefine.checkpoints.loading import LoadedCheckpoint, load_checkpoint
from alpharefine.data.images import read_image
from alpharefine.errors import SequenceError, UserError, describe_exception
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.failures import FrameCounts
from alpharefine.evaluation.settings import RefinementSettings, RunSettings, time_limits
from alpharefine.inference.refiner import Refinement, Refiner
from alpharefine.trackers import Track, Tracker, TrackerEntry, TrackState, find_tracker, load_tracker

TIME_COLUMNS = ("decode", "base", "refine")
"""Columns of a times file: milliseconds per frame for image decoding, base tracker and refinement."""

NO_FRAME = np.empty((0, 0, 3), dtype=np.uint8)
"""Frame of a tracker that does not use frames, or reads the files itself."""


@dataclass(frozen=True)
class SequenceResult:
    """Boxes and times of one sequence of N frames.

    Attributes:
        boxes_xywh: Boxes, ``(N, 4)`` float64 in image pixels. The first row is the box that initialized the tracker.
        times_ms: Milliseconds per frame, ``(N, 3)`` with the columns `TIME_COLUMNS`.
        masks: Encoded PNG images, one for each frame after the first. None if masks are not saved.
        counts: Number of frames by key of `alpharefine.evaluation.failures.FRAME_COUNTS`.
    """

    boxes_xywh: np.ndarray
    times_ms: np.ndarray
    masks: list[bytes] | None = None
    counts: FrameCounts = field(default_factory=dict)


class SequenceJob(NamedTuple):
    """One sequence of one run.

    Attributes:
        run: Name of the run, ``base`` or ``refined``.
        sequence: Sequence with its frames.
    """

    run: str
    sequence: EvaluationSequence


class SequenceOutcome(NamedTuple):
    """Outcome of a `SequenceJob`: its result, or the error that ended its sequence.

    Attributes:
        run: Name of the run.
        name: Name of the sequence.
        result: Result or error.
    """

    run: str
    name: str
    result: SequenceResult | SequenceError


def failed_job(job: SequenceJob, reason: str) -> SequenceOutcome:
    """Return the outcome of a job that failed.

    Args:
        job: Job.
        reason: Reason of the failure.
    """
    return SequenceOutcome(job.run, job.sequence.name, SequenceError(reason))


def load_refiner(
    settings: RefinementSettings, device: str = "auto", checkpoint: LoadedCheckpoint | None = None
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
        checkpoint = load_checkpoint(settings.ckpt, settings.geometry)
    return Refiner.from_network(
        checkpoint.network,
        device,
        precision=settings.precision,
        box_from=settings.box_from,
        mask_threshold=settings.mask_threshold,
        flip_test=settings.flip_test,
    )


class TrackerRunner:
    """A base tracker and a refiner that are loaded once and run any number of sequences.

    Args:
        settings: Settings of each run by name. The runs differ only in their refinement.
        device: Torch device of the refiner and of trackers in PyTorch. ``auto`` selects the GPU if there is one.
        checkpoint: Loaded checkpoint of the refiner. None loads it.

    Raises:
        UserError: If a file is missing or invalid.
    """

    def __init__(
        self, settings: dict[str, RunSettings], device: str = "auto", checkpoint: LoadedCheckpoint | None = None
    ) -> None:
        self._settings = settings
        refinement = next((run.refinement for run in settings.values() if run.refinement is not None), None)
        self.refiner = None if refinement is None else load_refiner(refinement, device, checkpoint)
        tracker = next(iter(settings.values())).tracker
        self._entry = find_tracker(tracker.name)
        try:
            self._tracker = load_tracker(
                tracker.name,
                weights=tracker.weights,
                refiner=self.refiner,
                device=device,
                limits=time_limits(tracker),
            )
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(f"--tracker {tracker.name} cannot be built: {describe_exception(error)}.") from error

    def run_all(self, jobs: Iterable[SequenceJob]) -> Iterator[SequenceOutcome]:
        """Run jobs one after the other and yield the outcome of each.

        An exception ends its sequence and not the others: the tracker and the network were built before the first one.

        Args:
            jobs: Jobs in the order in which they run.
        """
        for job in jobs:
            try:
                outcome = SequenceOutcome(job.run, job.sequence.name, self(job.run, job.sequence))
            except (Exception, SystemExit) as error:
                outcome = failed_job(job, describe_exception(error))
            yield outcome

    def __call__(self, run: str, sequence: EvaluationSequence) -> SequenceResult:
        """Run one sequence from its first frame to its last.

        Args:
            run: Name of the run.
            sequence: Sequence with its frames.

        Raises:
            UserError: If a frame cannot be decoded or has another size, the first box lies outside the first frame, or
                the tracker fails.
            Exception: If the code of the tracker raises it.
        """
        settings = self._settings[run].refinement
        refiner = None if settings is None else self.refiner
        truth_xywh = sequence.truth.boxes_xywh.copy()  # the tracker cannot change the ground truth that is scored
        frame_paths = sequence.frame_paths if refiner is not None or self._entry.needs_frames else None
        tracker = self._tracker.open(sequence.name, truth_xywh, sequence.frame_paths)
        with contextlib.closing(tracker):
            loop = _SequenceLoop(tracker, self._entry, refiner, settings)
            return loop.run(sequence.name, sequence.truth.boxes_xywh, frame_paths)


class _SequenceLoop:
    """One run of a tracker over one sequence. Refined boxes are passed back to the tracker if the settings say so."""

    def __init__(
        self, tracker: Tracker, entry: TrackerEntry, refiner: Refiner | None, settings: RefinementSettings | None
    ) -> None:
        self._tracker, self._refiner, self._settings = tracker, refiner, settings
        self._decodes_all = refiner is not None or not entry.opens_files  # the first frame is always decoded
        self._keeps_frames = refiner is not None and entry.may_change_frames
        self._saves_masks = settings is not None and settings.save_masks
        self._counts: Counter[str] = Counter()
        self._kept = NO_FRAME

    def run(self, name: str, truth_xywh: np.ndarray, frame_paths: Iterable[Path] | None) -> SequenceResult:
        num_frames = len(truth_xywh)
        boxes_xywh, times_ms = np.empty((num_frames, 4)), np.zeros((num_frames, len(TIME_COLUMNS)))
        boxes_xywh[0] = truth_xywh[0]
        masks: list[bytes] = []
        paths = iter(frame_paths) if frame_paths is not None else None
        first_size = None
        watch = _Stopwatch()
        for t in range(num_frames):
            path = None if paths is None else next(paths)
            frame = read_image(path) if path is not None and (t == 0 or self._decodes_all) else NO_FRAME
            decode_ms = watch.lap()
            if path is not None and frame is not NO_FRAME:
                first_size = first_size or frame.shape
                require_size(path, frame, first_size)
            intact = self._keep(frame)
            if t == 0:
                if path is not None:
                    require_in_frame(name, truth_xywh, frame)
                self._tracker.initialize(frame, truth_xywh[0].copy())
                base_ms = watch.lap()
                if self._refiner is not None:
                    self._refiner.initialize(intact, truth_xywh[0])
                times_ms[t] = decode_ms, base_ms, watch.lap()
                continue
            track = self._tracker.track(frame)
            boxes_xywh[t], base_ms = track.box_xywh, watch.lap()
            refinement = self._refine(intact, track)
            if refinement is not None:
                boxes_xywh[t] = refinement.box_xywh
            times_ms[t] = decode_ms, base_ms, watch.lap()
            if self._saves_masks:
                masks.append(self._mask_png(intact, refinement))
                watch.lap()
        counts = {**self._counts, "frames": num_frames - 1}
        return SequenceResult(boxes_xywh, times_ms, masks if self._saves_masks else None, counts)

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
            self._counts[reason] += 1
            return None
        if refiner is None or settings is None:
            return None
        refinement = refiner.refine(frame, track.box_xywh, mask=settings.saves_box_masks)
        self._counts[outcome_of(refinement)] += 1
        if not refinement.refined:
            return None
        withhold = settings.when_lost != "refine" and track.state is TrackState.NOT_FOUND
        if settings.feedback and not withhold and refinement.score >= settings.min_feedback_score:
            self._tracker.set_box(refinement.box_xywh.copy())
        if not settings.save_masks or settings.saves_box_masks:
            return refinement
        return replace(refinement, mask=refiner.segment(frame, mask_region(refinement)))

    def _mask_png(self, frame: np.ndarray, refinement: Refinement | None) -> bytes:
        assert self._settings is not None
        mask = None if refinement is None else refinement.mask
        return encode_mask(mask, frame.shape[:2], self._settings.mask_threshold)


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


class _Stopwatch:
    def __init__(self) -> None:
        self._last = perf_counter()

    def lap(self) -> float:
        """Return the milliseconds since the last lap."""
        now = perf_counter()
        elapsed, self._last = now - self._last, now
        return 1e3 * elapsed


def mask_region(refinement: Refinement) -> np.ndarray:
    """Return the box, ``(4,)`` xywh, around which the mask is predicted: the unclipped box if it is valid."""
    return refinement.raw_box_xywh if is_valid(refinement.raw_box_xywh) else refinement.box_xywh


def encode_mask(mask: np.ndarray | None, image_size: tuple[int, int], threshold: float) -> bytes:
    """Encode a mask as a black-and-white PNG image in which the target is white.

    Args:
        mask: Probability map, ``(H, W)``. None is an empty mask.
        image_size: Height and width in pixels.
        threshold: Probability above which a pixel belongs to the target.
    """
    inside = np.zeros(image_size, bool) if mask is None else mask > threshold
    return cv2.imencode(".png", inside.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()


def require_in_frame(name: str, truth_xywh: np.ndarray, frame: np.ndarray) -> None:
    """Check that the boxes of a sequence fit its frames, and that the first box is in the first frame.

    Args:
        name: Name of the sequence.
        truth_xywh: Ground truth, ``(N, 4)`` in image pixels.
        frame: First frame, ``(H, W, 3)``.

    Raises:
        UserError: If the first box lies outside the frame or is larger, or the boxes are x1, y1, x2, y2.
    """
    (x, y, w, h), (height, width) = truth_xywh[0].tolist(), frame.shape[:2]
    if are_corners(truth_xywh, (height, width)):
        raise UserError(
            f"Sequence {name}: the ground truth must be x,y,w,h in pixels, but its boxes leave the frame of "
            f"{width}x{height} px (the first is {x:g},{y:g},{w:g},{h:g}) and fit it as x1,y1,x2,y2; convert it."
        )
    is_outside = x >= width or y >= height or x + w <= 0 or y + h <= 0
    if is_outside or w > (1 + MARGIN) * width or h > (1 + MARGIN) * height:
        fault = "lies outside" if is_outside else "is larger than"
        raise UserError(
            f"Sequence {name}: its first box {[x, y, w, h]} {fault} the first frame of {width}x{height} px. The "
            "tracker starts from this box: correct the ground truth, or leave the sequence out."
        )


def require_size(path: Path, frame: np.ndarray, first_size: tuple[int, ...]) -> None:
    """Check that a frame has the size of the first frame of its sequence.

    Args:
        path: Path of the frame.
        frame: Frame, ``(H, W, 3)``.
        first_size: Shape of the first frame.

    Raises:
        SequenceError: If the size differs.
    """
    if frame.shape != first_size:
        size, first = (f"{shape[1]}x{shape[0]} px" for shape in (frame.shape, first_size))
        raise SequenceError(
            f"{path} has {size}, the first frame of its sequence has {first}; the frames of a sequence must have one "
            "size: restore it, or leave the sequence out."
        )


def require_frames(sequences: Iterable[EvaluationSequence], reader: str) -> None:
    """Check that the frames of all sequences are available.

    Args:
        sequences: Sequences to run.
        reader: Name of what needs the frames, for the message.

    Raises:
        UserError: If only annotations are available.
    """
    for sequence in sequences:
        if sequence.frame_paths is None:
            raise UserError(f"{reader} reads the frames of {sequence.name}: give `--data_root`.")
