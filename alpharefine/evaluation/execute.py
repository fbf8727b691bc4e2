"""Execution of planned runs, in this process or in several, with a progress bar."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from alpharefine.errors import SequenceError
from alpharefine.evaluation.launch import Failures, Launch
from alpharefine.evaluation.plan import TrackerRuns
from alpharefine.evaluation.processes import run_in_processes
from alpharefine.evaluation.replay import ReplayJob, ReplayResult, ReplayRunner, unrefined
from alpharefine.evaluation.results import RunFolder
from alpharefine.evaluation.run import SequenceJob, SequenceResult, TrackerRunner
from alpharefine.evaluation.settings import ResolvedRuns

Job = TypeVar("Job", SequenceJob, ReplayJob)

Write = Callable[[RunFolder, str, SequenceResult], None]
"""Function that writes the result of a sequence of this name into the folder of its run."""


def run_tracker(
    tracker: TrackerRuns, resolved: ResolvedRuns, num_processes: int, launch: Launch | None, write: Write
) -> Failures:
    """Run the unfinished sequences of a tracker.

    Args:
        tracker: Runs of the tracker.
        resolved: Resolved runs.
        num_processes: Number of processes.
        launch: Launch that this process belongs to; None without a launcher.
        write: Function that writes a result.

    Returns:
        Names of the sequences that failed, by run; each error is printed.

    Raises:
        UserError: If an error affects more than one sequence.
    """
    share = None if launch is None else launch.share
    jobs = [SequenceJob(run, sequence) for run in tracker.folders for sequence in tracker.to_do(run, share)]
    failures: Failures = {run: [] for run in tracker.folders}
    total = len(tracker.sequences) * len(tracker.folders)
    if not jobs:
        return failures
    checkpoint = resolved.checkpoint if num_processes == 1 else None
    make_runner = functools.partial(TrackerRunner, resolved.settings, checkpoint=checkpoint)
    outcomes = run_in_processes(make_runner, _longest_first(jobs, num_processes), num_processes, _device(launch))
    with _progress(" + ".join(tracker.folders), len(jobs), total) as progress:
        for run, name, result in outcomes:
            if isinstance(result, SequenceError):
                failures[run].append(name)
                progress.write_above(f"Sequence {name} failed: {result}")
            else:
                write(tracker.folders[run], name, result)
                progress.advance(result.times_ms)
    return failures


def run_replays(
    trackers: list[TrackerRuns], resolved: ResolvedRuns, num_processes: int, launch: Launch | None, write: Write
) -> None:
    """Write published boxes, and refine those of unfinished sequences for all trackers together.

    Args:
        trackers: Runs of the trackers.
        resolved: Resolved runs.
        num_processes: Number of processes.
        launch: Launch that this process belongs to; None without a launcher.
        write: Function that writes a result.

    Raises:
        UserError: If a result file is malformed, or a frame does not decode.
    """
    share = None if launch is None else launch.share
    boxes_xywh = {tracker.name: _published_boxes(tracker, share) for tracker in trackers}
    jobs: dict[str, ReplayJob] = {}
    for tracker in trackers:
        for sequence in tracker.to_do("refined", share):
            job = jobs.setdefault(sequence.name, ReplayJob(sequence, {}))
            job.boxes_xywh[tracker.name] = boxes_xywh[tracker.name][sequence.name]
    results: Iterator[ReplayResult] = iter(())
    if jobs:
        refinement = resolved.settings["refined"].refinement
        assert refinement is not None
        checkpoint = resolved.checkpoint if num_processes == 1 else None
        make_runner = functools.partial(ReplayRunner, refinement, checkpoint=checkpoint)
        ordered = _longest_first(list(jobs.values()), num_processes)
        results = run_in_processes(make_runner, ordered, num_processes, _device(launch))
    by_name = {tracker.name: tracker for tracker in trackers}
    for tracker in trackers:
        for sequence in tracker.to_do("base", share):
            write(tracker.folders["base"], sequence.name, unrefined(boxes_xywh[tracker.name][sequence.name]))
    num_sequences = len({sequence.name for tracker in trackers for sequence in tracker.sequences})
    with _progress("refined", len(jobs), num_sequences) as progress:
        for done in results:
            for name, result in done.results.items():
                write(by_name[name].folders["refined"], done.sequence_name, result)
            progress.advance(np.concatenate([result.times_ms for result in done.results.values()]))


def _longest_first(jobs: list[Job], num_processes: int) -> list[Job]:
    """Sort the jobs of several processes: a long sequence at the end would leave the other processes idle."""
    return sorted(jobs, key=lambda job: len(job.sequence), reverse=True) if num_processes > 1 else jobs


def _published_boxes(tracker: TrackerRuns, share: Collection[str] | None) -> dict[str, np.ndarray]:
    """Read the published boxes of the unfinished sequences, by name of the sequence."""
    assert tracker.published is not None
    truths = {s.name: s.truth.boxes_xywh for run in tracker.folders for s in tracker.to_do(run, share)}
    return {name: tracker.published.boxes_xywh(name, truth[0], len(truth)) for name, truth in truths.items()}


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
