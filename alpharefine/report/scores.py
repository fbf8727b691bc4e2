"""Scores as tables of cells, for the report and for papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from alpharefine.evaluation.metrics_file import Metrics, TrackerMetrics
from alpharefine.report.tables import title_of


class ScoreRow(NamedTuple):
    """Row of a run, or of the gain of the runs above.

    Attributes:
        label: Name of the run.
        kind: ``base``, ``refined`` or ``gain``.
        cells: Numbers as text; ``-`` where there is none.
    """

    label: str
    kind: str
    cells: list[str]


class ScoreTable(NamedTuple):
    """Scores of all runs.

    Attributes:
        titles: Titles of the cells.
        rows: Rows in the order of the trackers.
    """

    titles: list[str]
    rows: list[ScoreRow]


class SequenceTable(NamedTuple):
    """Main score of every run in every sequence, and the gains.

    Attributes:
        titles: Titles of the columns.
        are_gains: Whether a column holds gains.
        rows: Name of a sequence, and its numbers; None where there is no result.
    """

    titles: list[str]
    are_gains: list[bool]
    rows: list[tuple[str, list[float | None]]]


def run_label(tracker: str, run: str, num_runs: int) -> str:
    """Return the name of a run in a table or legend.

    Args:
        tracker: Name of the tracker.
        run: Name of the run.
        num_runs: Number of runs of the tracker.
    """
    return f"{tracker} + refinement" if run == "refined" else f"{tracker} (base)" if num_runs > 1 else tracker


def main_score(scores: Mapping[str, float]) -> float:
    """Return the first of the scores of a run: success AUC or AO.

    Args:
        scores: Scores by key.
    """
    return next(iter(scores.values()))


def has_gain(tracker: TrackerMetrics) -> bool:
    """Return True if a tracker has scores with and without refinement.

    Args:
        tracker: Numbers of the tracker.
    """
    return {"base", "refined"} <= set(tracker.scores)


def score_table(metrics: Metrics) -> ScoreTable:
    """Return the scores of all runs, their gains, and the milliseconds a frame of tracker and refinement.

    Args:
        metrics: Scores of an evaluation.
    """
    keys = list(
        dict.fromkeys(k for t in metrics.trackers.values() for score in t.scores.values() for k in score.scores)
    )
    rows: list[ScoreRow] = []
    for name, tracker in metrics.trackers.items():
        for run, numbers in tracker.runs.items():
            scores = numbers.score.scores if numbers.score is not None else {}
            milliseconds = sum(numbers.median_ms.get(column, 0.0) for column in ("base", "refine"))
            cells = [f"{scores[key]:.2f}" if key in scores else "-" for key in keys]
            cells.append(f"{milliseconds:.1f}" if milliseconds > 0 else "-")
            rows.append(ScoreRow(run_label(name, run, len(tracker.runs)), run, cells))
        if has_gain(tracker):
            base, refined = (tracker.scores[run].scores for run in ("base", "refined"))
            rows.append(ScoreRow("gain", "gain", [*(f"{refined[key] - base[key]:+.2f}" for key in keys), ""]))
    return ScoreTable([*(title_of(key, metrics.protocol or "lasot") for key in keys), "ms a frame"], rows)


def sequence_table(metrics: Metrics) -> SequenceTable:
    """Return the main score of every run in every sequence, and the gains.

    Args:
        metrics: Scores of an evaluation.
    """
    columns: dict[str, dict[str, float]] = {}
    for name, tracker in metrics.trackers.items():
        for run, score in tracker.scores.items():
            label = run_label(name, run, len(tracker.scores))
            columns[label] = {sequence: main_score(scores) for sequence, scores in score.sequences.items()}
        if has_gain(tracker):
            columns[gain_label(metrics, name)] = sequence_gains(tracker)
    names = [name for name in metrics.sequences if any(name in column for column in columns.values())]
    gains = {gain_label(metrics, name) for name in metrics.trackers}
    return SequenceTable(
        list(columns),
        [title in gains for title in columns],
        [(name, [column.get(name) for column in columns.values()]) for name in names],
    )


def sequence_gains(tracker: TrackerMetrics) -> dict[str, float]:
    """Return the gain in the main score by sequence, for a tracker with scores with and without refinement.

    Args:
        tracker: Numbers of the tracker.
    """
    base, refined = (tracker.scores[run].sequences for run in ("base", "refined"))
    return {name: main_score(refined[name]) - main_score(base[name]) for name in base}


def gain_label(metrics: Metrics, tracker: str) -> str:
    """Return the title of the column of a tracker's gains.

    Args:
        metrics: Scores of an evaluation.
        tracker: Name of the tracker.
    """
    return f"{tracker}: gain" if len(metrics.trackers) > 1 else "gain"
