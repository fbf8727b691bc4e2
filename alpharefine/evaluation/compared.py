"""Raw results of other trackers that are scored beside an evaluation, on the same sequences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from alpharefine.data.text import folder_name
from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence
from alpharefine.evaluation.failures import NO_FILE
from alpharefine.evaluation.metrics_file import COMPARED_RESULTS, Metrics, TrackerMetrics
from alpharefine.evaluation.replay import unrefined
from alpharefine.evaluation.results import StoredResult
from alpharefine.evaluation.tracker_scores import SequenceBoxes, StoredRuns, read_runs, score_tracker
from alpharefine.options import Protocol
from alpharefine.trackers.result_files import PublishedResults, find_results, results_of_one

OPTION = "--compare_results"


class ComparedTracker(NamedTuple):
    """Raw results of one tracker.

    Attributes:
        name: Name in the report.
        folder: Folder or archive of the results.
        results: Result files.
    """

    name: str
    folder: Path
    results: PublishedResults

    @property
    def settings(self) -> dict[str, dict[str, str]]:
        """Settings for `metrics.json`, from which `find_again` finds the results."""
        return {"base": {COMPARED_RESULTS: str(self.folder.resolve()), "name": self.results.name}}


def absolute(place: str) -> str:
    """Return a place of raw results with an absolute path.

    Args:
        place: ``DIR`` or ``NAME=DIR``.
    """
    name, folder = _split(place)
    return f"{name}={folder.resolve()}" if name else str(folder.resolve())


def _split(place: str) -> tuple[str, Path]:
    name, has_name, folder = place.partition("=")
    if not has_name or Path(place).exists():
        return "", Path(place)
    if not name or not folder:
        raise UserError(f"`{OPTION}` must be DIR or NAME=DIR, got {place!r}.")
    return name, Path(folder)


def require_scored(dataset: EvaluationDataset) -> None:
    """Check that the boxes of a data set are scored here.

    Args:
        dataset: Evaluation data set.

    Raises:
        UserError: If its ground truth is kept by a server, or ends after the first frame.
    """
    if dataset.scoring in ("none", "server"):
        raise UserError(
            f"`{OPTION}`: the boxes of {dataset.config.name} are not scored here (scoring `{dataset.scoring}`); leave "
            "it out."
        )


def find_compared(
    places: Iterable[str], sequence_names: Collection[str], taken: Collection[str] = ()
) -> list[ComparedTracker]:
    """Find raw results of trackers.

    Args:
        places: Folders or archives, each ``DIR`` or ``NAME=DIR``: of one tracker, which holds ``<sequence>.txt``, or of
            several, in the layouts of `alpharefine.trackers.result_files`. A name requires the results of one tracker.
        sequence_names: Names of the sequences.
        taken: Names of the trackers of the evaluation.

    Raises:
        UserError: If a folder has no results of the sequences, or two trackers have the same name.
    """
    found: dict[str, ComparedTracker] = {}
    for place in places:
        name, folder = _split(place)
        trackers = _read(folder, sequence_names)
        if name and len(trackers) > 1:
            raise UserError(
                f"`{OPTION}`: {folder} holds results of {len(trackers)} trackers ({trackers[0].name}, "
                f"{trackers[1].name}, ...); give the folder of one, or leave the name {name!r} out."
            )
        for results in trackers:
            tracker = ComparedTracker(name or results.name, folder, results)
            if tracker.name in taken:
                raise UserError(
                    f"`{OPTION}`: {tracker.name!r} is the name of a tracker of the evaluation too; name the results by "
                    "NAME=DIR."
                )
            if tracker.name in found:
                raise UserError(
                    f"`{OPTION}`: both {found[tracker.name].results.place} and {results.place} are named "
                    f"{tracker.name!r}; name one by NAME=DIR."
                )
            found[tracker.name] = tracker
    return list(found.values())


def find_again(tracker: str, metrics: TrackerMetrics, sequence_names: Collection[str]) -> ComparedTracker | None:
    """Find the raw results of a tracker that was compared before. Return None for a tracker that was run here.

    Args:
        tracker: Name of the tracker.
        metrics: Numbers of the tracker.
        sequence_names: Names of the sequences.

    Raises:
        UserError: If the results are gone.
    """
    if not metrics.is_compared:
        return None
    settings = metrics.settings["base"]
    folder = Path(settings[COMPARED_RESULTS])
    for results in _read(folder, sequence_names):
        if results.name == settings["name"]:
            return ComparedTracker(tracker, folder, results)
    raise UserError(f"{folder} has no results of {settings['name']} any more; restore them, or score again.")


def _read(folder: Path, sequence_names: Collection[str]) -> list[PublishedResults]:
    single = results_of_one(folder, sequence_names, OPTION)
    return (
        find_results(folder, sequence_names, OPTION)
        if single is None
        else [replace(single, name=folder_name(folder.resolve().name))]
    )


def read_compared(
    tracker: ComparedTracker,
    sequences: Iterable[EvaluationSequence],
    dataset: EvaluationDataset,
    protocol: Protocol,
) -> StoredRuns:
    """Read the raw results of a tracker. Sequences that it lacks, or that cannot be scored, are among the failures.

    Args:
        tracker: Raw results.
        sequences: Sequences.
        dataset: Evaluation data set.
        protocol: Scoring conventions of a one-pass data set.
    """
    return read_runs(tracker.name, {"base": partial(_result, tracker)}, list(sequences), dataset, protocol)


def _result(tracker: ComparedTracker, sequence: EvaluationSequence) -> StoredResult:
    if sequence.name not in tracker.results.files:
        raise UserError(NO_FILE)
    truth_xywh = sequence.truth.boxes_xywh
    result = unrefined(tracker.results.boxes_xywh(sequence.name, truth_xywh[0], len(truth_xywh)))
    return StoredResult(result.boxes_xywh, result.times_ms, result.counts)


def add_compared(
    metrics: Metrics,
    places: Sequence[str],
    sequences: Collection[EvaluationSequence],
    dataset: EvaluationDataset,
) -> tuple[Metrics, dict[str, dict[str, SequenceBoxes]]]:
    """Score raw results on the sequences of an evaluation, and add them to its trackers.

    Args:
        metrics: Scores of the evaluation.
        places: Folders of raw results, see `find_compared`.
        sequences: Sequences of the evaluation. Those that no tracker of it was scored on are left out.
        dataset: Evaluation data set.

    Returns:
        Tuple of the scores with the further trackers, and the boxes of these by name.

    Raises:
        UserError: If a folder has no result that can be scored, a name is that of a tracker of the evaluation, or the
            data set is not scored here.
    """
    require_scored(dataset)
    scored = [sequence for sequence in sequences if sequence.name in metrics.frames]
    protocol = metrics.protocol or dataset.default_protocol
    trackers, failures = dict(metrics.trackers), list(metrics.failures)
    boxes: dict[str, dict[str, SequenceBoxes]] = {}
    for tracker in find_compared(places, [sequence.name for sequence in scored], metrics.trackers):
        stored = read_compared(tracker, scored, dataset, protocol)
        if not stored.sequences:
            raise UserError(
                f"`{OPTION}`: no result in {tracker.results.place} can be scored: {stored.failures[0].line}"
            )
        trackers[tracker.name] = score_tracker(stored, {}, tracker.settings, dataset, protocol)
        boxes[tracker.name] = stored.boxes()
        failures += [failure._replace(run="") if failure.is_absent else failure for failure in stored.failures]
    return replace(metrics, trackers=trackers, failures=failures), boxes
