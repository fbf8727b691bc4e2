"""Plots of scores, for the report and for papers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alpharefine.evaluation.metrics_file import Metrics
from alpharefine.metrics.functional import GOT10K_THRESHOLDS
from alpharefine.report.scores import run_label
from alpharefine.report.tables import title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colors of Okabe and Ito, which are told apart with all common kinds of color blindness."""


class _Axis(NamedTuple):
    """Horizontal axis of a curve."""

    title: str
    label: str
    thresholds: np.ndarray
    score: str


def _curve_axis(curve: str, num_thresholds: int) -> _Axis:
    """Return the axis of a curve.

    Args:
        curve: Name of the curve, see `alpharefine.evaluation.score.RunScore`.
        num_thresholds: Length of the curve.
    """
    if curve == "precision":
        return _Axis("Precision", "location error threshold [px]", np.arange(num_thresholds), "precision_20")
    if curve == "norm_precision":
        thresholds = np.linspace(0, 0.5, num_thresholds)
        return _Axis("Normalized precision", "location error threshold", thresholds, "norm_precision_20")
    if num_thresholds == len(GOT10K_THRESHOLDS):
        return _Axis("Success", "overlap threshold", GOT10K_THRESHOLDS, "ao")
    return _Axis("Success", "overlap threshold", np.linspace(0, 1, num_thresholds), "success_auc")


def plot_curves(metrics: Metrics) -> dict[str, Figure]:
    """Plot the curves of all trackers, the best first in the legend.

    Args:
        metrics: Scores of an evaluation.

    Returns:
        A figure by name of the curve. Empty if there are no scores.
    """
    figures = {}
    names = dict.fromkeys(
        name for tracker in metrics.trackers.values() for score in tracker.scores.values() for name in score.curves
    )
    for name in names:
        figure, axes = _figure()
        lines = []
        for number, (tracker, numbers) in enumerate(metrics.trackers.items()):
            for run, score in numbers.scores.items():
                axis = _curve_axis(name, len(score.curves[name]))
                label = f"{run_label(tracker, run, len(numbers.scores))} [{score.scores[axis.score]:.1f}]"
                (line,) = axes.plot(
                    axis.thresholds,
                    100 * score.curves[name],
                    label=label,
                    color=_COLORS[number % len(_COLORS)],
                    linestyle="--" if run == "base" and len(numbers.scores) > 1 else "-",
                )
                lines.append((score.scores[axis.score], line))
        axes.set(title=axis.title, xlabel=axis.label, ylabel="frames [%]", ylim=(0, 100))
        axes.set_xlim(float(axis.thresholds[0]), float(axis.thresholds[-1]))
        handles = [line for _, line in sorted(lines, key=lambda pair: -pair[0])]
        # A long name may be cut, but must not squeeze the axes.
        axes.legend(handles=handles, fontsize="small", framealpha=0.8).set_in_layout(False)
        figures[name] = figure
    return figures


def plot_attributes(metrics: Metrics) -> Figure | None:
    """Plot the main score by attribute as bars, one a run. Return None if the annotations hold no attributes.

    Args:
        metrics: Scores of an evaluation.
    """
    bars: dict[str, Mapping[str, Mapping[str, float]]] = {
        run_label(tracker, run, len(numbers.scores)): score.attributes
        for tracker, numbers in metrics.trackers.items()
        for run, score in numbers.scores.items()
        if score.attributes
    }
    if not bars:
        return None
    attributes = list(dict.fromkeys(name for scores in bars.values() for name in scores))
    key = next(iter(next(iter(next(iter(bars.values())).values()))))
    figure, axes = _figure(width=max(6.0, 0.28 * len(attributes) * (len(bars) + 1)))
    width = 0.8 / len(bars)
    for number, (label, scores) in enumerate(bars.items()):
        places = np.arange(len(attributes)) + (number - (len(bars) - 1) / 2) * width
        heights = [scores[name][key] if name in scores else np.nan for name in attributes]
        axes.bar(places, heights, width, label=label, color=_COLORS[number % len(_COLORS)])
    axes.set_xticks(range(len(attributes)), attributes)
    axes.set(title=f"{title_of(key, metrics.protocol or 'lasot')} by attribute", ylabel="percent", ylim=(0, 100))
    axes.legend(fontsize="small", ncols=2).set_in_layout(False)
    return figure


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
