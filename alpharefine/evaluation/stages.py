"""Run and score stages of an evaluation: `run` writes boxes, and `score` computes their scores."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from alpharefine.errors import UserError
from alpharefine.evaluation.config import EvaluationConfig
from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.execute import Write, run_replays, run_tracker
from alpharefine.evaluation.launch import Failures, Launch, is_launched, join_launch
from alpharefine.evaluation.metrics_file import Metrics, PublishedComparison, RunMetrics, TrackerMetrics
from alpharefine.evaluation.plan import TrackerRuns, default_output_dir, plan_runs
from alpharefine.evaluation.results import (
    CURVES_FILE,
    METRICS_FILE,
    RunFolder,
    done_sequences,
    median_times,
    read_run_settings,
    read_times,
    run_folders,
    save_config,
    write_whole,
)
from alpharefine.evaluation.run import SequenceResult, require_frames
from alpharefine.evaluation.score import read_results, score_run
from alpharefine.evaluation.settings import ResolvedRuns, resolve_runs
from alpharefine.options import Protocol


@dataclass(frozen=True)
class ResultsSet:
    """Results to score.

    Attributes:
        output_dir: Results folder.
        dataset: Evaluation data set.
        sequences: Sequences of each tracker by name; a tracker may lack some of the data set.
        runs: Names of the runs of each tracker by name.
    """

    output_dir: Path
    dataset: EvaluationDataset
    sequences: dict[str, list[EvaluationSequence]]
    runs: dict[str, list[str]]


class RunOutcome(NamedTuple):
    """Outcome of the run stage.

    Attributes:
        results: Results to score.
        failures: Names of failed sequences by run.
        is_last: True if all other processes of the launch have finished. The last process scores.
        checkpoint: Description of the checkpoint in one or more lines. Empty without a checkpoint.
    """

    results: ResultsSet
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
    _check_output(config, dataset)
    sequences = [dataset.load(name) for name in dataset.names]
    resolved = resolve_runs(config)
    output_dir = default_output_dir(config)
    if resolved.checkpoint is not None or resolved.entry.needs_frames:
        require_frames(
            sequences, "A refiner" if resolved.checkpoint is not None else f"--tracker {config.tracker.name}"
        )
    plan = functools.partial(plan_runs, config, resolved, sequences, output_dir)
    launch = _join(config, plan) if is_launched() else None
    trackers = plan(overwrite=config.run.overwrite and launch is None)
    write = _make_writer(config, output_dir)
    if resolved.entry.replays:
        run_replays(trackers, resolved, config.run.devices, launch, write)
        failures: Failures = {}
    else:
        (tracker,) = trackers
        failures = run_tracker(tracker, resolved, config.run.devices, launch, write)
    merged = failures if launch is None else launch.finish(output_dir, failures)
    results = ResultsSet(
        output_dir,
        dataset,
        {tracker.name: tracker.sequences for tracker in trackers},
        {tracker.name: list(tracker.folders) for tracker in trackers},
    )
    return RunOutcome(results, merged or {}, merged is not None, _describe(config, resolved))


def _make_writer(config: EvaluationConfig, output_dir: Path) -> Write:
    """Return a function that writes results, and the configuration with the first of them."""
    saved = False

    def write(folder: RunFolder, name: str, result: SequenceResult) -> None:
        nonlocal saved
        folder.write(name, result)
        if not saved:
            save_config(output_dir, config)
            saved = True

    return write


def _describe(config: EvaluationConfig, resolved: ResolvedRuns) -> str:
    loaded = resolved.checkpoint
    if loaded is None:
        return ""
    doubts = f"{loaded.doubts}\n" if loaded.doubts else ""
    return f"{config.refiner.ckpt}: {loaded.description}; {loaded.network.config}\n{doubts}"


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


def score(results: ResultsSet, protocol: Protocol | Literal["auto"] = "auto", compare: bool = False) -> Metrics:
    """Score the boxes of a results folder; write `metrics.json` and the curves, or the submission archives.

    Args:
        results: Results to score.
        protocol: Scoring conventions of a one-pass data set; ``auto`` selects those of the data set.
        compare: Add published scores.

    Raises:
        UserError: If a result is missing, malformed or too short.
    """
    dataset, folders = results.dataset, run_folders(results.output_dir)
    chosen = dataset.default_protocol if protocol == "auto" else protocol
    trackers = {}
    for name, sequences in results.sequences.items():
        paths = {run: folders[name][run] for run in results.runs[name]}
        trackers[name] = TrackerMetrics(
            {run: _score_run(path, dataset, chosen, sequences) for run, path in paths.items()},
            {run: read_run_settings(path) for run, path in paths.items()},
        )
    lengths = {sequence.name: len(sequence) for each in results.sequences.values() for sequence in each}
    metrics = Metrics(
        dataset=dataset.config.name,
        split=dataset.split,
        scoring=dataset.scoring,
        protocol=chosen if dataset.scoring == "one_pass" else None,
        sequences=list(dataset.names),
        num_frames=sum(lengths.values()),
        trackers=trackers,
        published=_compare(results, chosen) if compare else None,
    )
    write_whole(results.output_dir / METRICS_FILE, metrics.to_json())
    return metrics


def _check_output(config: EvaluationConfig, dataset: EvaluationDataset) -> None:
    """Refuse options of the output that the data set does not have."""
    if config.output.compare and dataset.published is None:
        raise UserError(f"`--compare`: no published scores on {config.dataset.name} are available; leave it out.")
    if config.output.protocol != "auto" and dataset.scoring != "one_pass":
        raise UserError(
            f"`--protocol`: the scores of {config.dataset.name} have no protocols (scoring `{dataset.scoring}`); leave "
            "it out."
        )


def _compare(results: ResultsSet, protocol: Protocol) -> PublishedComparison:
    """Collect published scores. The tracker with the fewest sequences decides whether they are comparable."""
    published = results.dataset.published
    assert published is not None
    fewest = min(results.sequences.values(), key=len)
    why_not = published.why_incomparable([s.name for s in fewest], sum(map(len, fewest)), protocol)
    return PublishedComparison(published.rows, why_not)


def _score_run(
    folder: Path, dataset: EvaluationDataset, protocol: Protocol, sequences: list[EvaluationSequence]
) -> RunMetrics:
    names = [sequence.name for sequence in sequences]
    boxes_xywh, median_ms = read_results(folder, names), median_times(folder, names)
    if dataset.scoring == "none":
        return RunMetrics(None, median_ms)
    if dataset.scoring == "server":
        if set(dataset.official_names()) - set(names):
            return RunMetrics(None, median_ms)  # a part of the split, which the server does not accept
        archive = folder / "submission.zip"
        dataset.pack(boxes_xywh, {name: read_times(folder, name).sum(axis=1) for name in names}, archive)
        return RunMetrics(None, median_ms, str(archive))
    scored = score_run(boxes_xywh, sequences, dataset.scoring, protocol)
    arrays: dict[str, Any] = {"names": np.array(list(scored.sequences)), **scored.sequence_curves}
    part = folder / f".{CURVES_FILE}"
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(folder / CURVES_FILE)
    return RunMetrics(scored, median_ms)


def score_folder(config: EvaluationConfig, output_dir: Path) -> Metrics:
    """Score all complete sequences of all trackers in a results folder.

    Args:
        config: Configuration saved in the folder, with changes; `dataset.sequences` restricts the sequences.
        output_dir: Results folder.

    Raises:
        UserError: If the folder holds no run, or none of the sequences is complete.
    """
    folders = run_folders(output_dir)
    done = {name: set.intersection(*map(done_sequences, runs.values())) for name, runs in folders.items()}
    everywhere = set.union(*done.values())
    names = config.dataset.sequences or tuple(_in_official_order(config, everywhere))
    dataset = open_dataset(replace(config.dataset, sequences=names))
    _check_output(config, dataset)
    incomplete = [name for name in config.dataset.sequences if name not in everywhere]
    if incomplete:
        raise UserError(f"`--sequences`: {incomplete[0]} is not complete in {output_dir}; run `evaluate` first.")
    loaded = {name: dataset.load(name) for name in dataset.names if name in everywhere}
    if not loaded:
        raise UserError(f"{output_dir} has no complete sequence; run `evaluate` first.")
    sequences = {name: [loaded[s] for s in loaded if s in complete] for name, complete in done.items()}
    sequences = {name: chosen for name, chosen in sequences.items() if chosen}
    results = ResultsSet(output_dir, dataset, sequences, {name: list(folders[name]) for name in sequences})
    return score(results, config.output.protocol, config.output.compare)


def _in_official_order(config: EvaluationConfig, names: Collection[str]) -> list[str]:
    """Order names as in the split of the data set; names that are not in it come last."""
    official = [name for name in open_dataset(replace(config.dataset, sequences=())).names if name in names]
    return official + sorted(set(names) - set(official))
