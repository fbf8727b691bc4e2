"""Run stage over published boxes of any number of trackers, refined in batches because nothing is fed back.

Each frame is decoded once for all trackers. A batch holds boxes of several trackers, frames and, if these are short,
sequences.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.checkpoints.loading import LoadedCheckpoint
from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.run import (
    TIME_COLUMNS,
    SequenceResult,
    encode_mask,
    load_refiner,
    mask_region,
    require_overlap,
)
from alpharefine.evaluation.settings import RefinementSettings
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
    """Refined boxes of one sequence.

    Attributes:
        sequence_name: Name of the sequence.
        results: Boxes, times and masks by tracker; the time of shared work is divided among the trackers.
    """

    sequence_name: str
    results: Mapping[str, SequenceResult]


def unrefined(boxes_xywh: np.ndarray) -> SequenceResult:
    """Return published boxes as a result without computing time.

    Args:
        boxes_xywh: ``(N, 4)`` boxes in image pixels.
    """
    return SequenceResult(boxes_xywh, np.zeros((len(boxes_xywh), len(TIME_COLUMNS))))


class ReplayRunner:
    """A refiner, loaded once, for published boxes in any number of sequences.

    Args:
        settings: Refinement settings.
        device: Device of the refiner.
        checkpoint: Content of the refiner's checkpoint, if it was read already.
        batch_size: Number of boxes in a forward pass.

    Raises:
        UserError: If the checkpoint is missing or is not a refinement network.
    """

    def __init__(
        self,
        settings: RefinementSettings,
        device: str = "auto",
        checkpoint: LoadedCheckpoint | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.refiner = load_refiner(settings, device, checkpoint)
        self._mask_threshold = settings.mask_threshold if settings.save_masks else None
        self._draws_from_masks = settings.saves_box_masks
        self._batch_size = batch_size

    def run_all(self, jobs: Iterable[ReplayJob]) -> Iterator[ReplayResult]:
        """Refine the boxes of jobs and yield each result, in the order of the jobs.

        Args:
            jobs: Sequences and boxes.

        Raises:
            UserError: If a frame does not decode or a first box lies outside of its frame, after the earlier jobs have
                been yielded.
        """
        running: deque[_Running] = deque()
        waiting: list[_Box] = []
        failure: UserError | None = None
        for job in jobs:
            running.append(_Running(job, self._mask_threshold))
            try:
                for boxes in self._boxes(job.sequence, running[-1]):
                    waiting += boxes
                    while len(waiting) >= self._batch_size:
                        self._refine(waiting[: self._batch_size])
                        del waiting[: self._batch_size]
            except UserError as error:
                failure = error
                broken = running.pop()
                waiting = [box for box in waiting if box.running is not broken]
                break
            while running and running[0].num_open == 0:
                yield running.popleft().result()
        if waiting:
            self._refine(waiting)
        yield from (sequence.result() for sequence in running)
        if failure is not None:
            raise failure

    def _boxes(self, sequence: EvaluationSequence, running: _Running) -> Iterator[list[_Box]]:
        """Yield the boxes to refine, frame by frame."""
        assert sequence.frame_paths is not None
        frames = _decoded(sequence.frame_paths)
        first, decode_ms = next(frames)
        require_overlap(sequence.name, sequence.truth.boxes_xywh[0], first)
        start = perf_counter()
        template = self.refiner.encode_template(first, sequence.truth.boxes_xywh[0])
        running.add_times(0, decode_ms, 1e3 * (perf_counter() - start))
        for t, (frame, decode_ms) in enumerate(frames, start=1):
            running.add_times(t, decode_ms)
            yield running.boxes(t, frame, template)

    def _refine(self, boxes: list[_Box]) -> None:
        start = perf_counter()
        refinements = self.refiner.refine_many(
            [box.frame for box in boxes],
            [box.box_xywh for box in boxes],
            [box.template for box in boxes],
            mask=self._draws_from_masks,
        )
        if self._mask_threshold is not None and not self._draws_from_masks:
            refinements = self._with_masks(boxes, refinements)
        refine_ms = 1e3 * (perf_counter() - start) / len(boxes)
        for box, refinement in zip(boxes, refinements, strict=True):
            box.running.keep(box, refinement, refine_ms)

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

    def __init__(self, job: ReplayJob, mask_threshold: float | None) -> None:
        self._name = job.sequence.name
        self._results = {tracker: unrefined(boxes_xywh.copy()) for tracker, boxes_xywh in job.boxes_xywh.items()}
        self._masks: dict[str, list[bytes]] = {
            tracker: [b""] * (len(boxes_xywh) - 1) for tracker, boxes_xywh in job.boxes_xywh.items()
        }
        self._mask_threshold = mask_threshold
        self.num_open = 0

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
        self.num_open += len(boxes)
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
        result.times_ms[box.frame_index, _REFINE] = refine_ms
        self._keep_mask(box.tracker, box.frame_index, refinement.mask if refinement.refined else None, box.frame)
        self.num_open -= 1

    def _keep_mask(self, tracker: str, frame_index: int, mask: np.ndarray | None, frame: np.ndarray) -> None:
        if self._mask_threshold is not None:
            self._masks[tracker][frame_index - 1] = encode_mask(mask, frame.shape[:2], self._mask_threshold)

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
        """Return the refined boxes of the sequence."""
        assert self.num_open == 0
        if self._mask_threshold is None:
            return ReplayResult(self._name, self._results)
        results = {tracker: replace(result, masks=self._masks[tracker]) for tracker, result in self._results.items()}
        return ReplayResult(self._name, results)


class _Box(NamedTuple):
    """One box to refine."""

    running: _Running
    tracker: str
    frame_index: int
    frame: np.ndarray
    box_xywh: np.ndarray
    template: Template


def _decoded(paths: Iterable[Path]) -> Iterator[tuple[np.ndarray, float]]:
    """Yield frames in order with their decoding times in milliseconds; later frames are decoded ahead."""
    ahead: deque[Future[tuple[np.ndarray, float]]] = deque()
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        for path in paths:
            ahead.append(pool.submit(_timed_image, path))
            if len(ahead) > _NUM_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _timed_image(path: Path) -> tuple[np.ndarray, float]:
    start = perf_counter()
    return read_image(path), 1e3 * (perf_counter() - start)
