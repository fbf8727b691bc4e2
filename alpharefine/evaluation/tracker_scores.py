"""Scores of one tracker: from the boxes of its runs, wherever they are read from, to its part of `metrics.json`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence
from alpharefine.evaluation.failures import Failure, add_counts
from alpharefine.evaluation.metrics_file import RunMetrics, TrackerMetrics
from alpharefine.evaluation.results import CURVES_FILE, StoredResult, median_times, read_boxes, run_folders
from alpharefine.evaluation.score import RunScore, SequenceScore, combine_scores, score_sequence
from alpharefine.options import Protocol

Read = Callable[[EvaluationSequence], StoredResult]
"""Function that returns the result of a sequence, or raises a `UserError`."""


class SequenceBoxes(NamedTuple):
    """Boxes of one tracker in one sequence of N frames.

    Attributes:
        sequence: Sequence with its ground truth.
        boxes_xywh: Boxes by run, ``(N, 4)``.
        mask_folder: Folder of saved masks. None if there is none.
    """

    sequence: EvaluationSequence
    boxes_xywh: Mapping[str, np.ndarray]
    mask_folder: Path | None = None


TrackerBoxes = Mapping[str, SequenceBoxes]
"""Boxes of one tracker by name of the sequence."""


class StoredRuns(NamedTuple):
    """Results of one tracker.

    Attributes:
        sequences: Sequences that all runs have and that can be scored.
        results: Results by run and by name of the sequence.
        scores: Scores by run, in the order of `sequences`. Empty lists if the data set defines none.
        failures: Sequences that are left out.
    """

    sequences: list[EvaluationSequence]
    results: dict[str, dict[str, StoredResult]]
    scores: dict[str, list[SequenceScore]]
    failures: list[Failure]

    def boxes(self, mask_root: Path | None = None) -> dict[str, SequenceBoxes]:
        """Return the boxes by name of the sequence.

        Args:
            mask_root: Folder of the refined run.
        """
        return {
            sequence.name: SequenceBoxes(
                sequence,
                {run: stored[sequence.name].boxes_xywh for run, stored in self.results.items()},
                _mask_folder(mask_root, sequence.name),
            )
            for sequence in self.sequences
        }


def read_runs(
    tracker: str,
    runs: Mapping[str, Read],
    sequences: Collection[EvaluationSequence],
    dataset: EvaluationDataset,
    protocol: Protocol,
) -> StoredRuns:
    """Read and score the results of a tracker.

    A sequence that a run lacks, or that cannot be scored, is left out of all runs.

    Args:
        tracker: Name of the tracker.
        runs: Function that reads a result, by run.
        sequences: Sequences to read.
        dataset: Evaluation data set.
        protocol: Scoring conventions of a one-pass data set.
    """
    results: dict[str, dict[str, StoredResult]] = {run: {} for run in runs}
    scores: dict[str, list[SequenceScore]] = {run: [] for run in runs}
    present, failures = [], []
    for sequence in sequences:
        found: dict[str, StoredResult] = {}
        scored: dict[str, SequenceScore] = {}
        for run, read in runs.items():
            try:
                found[run] = read(sequence)
                if dataset.scoring in ("one_pass", "got10k"):
                    scored[run] = score_sequence(found[run].boxes_xywh, sequence, dataset.scoring, protocol)
            except UserError as error:
                failures.append(Failure(sequence.name, str(error), tracker, run))
                break
        else:
            present.append(sequence)
            for run, result in found.items():
                results[run][sequence.name] = result
            for run, part in scored.items():
                scores[run].append(part)
    return StoredRuns(present, results, scores, failures)


def score_tracker(
    stored: StoredRuns,
    folders: Mapping[str, Path],
    settings: Mapping[str, Any],
    dataset: EvaluationDataset,
    protocol: Protocol,
) -> TrackerMetrics:
    """Score the runs of a tracker.

    Args:
        stored: Results, at least one.
        folders: Folder of each run, for its curves or its submission archive. A run without one writes no file.
        settings: Settings of each run.
        dataset: Evaluation data set.
        protocol: Scoring conventions of a one-pass data set.
    """
    return TrackerMetrics(
        {run: _score_run(stored, run, folders.get(run), dataset, protocol) for run in stored.results},
        dict(settings),
    )


def _score_run(
    stored: StoredRuns, run: str, folder: Path | None, dataset: EvaluationDataset, protocol: Protocol
) -> RunMetrics:
    results = stored.results[run]
    median_ms = median_times(result.times_ms for result in results.values())
    counts = add_counts(result.counts for result in results.values())
    if dataset.scoring == "none":
        return RunMetrics(None, median_ms, counts)
    if dataset.scoring == "server":
        if folder is None or set(dataset.official_names()) - set(results):
            return RunMetrics(None, median_ms, counts)  # a part of the split, which the server does not accept
        archive = folder / "submission.zip"
        boxes_xywh = {name: result.boxes_xywh for name, result in results.items()}
        dataset.pack(boxes_xywh, {name: result.times_ms.sum(axis=1) for name, result in results.items()}, archive)
        return RunMetrics(None, median_ms, counts, str(archive))
    scored = combine_scores(stored.scores[run], stored.sequences, dataset.scoring, protocol)
    if folder is not None:
        _write_curves(scored, folder)
    return RunMetrics(scored, median_ms, counts)


def _write_curves(scored: RunScore, folder: Path) -> None:
    arrays: dict[str, Any] = {"names": np.array(list(scored.sequences)), **scored.sequence_curves}
    part = folder / f".{CURVES_FILE}"
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(folder / CURVES_FILE)


def read_tracker_boxes(
    output_dir: Path, tracker: str, runs: Collection[str], sequences: Collection[EvaluationSequence]
) -> tuple[dict[str, SequenceBoxes], list[Failure]]:
    """Read the boxes of a tracker that was scored before, and list the sequences whose files cannot be read any more.

    Args:
        output_dir: Results folder.
        tracker: Name of the tracker.
        runs: Names of the runs. The folder may hold another one, of an earlier command.
        sequences: Sequences with their ground truth.

    Raises:
        UserError: If the folder of a run is gone.
    """
    folders = run_folders(output_dir).get(tracker, {})
    for run in runs:
        if run not in folders:
            raise UserError(
                f"{output_dir / tracker / run} holds no run, but the scores in {output_dir} are of it; restore the "
                "folder, or score what is left with `alpharefine score`."
            )
    found, failures = {}, []
    for sequence in sequences:
        boxes_xywh: dict[str, np.ndarray] = {}
        for run in runs:
            try:
                boxes_xywh[run] = read_boxes(folders[run], sequence.name, sequence.truth.boxes_xywh)
            except UserError as error:
                failures.append(Failure(sequence.name, str(error), tracker, run))
                break
        else:
            masks = _mask_folder(folders.get("refined") if "refined" in runs else None, sequence.name)
            found[sequence.name] = SequenceBoxes(sequence, boxes_xywh, masks)
    return found, failures


def _mask_folder(run_folder: Path | None, sequence_name: str) -> Path | None:
    folder = None if run_folder is None else run_folder / "masks" / sequence_name
    return folder if folder is not None and folder.is_dir() else None
