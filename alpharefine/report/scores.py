"""Scores as tables of cells, for the report and for papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from alpharefine.evaluation.metrics_file import Metrics
from alpharefine.evaluation.score import RunScore
from alpharefine.metrics import Protocol

_TITLES = {
    "success_auc": "AUC",
    "precision_20": "P@20",
    "norm_precision_20": "P_norm@0.2",
    "ao": "AO",
    "sr_50": "SR0.5",
    "sr_75": "SR0.75",
}

CellKind = Literal["count", "score", "gain", "time"]

_PATTERNS: dict[CellKind, str] = {"count": "{:.0f}", "score": "{:.2f}", "gain": "{:+.2f}", "time": "{:.1f}"}


class Cell(NamedTuple):
    """Number in a table.

    Attributes:
        kind: Kind, which decides the number of digits.
        value: Number. None if there is none.
    """

    kind: CellKind
    value: float | None

    @property
    def text(self) -> str:
        """Number as text; empty if there is none."""
        return "" if self.value is None else _PATTERNS[self.kind].format(self.value)

    @property
    def sign(self) -> int:
        """Sign of a gain as it is printed: -1, 0 or 1; 0 for other numbers."""
        printed = float(self.text) if self.kind == "gain" and self.value is not None else 0.0
        return (printed > 0) - (printed < 0)


class Row(NamedTuple):
    """Row of a table.

    Attributes:
        labels: Text of the first columns.
        cells: Numbers of the others.
    """

    labels: list[str]
    cells: list[Cell]


class Table(NamedTuple):
    """Table of numbers.

    Attributes:
        heads: Titles of the columns of text.
        titles: Titles of the columns of numbers.
        rows: Rows.
    """

    heads: list[str]
    titles: list[str]
    rows: list[Row]


def run_label(tracker: str, run: str, num_runs: int) -> str:
    """Return the name of a run in a table or legend.

    Args:
        tracker: Name of the tracker.
        run: Name of the run.
        num_runs: Number of runs of the tracker.
    """
    return f"{tracker} + refinement" if run == "refined" else f"{tracker} (base)" if num_runs > 1 else tracker


def title_of(key: str, protocol: Protocol | None) -> str:
    """Return the title of a score.

    Args:
        key: Key of the score, see `alpharefine.evaluation.score.RunScore`.
        protocol: Scoring conventions; None if the data set has none.
    """
    return "P_norm_mean" if key == "norm_precision_20" and protocol == "got10k" else _TITLES[key]


def has_gain(runs: Mapping[str, object] | Sequence[str]) -> bool:
    """Return True if there are numbers with and without refinement.

    Args:
        runs: Names of the runs, or a mapping from them.
    """
    return "base" in runs and "refined" in runs


def main_key(score: RunScore) -> str:
    """Return the key of the main score: success AUC or AO.

    Args:
        score: Scores of a run.
    """
    return next(iter(score.scores))


def main_scores(score: RunScore) -> dict[str, float]:
    """Return the main score of every sequence.

    Args:
        score: Scores of a run.
    """
    return {name: scores[main_key(score)] for name, scores in score.sequences.items()}


def attribute_scores(score: RunScore) -> dict[str, float]:
    """Return the main score by attribute. Empty if the annotations hold no attributes.

    Args:
        score: Scores of a run.
    """
    return {name: scores[main_key(score)] for name, scores in score.attributes.items()}


def gains_of(runs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the gains of refinement.

    Args:
        runs: Scores with and without refinement, by run and by name.

    >>> gains_of({"base": {"a": 50.0}, "refined": {"a": 60.0}})
    {'a': 10.0}
    """
    return {name: refined - runs["base"][name] for name, refined in runs["refined"].items() if name in runs["base"]}


def score_table(metrics: Metrics) -> Table:
    """Return the scores of all runs, their gains, and the milliseconds a frame of tracker and refinement.

    Args:
        metrics: Scores of an evaluation.
    """
    every = [score for tracker in metrics.trackers.values() for score in tracker.scores.values()]
    keys = list(every[0].scores) if every else []
    rows: list[Row] = []
    for name, tracker in metrics.trackers.items():
        for run, numbers in tracker.runs.items():
            milliseconds = sum(numbers.median_ms.get(column, 0.0) for column in ("base", "refine"))
            scores = {} if numbers.score is None else numbers.score.scores
            cells = [
                Cell("count", None if numbers.score is None else len(numbers.score.sequences)),
                *(Cell("score", scores.get(key)) for key in keys),
                Cell("time", milliseconds or None),
            ]
            rows.append(Row([name, run], cells))
        if has_gain(tracker.scores):
            gains = gains_of({run: score.scores for run, score in tracker.scores.items()})
            cells = [Cell("count", None), *(Cell("gain", gains[key]) for key in keys), Cell("time", None)]
            rows.append(Row([name, "gain"], cells))
    titles = ["sequences", *(title_of(key, metrics.protocol) for key in keys), "ms a frame"]
    return Table(["tracker", "run"], titles, rows)


def sequence_table(metrics: Metrics) -> Table:
    """Return the main score of every run in every sequence, and the gains. It has no rows if there are no scores.

    Args:
        metrics: Scores of an evaluation.
    """
    return _table("sequence", metrics, main_scores, metrics.sequences)


def attribute_table(metrics: Metrics) -> Table:
    """Return the main score of every run by attribute, and the gains. It has no rows if there are no attributes.

    Args:
        metrics: Scores of an evaluation.
    """
    return _table("attribute", metrics, attribute_scores)


def _table(
    head: str, metrics: Metrics, values_of: Callable[[RunScore], dict[str, float]], order: Sequence[str] = ()
) -> Table:
    """Return a table with a column for each run that has values, and a row for each name that has one."""
    columns: list[tuple[str, CellKind, Mapping[str, float]]] = []
    for tracker, numbers in metrics.trackers.items():
        values = {run: values_of(score) for run, score in numbers.scores.items()}
        values = {run: each for run, each in values.items() if each}
        columns += [(run_label(tracker, run, len(numbers.runs)), "score", each) for run, each in values.items()]
        if has_gain(values):
            columns.append((f"{tracker}: gain" if len(metrics.trackers) > 1 else "gain", "gain", gains_of(values)))
    present = dict.fromkeys(name for _, _, column in columns for name in column)
    rows = [
        Row([name], [Cell(kind, column.get(name)) for _, kind, column in columns])
        for name in order or present
        if name in present
    ]
    return Table([head], [title for title, _, _ in columns], rows)


TABLE_MAKERS: dict[str, Callable[[Metrics], Table]] = {
    "scores": score_table,
    "sequences": sequence_table,
    "attributes": attribute_table,
}
"""Functions that make the tables of a report, by name."""
