"""Scores and plots as files for papers: CSV, LaTeX, Markdown, PDF, PNG and SVG."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from alpharefine.evaluation.metrics_file import Metrics
from alpharefine.evaluation.results import write_whole
from alpharefine.report.plots import figure_bytes, plot_attributes, plot_curves
from alpharefine.report.scores import ScoreTable, score_table, sequence_table

_LATEX_SPECIAL = re.compile(r"([&%$#_{}])")


def write_tables(metrics: Metrics, folder: Path, kind: str) -> list[Path]:
    """Write the scores of all runs and of all sequences.

    Args:
        metrics: Scores of an evaluation.
        folder: Existing folder.
        kind: One of `TABLES`.

    Returns:
        Paths of the files.
    """
    suffix, write = TABLES[kind]
    by_sequence = sequence_table(metrics)
    tables = {"scores": _cells(score_table(metrics))}
    if by_sequence.titles:
        rows = [[name, *("" if n is None else f"{n:.2f}" for n in numbers)] for name, numbers in by_sequence.rows]
        tables["sequences"] = [["sequence", *by_sequence.titles], *rows]
    paths = []
    for name, cells in tables.items():
        paths.append(folder / f"{name}.{suffix}")
        write_whole(paths[-1], write(cells))
    return paths


def write_plots(metrics: Metrics, folder: Path, kind: str) -> list[Path]:
    """Write the curves, and the scores by attribute if the annotations hold attributes.

    Args:
        metrics: Scores of an evaluation.
        folder: Existing folder.
        kind: One of `PLOTS`.

    Returns:
        Paths of the files. Empty if there are no scores.
    """
    figures = plot_curves(metrics)
    attributes = plot_attributes(metrics)
    if attributes is not None:
        figures["attributes"] = attributes
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.{kind}")
        write_whole(paths[-1], figure_bytes(figure, kind))
    return paths


def _cells(table: ScoreTable) -> list[list[str]]:
    return [["run", *table.titles], *([row.label, *row.cells] for row in table.rows)]


def _csv(cells: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def _markdown(cells: Sequence[Sequence[str]]) -> str:
    head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in cells)
    rule = ["---", *("---:" for _ in head[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def _latex(cells: Sequence[Sequence[str]]) -> str:
    r"""Return a `tabular` of the package booktabs."""
    head, *rows = (" & ".join(_LATEX_SPECIAL.sub(r"\\\1", cell) for cell in row) + r" \\" for row in cells)
    columns = "l" + "r" * (len(cells[0]) - 1)
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


TABLES: dict[str, tuple[str, Callable[[Sequence[Sequence[str]]], str]]] = {
    "csv": ("csv", _csv),
    "latex": ("tex", _latex),
    "markdown": ("md", _markdown),
}
"""Suffix of the files, and function from cells to text, by format."""

PLOTS = ("pdf", "png", "svg")
"""Formats of plots, which are also suffixes."""
