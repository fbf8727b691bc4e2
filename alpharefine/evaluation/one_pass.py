"""Run what is left to do of one tracker, or of all whose results are published, then score it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from alpharefine.errors import SequenceError, UserError
from alpharefine.evaluation.replay import Replay, ReplayJob, replay_sequences, require_frames, unrefined
from alpharefine.evaluation.run import TIME_COLUMNS, RunSettings, check_run, require_possible, run_sequences
from alpharefine.evaluation.run_folder import RunFolder
from alpharefine.evaluation.score import RunScore, attribute_scores, score_run
from alpharefine.evaluation.sequences import EvaluationSequence
from alpharefine.metrics import Protocol
from alpharefine.trackers.result_files import PublishedResults, find_results, results_of_one


@dataclass(frozen=True)
class TrackerRuns:
    """The runs over one base tracker.

    Attributes:
        folders: where the boxes go, by the name of the run: ``base``, ``refined`` or both.
        sequences: those that the tracker is run over.
        published: its results, if it is not to be run but replayed.
    """

    folders: Mapping[str, RunFolder]
    sequences: list[EvaluationSequence]
    published: PublishedResults | None = None

    def to_do(self, run: str) -> list[EvaluationSequence]:
        """The sequences that have no boxes yet in a run; none if there is no such run."""
        if run not in self.folders:
            return []
        return [sequence for sequence in self.sequences if not self.folders[run].is_done(sequence.name)]


def runs_of(
    output_dir: Path, settings: Mapping[str, RunSettings], sequences: list[EvaluationSequence], overwrite: bool
) -> TrackerRuns:
    """The runs over one tracker, in ``<output_dir>/<run>``.

    Args:
        output_dir: where the folders of the runs are, or will be.
        settings: of each run.
        sequences: to run over.
        overwrite: see `RunFolder`.

    Raises:
        UserError: see `RunFolder`.
    """
    return TrackerRuns(
        {run: RunFolder(output_dir / run, chosen, overwrite) for run, chosen in settings.items()}, sequences
    )


def replays_of(
    output_dir: Path,
    settings: Mapping[str, RunSettings],
    sequences: list[EvaluationSequence],
    overwrite: bool,
    baseline: bool,
) -> dict[str, TrackerRuns]:
    """The runs over the trackers whose results are published in a folder or archive.

    Args:
        output_dir: see `runs_of`; if the folder is not that of one tracker, each has a folder of its own there.
        settings: of each run; `results_dir` is where the results are.
        sequences: to run over. Of many trackers, each is run over those that it has results of.
        overwrite: see `RunFolder`.
        baseline: whether the folder of one tracker gets the run without refinement too; many trackers have it always.

    Returns:
        Runs by the name of the tracker; of the folder of one tracker, by an empty name.

    Raises:
        UserError: see `find_results` and `RunFolder`, and if the folder of one tracker lacks a sequence.
    """
    for chosen in settings.values():
        require_possible(chosen, accepts_feedback=False, gives_score=False)
        if chosen.tracker_weights:
            raise UserError("--tracker replay takes no weights, got --tracker_weights; leave them out.")
    (given, *_) = {chosen.results_dir for chosen in settings.values()}
    if given is None:
        raise UserError("--tracker replay needs --results_dir, a folder with <sequence>.txt files; none was given.")
    results_dir, names = Path(given), [sequence.name for sequence in sequences]
    alone = results_of_one(results_dir, names)
    if alone is not None:
        lacking = next((name for name in names if name not in alone.files), None)
        if lacking is not None:
            raise UserError(
                f"--results_dir {results_dir} has no {lacking}.txt; --tracker replay needs a file for each sequence: "
                "choose those that are there with `--sequences`."
            )
        wanted = {run: settings[run] for run in settings if run == "refined" or baseline or len(settings) == 1}
        return {"": replace(runs_of(output_dir, wanted, sequences, overwrite), published=alone)}
    if output_dir.resolve().is_relative_to(results_dir.resolve()):
        raise UserError(
            f"`--output_dir`: {output_dir} lies in --results_dir {results_dir}, where the next run would take it for "
            "results of other trackers; give another `--output_dir`."
        )
    replays = {}
    for tracker in find_results(results_dir, names):
        own = {
            run: replace(of_run, results_dir=tracker.place, results_digest=tracker.digest)
            for run, of_run in settings.items()
        }
        covered = [sequence for sequence in sequences if sequence.name in tracker.files]
        replays[tracker.name] = replace(runs_of(output_dir / tracker.name, own, covered, overwrite), published=tracker)
    return replays


def run_tracker(tracker: TrackerRuns, num_processes: int) -> dict[str, list[str]]:
    """Run what is left to do.

    Args:
        tracker: one that is run.
        num_processes: see `run_in_processes`.

    Returns:
        The names of the sequences that failed, each told of on the error stream, by the name of the run.

    Raises:
        UserError: if something is missing or unfit.
    """
    to_do = {run: tracker.to_do(run) for run in tracker.folders}
    for run, sequences in to_do.items():
        if sequences:
            check_run(tracker.folders[run].settings, sequences)
    failed: dict[str, list[str]] = {run: [] for run in to_do}
    for run, sequences in to_do.items():
        folder = tracker.folders[run]
        with _progress(run, len(sequences), len(tracker.sequences)) as progress:
            for name, result in run_sequences(folder.settings, sequences, num_processes) if sequences else ():
                if isinstance(result, SequenceError):
                    failed[run].append(name)
                    progress.complain(f"Sequence {name} failed: {result}")
                else:
                    folder.write(name, result)
                    progress.advance(result.times_ms)
    return failed


def run_replays(trackers: Mapping[str, TrackerRuns], num_processes: int) -> None:
    """Refine what is left to do of published boxes, those of all trackers at once.

    Args:
        trackers: those that are replayed, with the same settings but for the results' place.
        num_processes: see `run_in_processes`.

    Raises:
        UserError: if something is missing or unfit.
    """
    boxes_xywh = {name: _published_boxes(tracker) for name, tracker in trackers.items()}
    jobs: dict[str, ReplayJob] = {}
    for name, tracker in trackers.items():
        for sequence in tracker.to_do("refined"):
            job = jobs.setdefault(sequence.name, ReplayJob(sequence, {}))
            job.boxes_xywh[name] = boxes_xywh[name][sequence.name]
    settings = next((t.folders["refined"].settings for t in trackers.values() if "refined" in t.folders), None)
    if settings is not None and jobs:
        Replay(settings, device="cpu")
        for job in jobs.values():
            require_frames(job.sequence)
    for name, tracker in trackers.items():
        for sequence in tracker.to_do("base"):
            tracker.folders["base"].write(sequence.name, unrefined(boxes_xywh[name][sequence.name]))
    if settings is None:
        return
    num_sequences = len({sequence.name for tracker in trackers.values() for sequence in tracker.sequences})
    with _progress("refined", len(jobs), num_sequences) as progress:
        for done in replay_sequences(settings, jobs.values(), num_processes) if jobs else ():
            for name, result in done.results.items():
                trackers[name].folders["refined"].write(done.sequence_name, result)
            progress.advance(np.concatenate([result.times_ms for result in done.results.values()]))


def _published_boxes(tracker: TrackerRuns) -> dict[str, np.ndarray]:
    """The boxes of the sequences that are left to do."""
    assert tracker.published is not None
    left = {sequence.name: sequence.truth.boxes_xywh for run in tracker.folders for sequence in tracker.to_do(run)}
    return {name: tracker.published.boxes_xywh(name, truth[0], len(truth)) for name, truth in left.items()}


class _Progress:
    """A progress bar over sequences that tells frames a second."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._num_frames, self._busy_ms = bar, 0, 0.0

    def advance(self, times_ms: np.ndarray) -> None:
        """A sequence is done, for which these times ``(N, 3)`` were needed."""
        self._num_frames, self._busy_ms = self._num_frames + len(times_ms), self._busy_ms + float(times_ms.sum())
        self._bar.set_postfix(fps=f"{1e3 * self._num_frames / max(self._busy_ms, 1e-9):.1f}")
        self._bar.update()

    def complain(self, message: str) -> None:
        """Write a line above the bar."""
        self._bar.write(message, file=sys.stderr)


