"""Run stage for trackers that run here: a base tracker with or without refinement, one sequence at a time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alpharefine.data.frame_checks import require_in_frame, require_size
from alpharefine.errors import SequenceError, UserError, describe_exception
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.decoding import decoded
from alpharefine.evaluation.failures import FrameCounts
from alpharefine.evaluation.mask_files import MaskFiles
from alpharefine.evaluation.refined_tracker import NO_FRAME, RefinedTracker, load_base_tracker, load_refiner
from alpharefine.evaluation.settings import RunSettings
from alpharefine.inference.loading import LoadedNetwork
from alpharefine.trackers import find_tracker

TIME_COLUMNS = ("decode", "base", "refine")
"""Columns of a times file: milliseconds per frame for image decoding, base tracker and refinement. Frames are decoded
by a thread during the base tracker and the refinement of earlier frames."""

_NUM_AHEAD = 4
"""Number of frames that are decoded ahead of the tracker."""


@dataclass(frozen=True)
class SequenceResult:
    """Boxes and times of one sequence of N frames.

    Attributes:
        boxes_xywh: Boxes, ``(N, 4)`` float64 in image pixels. The first row is the box that initialized the tracker.
        times_ms: Milliseconds per frame, ``(N, 3)`` with the columns `TIME_COLUMNS`.
        mask_folder: Folder of the masks of `alpharefine.evaluation.mask_files.MaskFiles`, which the folder of the run
            takes over. None if masks are not saved.
        counts: Number of frames by key of `alpharefine.evaluation.failures.FRAME_COUNTS`.
    """

    boxes_xywh: np.ndarray
    times_ms: np.ndarray
    mask_folder: Path | None = None
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


class TrackerRunner:
    """A base tracker and a refiner that are loaded once and run any number of sequences.

    Args:
        settings: Settings of each run by name. The runs differ only in their refinement.
        device: Torch device of the refiner and of trackers in PyTorch. ``auto`` selects the GPU if there is one.
        checkpoint: Loaded checkpoint of the refiner. None loads it.
        mask_dir: Folder on the disk of the results, for the masks of a sequence in progress. None selects the system's
            folder for temporary files.

    Raises:
        UserError: If a file is missing or invalid.
    """

    def __init__(
        self,
        settings: dict[str, RunSettings],
        device: str = "auto",
        checkpoint: LoadedNetwork | None = None,
        mask_dir: Path | None = None,
    ) -> None:
        self._settings, self._mask_dir = settings, mask_dir or Path(tempfile.gettempdir())
        refinement = next((run.refinement for run in settings.values() if run.refinement is not None), None)
        self.refiner = None if refinement is None else load_refiner(refinement, device, checkpoint)
        tracker = next(iter(settings.values())).tracker
        self._entry = find_tracker(tracker.name)
        self._tracker = load_base_tracker(tracker, self.refiner, device)

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
            refined_tracker = RefinedTracker(tracker, self._entry, refiner, settings)
            decodes_all = refiner is not None or not self._entry.opens_files
            if settings is None or not settings.save_masks:
                return _run_sequence(refined_tracker, sequence, frame_paths, decodes_all)
            masks = MaskFiles(self._mask_dir, settings.mask_threshold)
            try:
                return _run_sequence(refined_tracker, sequence, frame_paths, decodes_all, masks)
            except BaseException:
                masks.discard()
                raise


def _run_sequence(
    tracker: RefinedTracker,
    sequence: EvaluationSequence,
    frame_paths: Sequence[Path] | None,
    decodes_all: bool,
    masks: MaskFiles | None = None,
) -> SequenceResult:
    """Run a tracker over a sequence. The first frame is always decoded. Masks are written if there is a place."""
    truth_xywh = sequence.truth.boxes_xywh
    num_frames = len(truth_xywh)
    boxes_xywh, times_ms = np.empty((num_frames, 4)), np.zeros((num_frames, len(TIME_COLUMNS)))
    boxes_xywh[0] = truth_xywh[0]
    first_size = None
    paths: Sequence[Path] = () if frame_paths is None else frame_paths if decodes_all else frame_paths[:1]
    with contextlib.closing(decoded(paths, num_threads=1, num_ahead=_NUM_AHEAD)) as frames:
        for t in range(num_frames):
            frame = NO_FRAME
            if t < len(paths):
                frame, times_ms[t, 0] = next(frames)
                first_size = first_size or frame.shape
                require_size(paths[t], frame, first_size)
            if t == 0:
                if paths:
                    require_in_frame(f"Sequence {sequence.name}: the ground truth", truth_xywh, frame)
                tracker.initialize(frame, truth_xywh[0])
            else:
                step = tracker.track(frame)
                boxes_xywh[t] = step.box_xywh
                if masks is not None:
                    masks.write(t, None if step.refinement is None else step.refinement.mask, frame.shape[:2])
            times_ms[t, 1:] = tracker.times_ms
    counts = {**tracker.counts, "frames": num_frames - 1}
    return SequenceResult(boxes_xywh, times_ms, None if masks is None else masks.folder, counts)


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
