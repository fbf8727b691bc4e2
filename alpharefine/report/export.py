"""Scores and plots as files for papers: CSV, LaTeX, Markdown, PDF, PNG and SVG."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from alpharefine.evaluation.metrics_file import Metrics
from alpharefine.report.plots import figure_bytes, plot_all
from alpharefine.report.scores import TABLE_MAKERS, Cell, Table

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row, it would be an argument of the line break before it, as would a star
    "*": "{*}",
    "\n": " ",
}
_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " "}
_MARKDOWN_SPECIAL = re.compile(r"[\\|`*\[\]]|(?<!\w)_|_(?!\w)")


def export(metrics: Metrics, formats: Sequence[str]) -> dict[str, str | bytes]:
    """Return the files of tables and plots.

    Args:
        metrics: Scores of an evaluation.
        formats: Each one of `TABLES` or of `PLOTS`.

    Returns:
        Content by name of the file: the tables ``scores``, ``sequences`` and ``attributes``, and the plots. Tables and
        plots without content are left out.
    """
    files: dict[str, str | bytes] = {}
    kinds = [name for name in formats if name in TABLES]
    for name, make in TABLE_MAKERS.items() if kinds else ():
        table = make(metrics)
        for kind in kinds if table.rows else ():
            suffix, write = TABLES[kind]
            files[f"{name}.{suffix}"] = write(table)
    suffixes = [name for name in formats if name in PLOTS]
    for name, figure in plot_all(metrics).items() if suffixes else ():
        files |= {f"{name}.{suffix}": figure_bytes(figure, suffix) for suffix in suffixes}
    return files


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.heads, *table.titles])
    writer.writerows([*row.labels, *(cell.text for cell in row.cells)] for row in table.rows)
    return text.getvalue()


def _markdown(table: Table) -> str:
    lines = [
        [markdown_text(head) for head in (*table.heads, *table.titles)],
        [*("---" for _ in table.heads), *("---:" for _ in table.titles)],
        *([*map(markdown_text, row.labels), *(cell.text or "-" for cell in row.cells)] for row in table.rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown_text(text: str) -> str:
    r"""Return text that Markdown shows as it is, also in a cell of a table.

    Args:
        text: Text.

    >>> markdown_text("a|b <c>")
    'a\\|b &lt;c&gt;'
    """
    escaped = _MARKDOWN_SPECIAL.sub(lambda found: f"\\{found[0]}", text)
    return "".join(_MARKDOWN.get(character, character) for character in escaped)


def _latex(table: Table) -> str:
    r"""Return a `tabular` of the package booktabs."""
    head = _latex_row([latex_text(name) for name in (*table.heads, *table.titles)])
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(table.heads)}{'r' * len(table.titles)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *(_latex_row([*map(latex_text, row.labels), *map(_latex_number, row.cells)]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def latex_text(text: str) -> str:
    r"""Return text that LaTeX sets as it is.

    Args:
        text: Text.

    >>> latex_text("50 %_a")
    '50 \\%\\_a'
    """
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_number(cell: Cell) -> str:
    """Return a number; one with a sign as a formula, in which the minus is no hyphen."""
    return f"${cell.text}$" if cell.kind == "gain" and cell.text else cell.text or "-"


TABLES: dict[str, tuple[str, Callable[[Table], str]]] = {
    "csv": ("csv", _csv),
    "latex": ("tex", _latex),
    "markdown": ("md", _markdown),
}
"""Suffix of the files, and function from a table to text, by format."""

PLOTS = ("pdf", "png", "svg")
"""Formats of plots, which are also suffixes."""