@contextmanager
def _progress(run: str, num_left: int, num_sequences: int) -> Iterator[_Progress]:
    done = num_sequences - num_left
    with tqdm(
        total=num_sequences, initial=done, desc=run, unit="seq", dynamic_ncols=True, disable=num_left == 0
    ) as bar:
        yield _Progress(bar)


def score_tracker(tracker: TrackerRuns, protocol: Protocol) -> dict[str, RunScore]:
    """The scores of each run of a tracker, over its sequences.

    Raises:
        UserError: see `score_run`.
    """
    truths = [sequence.truth for sequence in tracker.sequences]
    return {run: score_run(folder.path, truths, protocol) for run, folder in tracker.folders.items()}


def metrics_of(
    tracker: TrackerRuns, scores: Mapping[str, RunScore], attributes: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """What `metrics.json` says of a tracker.

    Args:
        tracker: its runs.
        scores: of each run.
        attributes: of each sequence, by its name; empty if they are not at hand.
    """
    by_attribute = {run: _by_attribute(score, attributes) for run, score in scores.items()}
    return {
        "runs": {
            run: score.to_dict()
            | {"median_ms": _median_times(tracker.folders[run], tracker.sequences)}
            | by_attribute[run]
            for run, score in scores.items()
        },
        "settings": {run: asdict(folder.settings) for run, folder in tracker.folders.items()},
    }


def _median_times(folder: RunFolder, sequences: list[EvaluationSequence]) -> dict[str, float]:
    """Median milliseconds a frame, first frames left out: they load what the others use."""
    times = np.concatenate([folder.read_times(sequence.name)[1:] for sequence in sequences])
    medians = np.median(times, axis=0) if len(times) else np.zeros(len(TIME_COLUMNS))
    return dict(zip(TIME_COLUMNS, medians.round(3).tolist(), strict=True))


def _by_attribute(score: RunScore, attributes: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    if not attributes:
        return {}
    return {"attributes": {name: asdict(mean) for name, mean in attribute_scores(score, attributes).items()}}
