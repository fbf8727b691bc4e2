"""Run stage over published boxes of any number of trackers, refined in batches because nothing is fed back.

Each frame is decoded once for all trackers. A batch holds boxes of several trackers, frames and, if these are short,
sequences.
"""

from __future__ import annotations

import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.frame_checks import require_in_frame, require_size
from alpharefine.errors import SequenceError, describe_exception
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.decoding import decoded
from alpharefine.evaluation.mask_files import MaskFiles
from alpharefine.evaluation.refined_tracker import load_refiner, mask_region, outcome_of
from alpharefine.evaluation.run import TIME_COLUMNS, SequenceResult
from alpharefine.evaluation.settings import RefinementSettings
from alpharefine.inference.loading import LoadedNetwork
from alpharefine.inference.refiner import Refinement, Template

BATCH_SIZE = 32
"""Number of boxes in a forward pass."""

_NUM_READERS, _NUM_AHEAD = 4, 16
"""Number of threads that decode frames during the forward passes, and of frames that they decode ahead."""

_DECODE, _REFINE = TIME_COLUMNS.index("decode"), TIME_COLUMNS.index("refine")


class ReplayJob(NamedTuple):
    """Boxes to refine in one sequence.

    Attributes:
        sequence: Sequence with its frames.
        boxes_xywh: ``(N, 4)`` boxes in image pixels, a row a frame, by tracker.
    """

    sequence: EvaluationSequence
    boxes_xywh: dict[str, np.ndarray]


class ReplayResult(NamedTuple):
    """Refined boxes of one sequence, or the error that ended it.

    Attributes:
        sequence_name: Name of the sequence.
        results: Boxes, times and masks by tracker; the time of shared work is divided among the trackers. Empty if the
            sequence failed.
        error: Error that ended the sequence. None if it succeeded.
    """

    sequence_name: str
    results: Mapping[str, SequenceResult]
    error: SequenceError | None = None


def failed_replay(job: ReplayJob, reason: str) -> ReplayResult:
    """Return the result of a job that failed.

    Args:
        job: Job.
        reason: Reason of the failure.
    """
    return ReplayResult(job.sequence.name, {}, SequenceError(reason))


def unrefined(boxes_xywh: np.ndarray) -> SequenceResult:
    """Return published boxes as a result without computing time.

    Args:
        boxes_xywh: ``(N, 4)`` boxes in image pixels.
    """
    counts = {"frames": len(boxes_xywh) - 1, "invalid_box": int((~is_valid(boxes_xywh[1:])).sum())}
    return SequenceResult(boxes_xywh, np.zeros((len(boxes_xywh), len(TIME_COLUMNS))), counts=counts)


