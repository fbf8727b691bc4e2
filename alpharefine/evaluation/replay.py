"""Published boxes of any number of trackers to files: refined in batches, for nothing is fed back.

A frame is read once for all trackers; a batch holds boxes of several trackers, frames and, where they are short,
sequences.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.evaluation.processes import run_in_processes
from alpharefine.evaluation.run import (
    TIME_COLUMNS,
    RunSettings,
    SequenceResult,
    encode_mask,
    load_refiner,
    mask_region,
    require_inside,
    require_possible,
)
from alpharefine.evaluation.sequences import EvaluationSequence
from alpharefine.inference.refiner import Refinement, Template

BATCH_SIZE = 32
"""Boxes that the network sees at once."""

_NUM_READERS, _NUM_AHEAD = 4, 16
"""Threads that decode frames while the network runs, and frames that they are ahead of it."""


_DECODE, _REFINE = TIME_COLUMNS.index("decode"), TIME_COLUMNS.index("refine")


class ReplayJob(NamedTuple):
    """A sequence, and the boxes to refine in it.

    Attributes:
        sequence: with its frames.
        boxes_xywh: ``(N, 4)`` in image pixels, a row a frame, by the name of the tracker.
    """

    sequence: EvaluationSequence
    boxes_xywh: dict[str, np.ndarray]


class ReplayResult(NamedTuple):
    """What came of a job.

    Attributes:
        sequence_name: of the sequence.
        results: boxes, times and masks by the name of the tracker. What frames took is shared out among the boxes.
    """

    sequence_name: str
    results: Mapping[str, SequenceResult]


def unrefined(boxes_xywh: np.ndarray) -> SequenceResult:
    """The result of a tracker alone: its boxes ``(N, 4)``, for which nothing is to be done."""
    return SequenceResult(boxes_xywh, np.zeros((len(boxes_xywh), len(TIME_COLUMNS))))


class Replay:
    """A refiner, loaded once, that refines published boxes in any number of sequences.

    Args:
        settings: what to run; `ckpt` must be given.
        device: of the refiner.
        batch_size: boxes that the network sees at once.

    Raises:
        UserError: if the checkpoint is missing or unfit, or settings do not go together.
    """

    def __init__(self, settings: RunSettings, device: str = "auto", batch_size: int = BATCH_SIZE) -> None:
        assert settings.ckpt is not None
        require_possible(settings, accepts_feedback=False, gives_score=False)
        self.refiner = load_refiner(settings, settings.ckpt, device)
        self._mask_threshold = settings.mask_threshold if settings.save_masks else None
        self._draws_from_masks = settings.save_masks and self.refiner.box_head == "mask"
        self._batch_size = batch_size

    def run_all(self, jobs: Iterable[ReplayJob]) -> Iterator[ReplayResult]:
        """Refine the boxes of each job and yield the jobs in their order, each as it is done.

        Raises:
            UserError: if a frame does not decode or the first box lies outside of its frame, after the jobs before have
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
        """The boxes to refine, frame by frame."""
        frames = _decoded(require_frames(sequence))
        first, decode_ms = next(frames)
        require_inside(sequence.name, sequence.truth.boxes_xywh[0], first)
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
        """The refinements, those with a target with the mask of the window about the refined box."""
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
    """A sequence in work: its boxes are replaced by refined ones as these come."""

    def __init__(self, job: ReplayJob, mask_threshold: float | None) -> None:
        self._name = job.sequence.name
        self._results = {tracker: unrefined(boxes_xywh.copy()) for tracker, boxes_xywh in job.boxes_xywh.items()}
        self._masks: dict[str, list[bytes]] = {
            tracker: [b""] * (len(boxes_xywh) - 1) for tracker, boxes_xywh in job.boxes_xywh.items()
        }
        self._mask_threshold = mask_threshold
        self.num_open = 0

    def boxes(self, frame_index: int, frame: np.ndarray, template: Template) -> list[_Box]:
        """The boxes to refine in a frame, which are then open."""
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
        """Take the answer for a box that was open."""
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
        """Share out among the trackers what was done once for all of them."""
        for result in self._results.values():
            result.times_ms[frame_index, _DECODE] += decode_ms / len(self._results)
            result.times_ms[frame_index, _REFINE] += template_ms / len(self._results)

    def result(self) -> ReplayResult:
        """What has come of the sequence."""
        assert self.num_open == 0
        if self._mask_threshold is None:
            return ReplayResult(self._name, self._results)
        results = {tracker: replace(result, masks=self._masks[tracker]) for tracker, result in self._results.items()}
        return ReplayResult(self._name, results)


class _Box(NamedTuple):
    """A box to refine."""

    running: _Running
    tracker: str
    frame_index: int
    frame: np.ndarray
    box_xywh: np.ndarray
    template: Template


def require_frames(sequence: EvaluationSequence) -> list[Path]:
    """The frames of a sequence.

    Raises:
        UserError: if there are only annotations.
    """
    if sequence.frame_paths is None:
        raise UserError(f"`--tracker replay` with `--ckpt` looks at the frames of {sequence.name}: give `--data_root`.")
    return sequence.frame_paths


def _decoded(paths: Iterable[Path]) -> Iterator[tuple[np.ndarray, float]]:
    """Frames in their order, and the milliseconds that each took; the next ones are read in the meantime."""
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


def replay_sequences(
    settings: RunSettings, jobs: Iterable[ReplayJob], num_processes: int = 1
) -> Iterator[ReplayResult]:
    """Refine published boxes and yield each sequence as it is done.

    Args:
        settings: what to run; `ckpt` must be given.
        jobs: sequences, and the trackers' boxes in them.
        num_processes: see `run_in_processes`; the boxes do not depend on it, but for rounding.

    Raises:
        UserError: see `Replay.run_all`.
    """
    yield from run_in_processes(functools.partial(Replay, settings), jobs, num_processes)
