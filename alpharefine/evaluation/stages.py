"""Run and score stages of an evaluation: `run` writes boxes, and `score` computes their scores."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, get_args

from alpharefine.errors import SequenceError, UserError, describe_exception
from alpharefine.evaluation.compared import absolute, add_compared, find_compared, require_scored
from alpharefine.evaluation.config import EvaluationConfig, OutputConfig, VideoRank
from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.execute import Write, run_replays, run_tracker
from alpharefine.evaluation.failures import NO_FILE, Failure, summarize, unique
from alpharefine.evaluation.launch import Launch, is_launched, join_launch
from alpharefine.evaluation.mask_files import remove_killed
from alpharefine.evaluation.metrics_file import Metrics, PublishedComparison
from alpharefine.evaluation.plan import TrackerRuns, default_output_dir, plan_runs
from alpharefine.evaluation.results import (
    METRICS_FILE,
    RunFolder,
    done_sequences,
    read_result,
    read_run_settings,
    run_folders,
    save_config,
    write_whole,
)
from alpharefine.evaluation.run import SequenceResult, require_frames
from alpharefine.evaluation.settings import ResolvedRuns, resolve_runs
from alpharefine.evaluation.tracker_scores import Read, SequenceBoxes, TrackerBoxes, read_runs, score_tracker
from alpharefine.options import Protocol

_MAX_NAME_BYTES = 240
"""Longest name of a sequence that leaves room for a suffix in the 255 bytes of a file name."""


@dataclass(frozen=True)
class ResultsSet:
    """Results to score.

    Attributes:
        output_dir: Results folder.
        dataset: Evaluation data set.
        sequences: Sequences of each tracker by name that all of its runs have; a tracker may lack some.
        runs: Names of the runs of each tracker by name.
        chosen: Names of all chosen sequences.
        failures: Sequences without a result.
    """

    output_dir: Path
    dataset: EvaluationDataset
    sequences: dict[str, list[EvaluationSequence]]
    runs: dict[str, list[str]]
    chosen: list[str]
    failures: list[Failure]


class RunOutcome(NamedTuple):
    """Outcome of the run stage.

    Attributes:
        results: Results to score, and the sequences that failed.
        is_last: True if all other processes of the launch have finished. The last process scores.
        checkpoint: Description of the checkpoint in one or more lines. Empty without a checkpoint.
    """

    results: ResultsSet
    is_last: bool
    checkpoint: str


def run(config: EvaluationConfig) -> RunOutcome:
    """Run a base tracker or replay published boxes, with or without refinement, and write boxes and times.

    Sequences that are complete in the results folder are skipped. A sequence that fails does not stop the others.
    Under torchrun or SLURM the sequences are distributed over the processes.

    Args:
        config: Configuration of the evaluation.

    Raises:
        UserError: If a file is missing, options are incompatible, or an error affects all sequences.
    """
    dataset = open_dataset(config.dataset)
    _check_output(config, dataset)
    sequences, failures = load_sequences(dataset, dataset.names)
    _check_videos(config, dataset, sequences)
    resolved = resolve_runs(config)
    output_dir = default_output_dir(config)
    if resolved.checkpoint is not None or resolved.entry.needs_frames:
        require_frames(
            sequences, "A refiner" if resolved.checkpoint is not None else f"--tracker {config.tracker.name}"
        )
    remove_killed(output_dir)
    plan = functools.partial(plan_runs, config, resolved, sequences, output_dir)
    launch = _join(config, plan, output_dir) if is_launched() else None
    for failure in failures if launch is None or launch.rank == 0 else ():
        sys.stderr.write(f"Sequence {failure.sequence} failed: {failure.reason}\n")
    trackers = plan(overwrite=config.run.overwrite and launch is None)
    if config.output.compare_results:  # a wrong folder is told of before the run
        find_compared(config.output.compare_results, dataset.names, [tracker.name for tracker in trackers])
    for tracker in trackers:
        present = {sequence.name for sequence in tracker.sequences}
        failures += [Failure(each.name, NO_FILE, tracker.name) for each in sequences if each.name not in present]
    write = _make_writer(config, output_dir)
    if resolved.entry.replays:
        failures += run_replays(trackers, resolved, config.run.devices, launch, write)
    else:
        (tracker,) = trackers
        failures += run_tracker(tracker, resolved, config.run.devices, launch, write)
    merged = failures if launch is None else launch.finish(output_dir, failures)
    results = ResultsSet(
        output_dir,
        dataset,
        {tracker.name: tracker.done() for tracker in trackers},
        {tracker.name: list(tracker.folders) for tracker in trackers},
        list(dataset.names),
        merged or [],
    )
    return RunOutcome(results, merged is not None, _describe(config, resolved))


def load_sequences(dataset: EvaluationDataset, names: Iterable[str]) -> tuple[list[EvaluationSequence], list[Failure]]:
    """Read sequences, and list those that cannot be read.

    Args:
        dataset: Evaluation data set.
        names: Names of the sequences.

    Raises:
        UserError: If none can be read.
    """
    sequences: list[EvaluationSequence] = []
    failures: list[Failure] = []
    for name in names:
        try:
            if len(os.fsencode(name)) > _MAX_NAME_BYTES:
                raise SequenceError(f"Sequence {name}: a name must have at most {_MAX_NAME_BYTES} bytes; rename it.")
            sequences.append(dataset.load(name))
        except (UserError, OSError) as error:
            failures.append(Failure(name, describe_exception(error)))
    if not sequences:
        raise UserError(failures[0].reason)
    return sequences, failures


def _make_writer(config: EvaluationConfig, output_dir: Path) -> Write:
    """Return a function that writes results, and the configuration with the first of them."""
    saved = False

    def write(folder: RunFolder, name: str, result: SequenceResult) -> None:
        nonlocal saved
        folder.write(name, result)
        if not saved:
            save_config(output_dir, replace(config, output=_with_absolute_places(config.output)))
            saved = True

    return write


def _with_absolute_places(output: OutputConfig) -> OutputConfig:
    return replace(output, compare_results=tuple(map(absolute, output.compare_results)))


def _describe(config: EvaluationConfig, resolved: ResolvedRuns) -> str:
    loaded = resolved.checkpoint
    if loaded is None:
        return ""
    doubts = f"{loaded.doubts}\n" if loaded.doubts else ""
    return f"{config.refiner.ckpt}: {loaded.description}; {loaded.config}\n{doubts}"


def _join(config: EvaluationConfig, plan: functools.partial[list[TrackerRuns]], output_dir: Path) -> Launch:
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

    return join_launch(make_costs, output_dir)


class Scored(NamedTuple):
    """Scores of results, and the boxes that were scored.

    Attributes:
        metrics: Scores.
        boxes: Boxes by tracker and by name of the sequence.
    """

    metrics: Metrics
    boxes: dict[str, dict[str, SequenceBoxes]]


def score(results: ResultsSet, output: OutputConfig) -> Scored:
    """Score the boxes of a results folder; write `metrics.json` and the curves, or the submission archives.

    A sequence whose files are missing, malformed or too short in a run is left out of all runs of that tracker, and
    listed in the failures.

    Args:
        results: Results to score.
        output: Protocol, published scores, and raw results of other trackers; the folder is not used.

    Raises:
        UserError: If no tracker has a result that can be scored, or raw results are missing.
    """
    dataset, folders = results.dataset, run_folders(results.output_dir)
    protocol = dataset.default_protocol if output.protocol == "auto" else output.protocol
    trackers, failures = {}, list(results.failures)
    boxes: dict[str, dict[str, SequenceBoxes]] = {}
    for name, sequences in results.sequences.items():
        paths = {run: folders[name][run] for run in results.runs[name] if run in folders.get(name, {})}
        stored = read_runs(name, {run: _reader(path) for run, path in paths.items()}, sequences, dataset, protocol)
        failures += stored.failures
        if stored.sequences:
            settings = {run: read_run_settings(path) for run, path in paths.items()}
            trackers[name] = score_tracker(stored, paths, settings, dataset, protocol)
            boxes[name] = stored.boxes(paths.get("refined"))
    failures = unique(failures)
    if not trackers:
        raise UserError(f"No sequence in {results.output_dir} can be scored. {summarize(failures, results.chosen)}")
    by_name = {name: each.sequence for tracker in boxes.values() for name, each in tracker.items()}
    metrics = Metrics(
        dataset=dataset.config.name,
        split=dataset.split,
        scoring=dataset.scoring,
        protocol=protocol if dataset.scoring == "one_pass" else None,
        sequences=results.chosen,
        frames={name: len(sequence) for name, sequence in by_name.items()},
        notes={name: sequence.note for name, sequence in by_name.items() if sequence.note},
        trackers=trackers,
        published=_compare(dataset, boxes, protocol) if output.compare else None,
        failures=failures,
    )
    if output.compare_results:
        metrics, others = add_compared(metrics, output.compare_results, by_name.values(), dataset)
        boxes |= others
    write_whole(results.output_dir / METRICS_FILE, metrics.to_json())
    return Scored(metrics, boxes)


def _reader(folder: Path) -> Read:
    return lambda sequence: read_result(folder, sequence.name, sequence.truth.boxes_xywh)


def _check_output(config: EvaluationConfig, dataset: EvaluationDataset) -> None:
    """Refuse options of the output that the data set does not have."""
    if config.output.compare and dataset.published is None:
        raise UserError(f"`--compare`: no published scores on {config.dataset.name} are available; leave it out.")
    if config.output.compare_results:
        require_scored(dataset)
    if config.output.protocol != "auto" and dataset.scoring != "one_pass":
        raise UserError(
            f"`--protocol`: the scores of {config.dataset.name} have no protocols (scoring `{dataset.scoring}`); leave "
            "it out."
        )


def _check_videos(config: EvaluationConfig, dataset: EvaluationDataset, sequences: list[EvaluationSequence]) -> None:
    """Refuse videos of sequences that are not chosen, have no frames, or cannot be ranked."""
    ranks = get_args(VideoRank)
    for name in config.output.save_video:
        if name not in (*ranks, *dataset.names):
            close = get_close_matches(name, [*ranks, *dataset.names], n=1)
            hint = f"use '{close[0]}'" if close else f"give {', '.join(ranks)} or the name of one"
            raise UserError(f"`--save_video`: '{name}' is not a chosen sequence; {hint}.")
        if name in ranks and dataset.scoring not in ("one_pass", "got10k"):
            raise UserError(
                f"`--save_video {name}`: the sequences of {config.dataset.name} have no scores here; give names of "
                "sequences."
            )
    if config.output.save_video:
        require_frames(sequences, "`--save_video`")


def _compare(dataset: EvaluationDataset, boxes: Mapping[str, TrackerBoxes], protocol: Protocol) -> PublishedComparison:
    """Collect published scores. The tracker with the fewest sequences decides whether they are comparable."""
    published = dataset.published
    assert published is not None
    fewest = min(boxes.values(), key=len)
    num_frames = sum(len(each.sequence) for each in fewest.values())
    return PublishedComparison(published.rows, published.why_incomparable(list(fewest), num_frames, protocol))


def find_results(config: EvaluationConfig, output_dir: Path, planned: Collection[str] = ()) -> ResultsSet:
    """Find all complete sequences of all trackers in a results folder.

    Args:
        config: Configuration saved in the folder, with changes; `dataset.sequences` restricts the sequences.
        output_dir: Results folder.
        planned: Names of the sequences of the last `evaluate`; those without a result are listed. Empty for all
            sequences of the split.

    Raises:
        UserError: If the folder holds no run, or none of the sequences is complete.
    """
    folders = run_folders(output_dir)
    done = {name: set.intersection(*map(done_sequences, runs.values())) for name, runs in folders.items()}
    everywhere = set.union(*(done_sequences(path) for runs in folders.values() for path in runs.values()))
    names = config.dataset.sequences or tuple(_in_official_order(config, everywhere, planned))
    dataset = open_dataset(replace(config.dataset, sequences=names))
    _check_output(config, dataset)
    incomplete = [name for name in config.dataset.sequences if not any(name in each for each in done.values())]
    if incomplete:
        raise UserError(f"`--sequences`: {incomplete[0]} is not complete in {output_dir}; run `evaluate` first.")
    present = [name for name in dataset.names if any(name in each for each in done.values())]
    if not present:
        raise UserError(f"{output_dir} has no complete sequence; run `evaluate` first.")
    loaded, failures = load_sequences(dataset, present)
    failures += [
        Failure(name, NO_FILE, tracker)
        for tracker, complete in done.items()
        for name in dataset.names
        if name not in complete
    ]
    sequences = {name: [s for s in loaded if s.name in complete] for name, complete in done.items()}
    runs = {name: list(folders[name]) for name in sequences}
    return ResultsSet(output_dir, dataset, sequences, runs, list(dataset.names), failures)


def _in_official_order(config: EvaluationConfig, found: Collection[str], planned: Collection[str]) -> list[str]:
    """Order the found and the planned names as in the split of the data set; names that are not in it come last."""
    split = open_dataset(replace(config.dataset, sequences=())).names
    wanted = {*found, *(planned or split)}
    official = [name for name in split if name in wanted]
    return official + sorted(wanted - set(official))