class ReplayRunner:
    """A refiner, loaded once, for published boxes in any number of sequences.

    Args:
        settings: Refinement settings.
        device: Device of the refiner.
        checkpoint: Content of the refiner's checkpoint, if it was read already.
        batch_size: Number of boxes in a forward pass.
        mask_dir: Folder on the disk of the results, for the masks of sequences in progress. None selects the system's
            folder for temporary files.

    Raises:
        UserError: If the checkpoint is missing or is not a refinement network.
    """

    def __init__(
        self,
        settings: RefinementSettings,
        device: str = "auto",
        checkpoint: LoadedNetwork | None = None,
        batch_size: int = BATCH_SIZE,
        mask_dir: Path | None = None,
    ) -> None:
        self.refiner = load_refiner(settings, device, checkpoint)
        self._save_masks, self._mask_threshold = settings.save_masks, settings.mask_threshold
        self._mask_dir = mask_dir or Path(tempfile.gettempdir())
        self._draws_from_masks = settings.saves_box_masks
        self._batch_size = batch_size

    def run_all(self, jobs: Iterable[ReplayJob]) -> Iterator[ReplayResult]:
        """Refine the boxes of jobs and yield each result, in the order of the jobs.

        An exception ends its sequence and not the others; an exception of a batch ends the sequences in it.

        Args:
            jobs: Sequences and boxes.
        """
        running: deque[_Running] = deque()
        try:
            yield from self._run_all(jobs, running)
        finally:
            for sequence in running:  # of an interrupted run
                sequence.discard_masks()

    def _run_all(self, jobs: Iterable[ReplayJob], running: deque[_Running]) -> Iterator[ReplayResult]:
        waiting: list[_Box] = []
        for job in jobs:
            running.append(_Running(job, self._masks_of(job)))
            try:
                for boxes in self._boxes(job.sequence, running[-1]):
                    waiting += boxes
                    while len(waiting) >= self._batch_size:
                        waiting = self._refine(waiting)
                    if running[-1].error is not None:
                        break
            except (Exception, SystemExit) as error:
                running[-1].fail(error)
            waiting = [box for box in waiting if box.running.error is None]
            while running and running[0].is_finished:
                yield running.popleft().result()
        while waiting:
            waiting = self._refine(waiting)
        while running:
            yield running.popleft().result()

    def _masks_of(self, job: ReplayJob) -> dict[str, MaskFiles]:
        """Return the places of the masks by tracker; none if masks are not saved."""
        trackers = job.boxes_xywh if self._save_masks else ()
        return {tracker: MaskFiles(self._mask_dir, self._mask_threshold) for tracker in trackers}

    def _boxes(self, sequence: EvaluationSequence, running: _Running) -> Iterator[list[_Box]]:
        """Yield the boxes to refine, frame by frame."""
        assert sequence.frame_paths is not None
        frames = decoded(sequence.frame_paths, _NUM_READERS, _NUM_AHEAD)
        first, decode_ms = next(frames)
        first_size = first.shape
        require_in_frame(f"Sequence {sequence.name}: the ground truth", sequence.truth.boxes_xywh, first)
        start = perf_counter()
        template = self.refiner.encode_template(first, sequence.truth.boxes_xywh[0])
        running.add_times(0, decode_ms, 1e3 * (perf_counter() - start))
        for t, (frame, decode_ms) in enumerate(frames, start=1):
            require_size(sequence.frame_paths[t], frame, first_size)
            running.add_times(t, decode_ms)
            yield running.boxes(t, frame, template)

    def _refine(self, waiting: list[_Box]) -> list[_Box]:
        """Refine one batch of boxes, and return the others. Those of failed sequences are dropped."""
        boxes, others = waiting[: self._batch_size], waiting[self._batch_size :]
        start = perf_counter()
        try:
            refinements = self._refinements(boxes)
        except Exception as error:
            for box in boxes:
                box.running.fail(error)
            return [box for box in others if box.running.error is None]
        refine_ms = 1e3 * (perf_counter() - start) / len(boxes)
        for box, refinement in zip(boxes, refinements, strict=True):
            box.running.keep(box, refinement, refine_ms)
        return others

    def _refinements(self, boxes: list[_Box]) -> list[Refinement]:
        refinements = self.refiner.refine_many(
            [box.frame for box in boxes],
            [box.box_xywh for box in boxes],
            [box.template for box in boxes],
            mask=self._draws_from_masks,
        )
        if not self._save_masks or self._draws_from_masks:
            return refinements
        return self._with_masks(boxes, refinements)

    def _with_masks(self, boxes: list[_Box], refinements: list[Refinement]) -> list[Refinement]:
        """Add masks of the windows around the refined boxes."""
        found = [i for i, refinement in enumerate(refinements) if refinement.refined]
        masks = self.refiner.segment_many(
            [boxes[i].frame for i in found],
            [mask_region(refinements[i]) for i in found],
            [boxes[i].template for i in found],
        )
        answers = list(refinements)
        for i, mask in zip(found, masks, strict=True):
            answers[i] = replace(refinements[i], mask=mask)
        return answers


