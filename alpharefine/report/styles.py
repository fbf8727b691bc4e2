"""One color for each tracker and one line style for each run, in all plots of a report."""

from __future__ import annotations

from colorsys import hls_to_rgb
from typing import NamedTuple

from alpharefine.evaluation.metrics_file import Metrics, RunMetrics
from alpharefine.report.scores import run_label

_COLORS = ("#0072b2", "#d55e00", "#008a62", "#b0528a", "#8a6d00", "#000000", "#7450d0")
"""Colors after Okabe and Ito, which are told apart with common kinds of color blindness; the lighter ones are darkened
to a contrast of 3:1 on white."""

_GOLDEN_RATIO = 0.618034
_LIGHTNESS = (0.22, 0.33, 0.28)


class RunLine(NamedTuple):
    """Run of a tracker, and how it is drawn.

    Attributes:
        tracker: Name of the tracker.
        run: Name of the run.
        label: Name in legends.
        color: Color of the tracker, ``#rrggbb``.
        is_dashed: True for a tracker without refinement on a page that has refined runs.
        metrics: Numbers of the run.
    """

    tracker: str
    run: str
    label: str
    color: str
    is_dashed: bool
    metrics: RunMetrics


def run_lines(metrics: Metrics) -> list[RunLine]:
    """Return the runs of all trackers with their colors and line styles.

    Args:
        metrics: Scores of an evaluation.
    """
    is_refined = any("refined" in tracker.runs for tracker in metrics.trackers.values())
    return [
        RunLine(
            tracker,
            run,
            run_label(tracker, run, len(numbers.runs)),
            tracker_color(number),
            is_refined and run == "base",
            run_metrics,
        )
        for number, (tracker, numbers) in enumerate(metrics.trackers.items())
        for run, run_metrics in numbers.runs.items()
    ]


def tracker_color(number: int) -> str:
    """Return the color of a tracker; beyond the first seven, hues are spread by the golden ratio.

    Args:
        number: Number of the tracker, from 0.
    """
    if number < len(_COLORS):
        return _COLORS[number]
    lightness = _LIGHTNESS[number % len(_LIGHTNESS)]
    red, green, blue = hls_to_rgb(number * _GOLDEN_RATIO % 1, lightness, 0.75)
    return "#" + "".join(f"{round(255 * value):02x}" for value in (red, green, blue))
