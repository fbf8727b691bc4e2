"""Run and score stages of an evaluation: `run` writes boxes, and `score` computes their scores."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from alpharefine.data.archives import TEXT_SUFFIXES, archive_stem
from alpharefine.data.text import folder_name
from alpharefine.errors import SequenceError, UserError
from alpharefine.evaluation.config import EvaluationConfig
from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.launch import Failures, Launch, is_launched, join_launch
from alpharefine.evaluation.metrics_file import Metrics, PublishedComparison, RunMetrics, TrackerMetrics
from alpharefine.evaluation.processes import run_in_processes
from alpharefine.evaluation.replay import ReplayJob, ReplayResult, ReplayRunner, unrefined
from alpharefine.evaluation.results import (
    CONFIG_FILE,
    CURVES_FILE,
    METRICS_FILE,
    SETTINGS_FILE,
    RunFolder,
    done_sequences,
    file_digest,
    median_times,
    read_times,
    run_folders,
    write_whole,
)
from alpharefine.evaluation.run import SequenceJob, TrackerRunner, require_frames
from alpharefine.evaluation.score import read_results, score_run
from alpharefine.evaluation.settings import ResolvedRuns, resolve_runs
from alpharefine.options import Protocol
from alpharefine.trackers.result_files import PublishedResults, find_results, results_of_one


@dataclass(frozen=True)
class TrackerRuns:
    """Runs of one tracker.

    Attributes:
        name: Name of the tracker, and of its folder.
        folders: Folder of each run by name.
        sequences: Sequences to evaluate. Published results may lack some sequences of the data set.
        published: Published results. None if the tracker runs here.
    """

    name: str
    folders: Mapping[str, RunFolder]
    sequences: list[EvaluationSequence]
    published: PublishedResults | None = None

    def to_do(self, run: str, share: Collection[str] | None = None) -> list[EvaluationSequence]:
        """Return the unfinished sequences of a run. A run that is not part of this evaluation has none.

        Args:
            run: Name of the run.
            share: Names of the sequences that this process runs. None selects all sequences.
        """
        if run not in self.folders:
            return []
        return [
            s for s in self.sequences if not self.folders[run].is_done(s.name) and (share is None or s.name in share)
        ]


class RunOutcome(NamedTuple):
    """Outcome of the run stage.

    Attributes:
        output_dir: Results folder.
        dataset: Evaluation data set.
        sequences: Sequences of each tracker by name.
        settings: Configuration of each run of each tracker, for `metrics.json`.
        failures: Names of failed sequences by run.
        is_last: True if all other processes of the launch have finished. The last process scores.
        checkpoint: Description of the checkpoint in one or more lines. Empty without a checkpoint.
    """

    output_dir: Path
    dataset: EvaluationDataset
    sequences: dict[str, list[EvaluationSequence]]
    settings: dict[str, dict[str, Any]]
    failures: Failures
    is_last: bool
    checkpoint: str


def run(config: EvaluationConfig) -> RunOutcome:
    """Run a base tracker or replay published boxes, with or without refinement, and write boxes and times.

    Sequences that are complete in the results folder are skipped. Under torchrun or SLURM the sequences are
    distributed over the processes.

    Args:
        config: Configuration of the evaluation.

    Raises:
        UserError: If a file is missing, options are incompatible, or an error affects more than one sequence.
    """
    dataset = open_dataset(config.dataset)
    if config.output.compare and dataset.published is None:
        raise UserError(f"`--compare`: no published scores on {config.dataset.name} are available; leave it out.")
    sequences = [dataset.load(name) for name in dataset.names]
    resolved = resolve_runs(config)
    output_dir = default_output_dir(config)
    if resolved.checkpoint is not None or resolved.entry.needs_frames:
        require_frames(
            sequences, "A refiner" if resolved.checkpoint is not None else f"--tracker {config.tracker.name}"
        )
    plan = functools.partial(_plan, config, resolved, sequences, output_dir)
    launch = _join(config, plan) if is_launched() else None
    trackers = plan(overwrite=config.run.overwrite and launch is None)
    if resolved.entry.replays:
        _run_replays(trackers, resolved, config.run.devices, launch)
        failures: Failures = {}
    else:
        (tracker,) = trackers
        failures = _run_tracker(tracker, resolved, config.run.devices, launch)
    merged = failures if launch is None else launch.finish(output_dir, failures)
    return RunOutcome(
        output_dir,
        dataset,
        {tracker.name: tracker.sequences for tracker in trackers},
        {
            tracker.name: {run: asdict(folder.settings) for run, folder in tracker.folders.items()}
            for tracker in trackers
        },
        merged or {},
        merged is not None,
        _describe(config, resolved),
    )


def default_output_dir(config: EvaluationConfig) -> Path:
    """Return `output.dir`, or a folder in `results` named after the tracker or the published results.

    Args:
        config: Configuration of the evaluation.
    """
    return config.output.dir or Path("results") / _tracker_name(config)


def _tracker_name(config: EvaluationConfig) -> str:
    results_dir = config.tracker.results_dir
    return folder_name(config.tracker.name if results_dir is None else archive_stem(results_dir.resolve()))


def _describe(config: EvaluationConfig, resolved: ResolvedRuns) -> str:
    loaded = resolved.checkpoint
    if loaded is None:
        return ""
    doubts = f"{loaded.doubts}\n" if loaded.doubts else ""
    return f"{config.refiner.ckpt}: {loaded.description}; {loaded.network.config}\n{doubts}"


def _plan(
    config: EvaluationConfig,
    resolved: ResolvedRuns,
    sequences: list[EvaluationSequence],
    output_dir: Path,
    overwrite: bool,
) -> list[TrackerRuns]:
    """Return the runs of every tracker, after a check of their folders."""
    if not resolved.entry.replays:
        return [_tracker_runs(_tracker_name(config), resolved, sequences, output_dir, overwrite)]
    results_dir = resolved.settings["base"].tracker.results_dir
    assert results_dir is not None
    if output_dir.resolve().is_relative_to(results_dir):
        raise UserError(
            f"`--output_dir`: {output_dir} lies in --results_dir {results_dir}, so the next command would "
            "read it as published results; give another `--output_dir`."
        )
    names = [sequence.name for sequence in sequences]
    single = results_of_one(results_dir, names)
    if single is not None:
        missing = next((name for name in names if name not in single.files), None)
        if missing is not None:
            raise UserError(
                f"--results_dir {results_dir} has no {missing}.txt; the folder of a single tracker needs a file for "
                "each sequence: select existing ones with `--sequences`."
            )
    if single is None:
        trackers = find_results(results_dir, names)
    else:
        texts = [path for suffix in TEXT_SUFFIXES for path in results_dir.glob(f"*{suffix}")]
        trackers = [replace(single, name=_tracker_name(config), digest=file_digest(*sorted(texts)))]
    return [
        _tracker_runs(
            tracker.name,
            resolved,
            [sequence for sequence in sequences if sequence.name in tracker.files],
            output_dir,
            overwrite,
            tracker,
        )
        for tracker in trackers
    ]


def _tracker_runs(
    name: str,
    resolved: ResolvedRuns,
    sequences: list[EvaluationSequence],
    output_dir: Path,
    overwrite: bool,
    published: PublishedResults | None = None,
) -> TrackerRuns:
    digest = None if published is None else published.digest
    folders = {
        run: RunFolder(output_dir / name / run, settings, overwrite, digest)
        for run, settings in resolved.settings.items()
    }
    return TrackerRuns(name, folders, sequences, published)


def _join(config: EvaluationConfig, plan: functools.partial[list[TrackerRuns]]) -> Launch:
    if config.run.devices > 1:
        raise UserError(
            "`--devices` is not possible under torchrun or SLURM: the launcher sets the number of processes."
        )

    def make_costs() -> dict[str, float]:
        costs: dict[str, float] = {}
        for tracker in plan(overwrite=config.run.overwrite):
            for run, folder in tracker.folders.items():
                folder.begin()
                for sequence in tracker.to_do(run):
                    costs[sequence.name] = costs.get(sequence.name, 0) + len(sequence)
        return costs

    return join_launch(make_costs)


def _run_tracker(tracker: TrackerRuns, resolved: ResolvedRuns, num_processes: int, launch: Launch | None) -> Failures:
    """Run the unfinished sequences. Return the names of those that failed, by run."""
    share = None if launch is None else launch.share
    jobs = [SequenceJob(run, sequence) for run in tracker.folders for sequence in tracker.to_do(run, share)]
    failures: Failures = {run: [] for run in tracker.folders}
    total = len(tracker.sequences) * len(tracker.folders)
    if not jobs:
        return failures
    if num_processes > 1:  # longest first: a long sequence at the end would leave the other processes idle
        jobs.sort(key=lambda job: len(job.sequence), reverse=True)
    checkpoint = resolved.checkpoint if num_processes == 1 else None
    make_runner = functools.partial(TrackerRunner, resolved.settings, checkpoint=checkpoint)
    outcomes = run_in_processes(make_runner, jobs, num_processes, _device(launch))
    with _progress(" + ".join(tracker.folders), len(jobs), total) as progress:
        for run, name, result in outcomes:
            if isinstance(result, SequenceError):
                failures[run].append(name)
                progress.write_above(f"Sequence {name} failed: {result}")
            else:
                tracker.folders[run].write(name, result)
                progress.advance(result.times_ms)
    return failures


def _run_replays(
    trackers: list[TrackerRuns], resolved: ResolvedRuns, num_processes: int, launch: Launch | None
) -> None:
    """Write the published boxes, and refine those of unfinished sequences for all trackers together."""
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
        results = run_in_processes(make_runner, jobs.values(), num_processes, _device(launch))
    by_name = {tracker.name: tracker for tracker in trackers}
    for tracker in trackers:
        for sequence in tracker.to_do("base", share):
            tracker.folders["base"].write(sequence.name, unrefined(boxes_xywh[tracker.name][sequence.name]))
    num_sequences = len({sequence.name for tracker in trackers for sequence in tracker.sequences})
    with _progress("refined", len(jobs), num_sequences) as progress:
        for done in results:
            for name, result in done.results.items():
                by_name[name].folders["refined"].write(done.sequence_name, result)
            progress.advance(np.concatenate([result.times_ms for result in done.results.values()]))


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


def score(
    output_dir: Path,
    dataset: EvaluationDataset,
    split: str,
    protocol: Protocol,
    sequences: Mapping[str, list[EvaluationSequence]],
    settings: Mapping[str, Mapping[str, Any]],
    compare: bool = False,
) -> Metrics:
    """Score the boxes of a results folder. Write `metrics.json`, and the curves or submission archive of each run.

    Args:
        output_dir: Results folder.
        dataset: Evaluation data set.
        split: Name of the split.
        protocol: Scoring conventions of a one-pass data set.
        sequences: Sequences to score, by tracker.
        settings: Settings of each run, by tracker.
        compare: Add published scores to the metrics.

    Raises:
        UserError: If a result is missing, malformed or too short.
    """
    folders = run_folders(output_dir)
    trackers = {}
    for name, chosen in sequences.items():
        runs = {run: _score_run(folders[name][run], dataset, protocol, chosen) for run in settings[name]}
        trackers[name] = TrackerMetrics(runs, dict(settings[name]))
    metrics = Metrics(
        dataset=dataset.config.name,
        split=split,
        scoring=dataset.scoring,
        protocol=protocol if dataset.scoring == "one_pass" else None,
        sequences=list(dataset.names),
        num_frames=sum({s.name: len(s) for chosen in sequences.values() for s in chosen}.values()),
        trackers=trackers,
        published=_compare(dataset, protocol, sequences) if compare else None,
    )
    write_whole(output_dir / METRICS_FILE, metrics.to_json())
    return metrics


def _compare(
    dataset: EvaluationDataset, protocol: Protocol, sequences: Mapping[str, list[EvaluationSequence]]
) -> PublishedComparison:
    """Return the published scores. The tracker with the fewest sequences decides whether they are comparable."""
    assert dataset.published is not None
    fewest = min(sequences.values(), key=len)
    why_not = dataset.published.why_incomparable([s.name for s in fewest], sum(map(len, fewest)), protocol)
    return PublishedComparison(dataset.published.rows, why_not)


def _score_run(
    folder: Path, dataset: EvaluationDataset, protocol: Protocol, sequences: list[EvaluationSequence]
) -> RunMetrics:
    names = [sequence.name for sequence in sequences]
    boxes_xywh, median_ms = read_results(folder, names), median_times(folder, names)
    if dataset.scoring == "none":
        return RunMetrics(None, median_ms)
    if dataset.scoring == "server":
        archive = folder / "submission.zip"
        dataset.pack(boxes_xywh, {name: read_times(folder, name).sum(axis=1) for name in names}, archive)
        return RunMetrics(None, median_ms, str(archive))
    scored = score_run(boxes_xywh, sequences, dataset.scoring, protocol)
    part = folder / f".{CURVES_FILE}"
    arrays: dict[str, Any] = {"names": np.array(list(scored.sequences)), **scored.sequence_curves}
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(folder / CURVES_FILE)
    return RunMetrics(scored, median_ms)


def score_folder(config: EvaluationConfig, output_dir: Path) -> Metrics:
    """Score all complete sequences of a results folder.

    Args:
        config: Configuration saved in the folder, with overrides. `dataset.sequences` selects sequences if not empty.
        output_dir: Results folder.

    Raises:
        UserError: If the folder holds no run, or no sequence of the data set is complete.
    """
    folders = run_folders(output_dir)
    done = {name: set.intersection(*map(done_sequences, runs.values())) for name, runs in folders.items()}
    everywhere = set.union(*done.values())
    names = config.dataset.sequences or tuple(_in_official_order(config, everywhere))
    dataset = open_dataset(replace(config.dataset, sequences=names))
    loaded = {name: dataset.load(name) for name in dataset.names if name in everywhere}
    if not loaded:
        raise UserError(f"{output_dir} has no complete result for the chosen sequences; run `evaluate` first.")
    settings = {
        name: {run: json.loads((path / SETTINGS_FILE).read_text()) for run, path in runs.items()}
        for name, runs in folders.items()
    }
    sequences = {name: [loaded[s] for s in loaded if s in complete] for name, complete in done.items()}
    sequences = {name: chosen for name, chosen in sequences.items() if chosen}
    protocol = config.output.protocol
    return score(
        output_dir,
        dataset,
        config.dataset.split,
        dataset.default_protocol if protocol == "auto" else protocol,
        sequences,
        settings,
    )


def _in_official_order(config: EvaluationConfig, names: Collection[str]) -> list[str]:
    """Order names as in the split of the data set, followed by names that are not in the split."""
    official = [name for name in open_dataset(replace(config.dataset, sequences=())).names if name in names]
    return official + sorted(set(names) - set(official))


def save_config(output_dir: Path, text: str) -> None:
    """Save the resolved configuration with the results.

    Args:
        output_dir: Results folder.
        text: Configuration as YAML.
    """
    write_whole(output_dir / CONFIG_FILE, text)