class _Running:
    """A sequence in progress, whose boxes are replaced by refined ones as these arrive."""

    def __init__(self, job: ReplayJob, masks: Mapping[str, MaskFiles]) -> None:
        self._job, self._masks = job, masks
        self._results = {tracker: unrefined(boxes_xywh.copy()) for tracker, boxes_xywh in job.boxes_xywh.items()}
        self._counts: dict[str, Counter[str]] = {
            tracker: Counter(result.counts) for tracker, result in self._results.items()
        }
        self._num_open = 0
        self.error: str | None = None

    @property
    def is_finished(self) -> bool:
        """True if no box of the frames that were read is open, or the sequence has failed."""
        return self._num_open == 0 or self.error is not None

    def fail(self, error: BaseException) -> None:
        """Record the description of the exception that ended the sequence.

        Args:
            error: Exception. Only the first one is kept.
        """
        self.error = self.error or describe_exception(error)
        self.discard_masks()

    def discard_masks(self) -> None:
        """Remove the masks that were written."""
        for masks in self._masks.values():
            masks.discard()

    def boxes(self, frame_index: int, frame: np.ndarray, template: Template) -> list[_Box]:
        """Return the boxes to refine in a frame and count them as open.

        Args:
            frame_index: Index of the frame.
            frame: ``(H, W, 3)`` uint8 RGB.
            template: Template of the target.
        """
        boxes = []
        for tracker, result in self._results.items():
            box_xywh = result.boxes_xywh[frame_index]
            if is_valid(box_xywh):
                boxes.append(_Box(self, tracker, frame_index, frame, box_xywh, template))
            else:
                self._keep_mask(tracker, frame_index, None, frame)
        self._num_open += len(boxes)
        return boxes

    def keep(self, box: _Box, refinement: Refinement, refine_ms: float) -> None:
        """Store the refinement of an open box.

        Args:
            box: Open box.
            refinement: Refinement of the box.
            refine_ms: Milliseconds of refinement.
        """
        result = self._results[box.tracker]
        if refinement.refined:
            result.boxes_xywh[box.frame_index] = refinement.box_xywh
        self._counts[box.tracker][outcome_of(refinement)] += 1
        result.times_ms[box.frame_index, _REFINE] = refine_ms
        self._keep_mask(box.tracker, box.frame_index, refinement.mask if refinement.refined else None, box.frame)
        self._num_open -= 1

    def _keep_mask(self, tracker: str, frame_index: int, mask: np.ndarray | None, frame: np.ndarray) -> None:
        if tracker in self._masks and self.error is None:
            try:
                self._masks[tracker].write(frame_index, mask, frame.shape[:2])
            except SequenceError as error:
                self.fail(error)

    def add_times(self, frame_index: int, decode_ms: float, template_ms: float = 0.0) -> None:
        """Divide the time of shared work among the trackers.

        Args:
            frame_index: Index of the frame.
            decode_ms: Milliseconds of decoding.
            template_ms: Milliseconds of encoding the template.
        """
        for result in self._results.values():
            result.times_ms[frame_index, _DECODE] += decode_ms / len(self._results)
            result.times_ms[frame_index, _REFINE] += template_ms / len(self._results)

    def result(self) -> ReplayResult:
        """Return the refined boxes of the sequence, or its error."""
        if self.error is not None:
            return failed_replay(self._job, self.error)
        assert self._num_open == 0
        results = {
            tracker: replace(
                result,
                counts=dict(self._counts[tracker]),
                mask_folder=self._masks[tracker].folder if tracker in self._masks else None,
            )
            for tracker, result in self._results.items()
        }
        return ReplayResult(self._job.sequence.name, results)


class _Box(NamedTuple):
    """One box to refine."""

    running: _Running
    tracker: str
    frame_index: int
    frame: np.ndarray
    box_xywh: np.ndarray
    template: Template
