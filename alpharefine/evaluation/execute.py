"""Execution of planned runs, in this process or in several, with a progress bar."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from alpharefine.errors import SequenceError, UserError
from alpharefine.evaluation.failures import Failure
from alpharefine.evaluation.launch import Launch
from alpharefine.evaluation.plan import TrackerRuns
from alpharefine.evaluation.processes import run_in_processes
from alpharefine.evaluation.replay import ReplayJob, ReplayResult, ReplayRunner, failed_replay, unrefined
from alpharefine.evaluation.results import RunFolder
from alpharefine.evaluation.run import SequenceJob, SequenceResult, TrackerRunner, failed_job
from alpharefine.evaluation.settings import ResolvedRuns

Job = TypeVar("Job", SequenceJob, ReplayJob)

Write = Callable[[RunFolder, str, SequenceResult], None]
"""Function that writes the result of a sequence of this name into the folder of its run."""


def run_tracker(
    tracker: TrackerRuns, resolved: ResolvedRuns, num_processes: int, launch: Launch | None, write: Write
) -> list[Failure]:
    """Run the unfinished sequences of a tracker.

    Args:
        tracker: Runs of the tracker.
        resolved: Resolved runs.
        num_processes: Number of processes.
        launch: Launch that this process belongs to; None without a launcher.
        write: Function that writes a result.

    Returns:
        Sequences that failed; each error is also printed when it occurs.

    Raises:
        UserError: If the tracker or the refiner cannot be built, or a result cannot be written.
    """
    share = None if launch is None else launch.share
    jobs = [SequenceJob(run, sequence) for run in tracker.folders for sequence in tracker.to_do(run, share)]
    failures: list[Failure] = []
    total = len(tracker.sequences) * len(tracker.folders)
    if not jobs:
        return failures
    checkpoint = resolved.checkpoint if num_processes == 1 else None
    make_runner = functools.partial(
        TrackerRunner, resolved.settings, checkpoint=checkpoint, mask_dir=_output_dir(tracker)
    )
    ordered = _longest_first(jobs, num_processes)
    outcomes = run_in_processes(make_runner, ordered, failed_job, num_processes, _device(launch))
    with closing(outcomes), _progress(" + ".join(tracker.folders), len(jobs), total) as progress:
        for run, name, result in outcomes:
            if isinstance(result, SequenceError):
                failures.append(Failure(name, str(result), tracker.name, run))
                progress.write_above(f"Sequence {name} failed: {result}")
            else:
                write(tracker.folders[run], name, result)
                progress.advance(result.times_ms)
    return failures


def run_replays(
    trackers: list[TrackerRuns], resolved: ResolvedRuns, num_processes: int, launch: Launch | None, write: Write
) -> list[Failure]:
    """Write published boxes, and refine those of unfinished sequences for all trackers together.

    Args:
        trackers: Runs of the trackers.
        resolved: Resolved runs.
        num_processes: Number of processes.
        launch: Launch that this process belongs to; None without a launcher.
        write: Function that writes a result.

    Returns:
        Sequences that failed, for one tracker or for all.

    Raises:
        UserError: If the refiner cannot be built, or a result cannot be written.
    """
    share = None if launch is None else launch.share
    failures: list[Failure] = []
    boxes_xywh = {tracker.name: _published_boxes(tracker, share, failures) for tracker in trackers}
    jobs: dict[str, ReplayJob] = {}
    for tracker in trackers:
        for sequence in tracker.to_do("refined", share):
            if sequence.name in boxes_xywh[tracker.name]:
                job = jobs.setdefault(sequence.name, ReplayJob(sequence, {}))
                job.boxes_xywh[tracker.name] = boxes_xywh[tracker.name][sequence.name]
    results = _none()
    if jobs:
        refinement = resolved.settings["refined"].refinement
        assert refinement is not None
        checkpoint = resolved.checkpoint if num_processes == 1 else None
        make_runner = functools.partial(
            ReplayRunner, refinement, checkpoint=checkpoint, mask_dir=_output_dir(trackers[0])
        )
        ordered = _longest_first(list(jobs.values()), num_processes)
        results = run_in_processes(make_runner, ordered, failed_replay, num_processes, _device(launch))
    by_name = {tracker.name: tracker for tracker in trackers}
    for tracker in trackers:
        for sequence in tracker.to_do("base", share):
            if sequence.name in boxes_xywh[tracker.name]:
                write(tracker.folders["base"], sequence.name, unrefined(boxes_xywh[tracker.name][sequence.name]))
    num_sequences = len({sequence.name for tracker in trackers for sequence in tracker.sequences})
    with closing(results), _progress("refined", len(jobs), num_sequences) as progress:
        for done in results:
            if done.error is not None:
                failures.append(Failure(done.sequence_name, str(done.error), run="refined"))
                progress.write_above(f"Sequence {done.sequence_name} failed: {done.error}")
                continue
            for name, result in done.results.items():
                write(by_name[name].folders["refined"], done.sequence_name, result)
            progress.advance(np.concatenate([result.times_ms for result in done.results.values()]))
    return failures


def _output_dir(tracker: TrackerRuns) -> Path:
    return next(iter(tracker.folders.values())).path.parents[1]


def _none() -> Generator[ReplayResult]:
    yield from ()


def _longest_first(jobs: list[Job], num_processes: int) -> list[Job]:
    """Sort the jobs of several processes: a long sequence at the end would leave the other processes idle."""
    return sorted(jobs, key=lambda job: len(job.sequence), reverse=True) if num_processes > 1 else jobs


def _published_boxes(
    tracker: TrackerRuns, share: Collection[str] | None, failures: list[Failure]
) -> dict[str, np.ndarray]:
    """Read the published boxes of the unfinished sequences, by name of the sequence, and add those that fail."""
    assert tracker.published is not None
    truths = {s.name: s.truth.boxes_xywh for run in tracker.folders for s in tracker.to_do(run, share)}
    boxes_xywh: dict[str, np.ndarray] = {}
    for name, truth in truths.items():
        try:
            boxes_xywh[name] = tracker.published.boxes_xywh(name, truth[0], len(truth))
        except UserError as error:
            failures.append(Failure(name, str(error), tracker.name))
    return boxes_xywh


def _device(launch: Launch | None) -> str:
    return "auto" if launch is None else launch.device


class _Progress:
    """Progress bar over sequences that shows the frames per second."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._num_frames, self._busy_ms = bar, 0, 0.0

    def advance(self, times_ms: np.ndarray) -> None:
        """Count one sequence, whose times are ``(N, 3)`` milliseconds."""
        self._num_frames, self._busy_ms = self._num_frames + len(times_ms), self._busy_ms + float(times_ms.sum())
        self._bar.set_postfix(fps=f"{1e3 * self._num_frames / max(self._busy_ms, 1e-9):.1f}")
        self._bar.update()

    def write_above(self, message: str) -> None:
        """Write a line above the bar."""
        self._bar.write(message, file=sys.stderr)


@contextmanager
def _progress(description: str, num_left: int, total: int) -> Iterator[_Progress]:
    with tqdm(
        total=total, initial=total - num_left, desc=description, unit="seq", dynamic_ncols=True, disable=num_left == 0
    ) as bar:
        yield _Progress(bar)
