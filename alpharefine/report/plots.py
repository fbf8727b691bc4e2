"""Plots of scores, for the report and for papers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alpharefine.evaluation.metrics_file import Metrics
from alpharefine.metrics.functional import (
    GOT10K_THRESHOLDS,
    NORM_PRECISION_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
)
from alpharefine.report.scores import attribute_scores, main_key, title_of
from alpharefine.report.styles import RunLine, run_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Axis(NamedTuple):
    """Horizontal axis of a curve.

    Attributes:
        title: Title of the plot.
        label: Label of the axis.
        thresholds: Values on the axis.
        score: Key of the score in the legend.
    """

    title: str
    label: str
    thresholds: np.ndarray
    score: str


class Curve(NamedTuple):
    """Curve of one run.

    Attributes:
        line: Run, with its color and line style.
        label: Name and score.
        percent: Percentage of frames for each threshold.
    """

    line: RunLine
    label: str
    percent: np.ndarray


class CurvePlot(NamedTuple):
    """Curves of all runs, the best first.

    Attributes:
        title: Title of the plot.
        label: Label of the horizontal axis.
        thresholds: Values on this axis.
        curves: Curves.
    """

    title: str
    label: str
    thresholds: np.ndarray
    curves: list[Curve]


_ERROR = "location error threshold"
_AXES = {
    "success": _Axis("Success", "overlap threshold", SUCCESS_THRESHOLDS, "success_auc"),
    "precision": _Axis("Precision", f"{_ERROR} [px]", PRECISION_THRESHOLDS, "precision_20"),
    "norm_precision": _Axis("Normalized precision", _ERROR, NORM_PRECISION_THRESHOLDS, "norm_precision_20"),
}
_GOT10K_AXES = {"success": _Axis("Success", "overlap threshold", GOT10K_THRESHOLDS, "ao")}


def plot_all(metrics: Metrics) -> dict[str, Figure]:
    """Plot the curves, and the scores by attribute if the annotations hold attributes.

    Args:
        metrics: Scores of an evaluation.

    Returns:
        A figure by name of the curve, and ``attributes``. Empty if there are no scores.
    """
    figures, attributes = plot_curves(metrics), plot_attributes(metrics)
    return figures if attributes is None else {**figures, "attributes": attributes}


def ranked_curves(metrics: Metrics) -> dict[str, CurvePlot]:
    """Return the curves of all trackers, the best first.

    Args:
        metrics: Scores of an evaluation.

    Returns:
        Curves of all runs by name of the curve. Empty if there are no scores.
    """
    scored = [(line, line.metrics.score) for line in run_lines(metrics) if line.metrics.score is not None]
    plots = {}
    for name, axis in (_GOT10K_AXES if metrics.scoring == "got10k" else _AXES).items() if scored else ():
        curves = [
            Curve(line, f"{line.label} [{score.scores[axis.score]:.1f}]", 100 * score.curves[name])
            for line, score in sorted(scored, key=lambda pair: -pair[1].scores[axis.score])
        ]
        plots[name] = CurvePlot(axis.title, axis.label, axis.thresholds, curves)
    return plots


def plot_curves(metrics: Metrics) -> dict[str, Figure]:
    """Plot the curves of all trackers, the best first in the legend.

    Args:
        metrics: Scores of an evaluation.

    Returns:
        A figure by name of the curve. Empty if there are no scores.
    """
    figures = {}
    for name, plot in ranked_curves(metrics).items():
        figure, axes = _figure()
        handles = []
        for line, label, percent in plot.curves:
            style = "--" if line.is_dashed else "-"
            (handle,) = axes.plot(plot.thresholds, percent, color=line.color, linestyle=style)
            handles.append((handle, label))
        axes.set(title=plot.title, xlabel=plot.label, ylabel="frames [%]", ylim=(0, 100))
        axes.set_xlim(float(plot.thresholds[0]), float(plot.thresholds[-1]))
        _add_legend(axes, handles)
        figures[name] = figure
    return figures


def plot_attributes(metrics: Metrics) -> Figure | None:
    """Plot the main score by attribute as bars, one a run. Return None if the annotations hold no attributes.

    Args:
        metrics: Scores of an evaluation.
    """
    bars = [
        (line, score, attribute_scores(score))
        for line in run_lines(metrics)
        if (score := line.metrics.score) is not None and score.attributes
    ]
    if not bars:
        return None
    attributes = list(dict.fromkeys(name for _, _, values in bars for name in values))
    title = title_of(main_key(bars[0][1]), metrics.protocol)
    figure, axes = _figure(width=max(6.0, 0.28 * len(attributes) * (len(bars) + 1)))
    width = 0.8 / len(bars)
    handles = []
    for number, (line, _, values) in enumerate(bars):
        places = np.arange(len(attributes)) + (number - (len(bars) - 1) / 2) * width
        heights = [values.get(name, np.nan) for name in attributes]
        bar = axes.bar(
            places,
            heights,
            width,
            facecolor="none" if line.is_dashed else line.color,
            hatch="////" if line.is_dashed else None,
            edgecolor=line.color,
        )
        handles.append((bar, line.label))
    axes.set_xticks(range(len(attributes)), attributes)
    axes.set(title=f"{title} by attribute", ylabel="percent", ylim=(0, 100))
    _add_legend(axes, handles, num_columns=2)
    return figure


def _add_legend(axes: Axes, handles: Sequence[tuple[Any, str]], num_columns: int = 1) -> None:
    """Add a legend. A name is text, whatever is in it: Matplotlib drops ``_name`` and reads ``$name$`` as a formula."""
    legend = axes.legend([handle for handle, _ in handles], ["-"] * len(handles), fontsize="small", ncols=num_columns)
    for text, (_, label) in zip(legend.get_texts(), handles, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
    legend.set_in_layout(False)  # a long name may be cut, but must not squeeze the axes


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """Return the content of a picture file. Equal figures give equal content.

    Args:
        figure: Figure.
        suffix: Format: ``svg``, ``pdf`` or ``png``.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[suffix]
    # Text stays text in SVG and PDF: it can be searched, and it is set in the font of the page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "alpharefine", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=suffix, metadata=stamp, dpi=200, transparent=suffix == "svg")
    return buffer.getvalue()


def _figure(width: float = 4.6) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes
