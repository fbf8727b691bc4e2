"""The report page: one HTML file without references to other files."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader

from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.metrics_file import Metrics
from alpharefine.evaluation.results import write_whole
from alpharefine.evaluation.stages import ResultsSet
from alpharefine.report.plots import figure_bytes, plot_attributes, plot_curves
from alpharefine.report.scores import has_gain, main_score, run_label, score_table, sequence_gains, sequence_table
from alpharefine.report.series import (
    SequenceBoxes,
    TrackerBoxes,
    draw_frame,
    frame_overlaps,
    read_boxes,
    shown_frames,
)
from alpharefine.report.summary import format_counts, list_failures
from alpharefine.video.drawing import BASE, MASK_COLOR, REFINED, TRUTH, Color

REPORT_FILE = "report.html"
"""Name of the page in a results folder."""

_NUM_PICTURES, _PICTURE_WIDTH, _JPEG_QUALITY = 24, 320, 80
"""Pictures of a sequence, and their width in pixels."""

_MAX_STRIPS = 12
_MAX_OVERLAPS = 4_000_000
"""Number of overlaps above which only every second, third ... frame is kept."""

_NO_OVERLAP = 255
"""Value of a frame without a target in the encoded overlaps; 254 is an overlap of 1."""


class _Plot(NamedTuple):
    """Plot in the page."""

    uri: str
    text: str
    is_wide: bool = False


class _Strip(NamedTuple):
    """Pictures of one sequence."""

    tracker: str
    sequence: str
    remark: str
    pictures: list[tuple[int, str]]
    fault: str


def write_results_page(metrics: Metrics, results: ResultsSet) -> None:
    """Write the report of scored results as `REPORT_FILE` in their folder.

    Args:
        metrics: Scores of the results.
        results: Results.

    Raises:
        UserError: If the file cannot be written.
    """
    trackers = [
        read_boxes(results.output_dir, name, tracker.runs, results.sequences[name])
        for name, tracker in metrics.trackers.items()
    ]
    write_report(metrics, trackers, results.output_dir / REPORT_FILE)


def write_report(metrics: Metrics, trackers: Sequence[TrackerBoxes], path: Path) -> None:
    """Write the report of an evaluation.

    Args:
        metrics: Scores of the evaluation.
        trackers: Boxes of the trackers.
        path: Path of the page.

    Raises:
        UserError: If the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("alpharefine.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html").render(
        metrics=metrics,
        scores=score_table(metrics),
        plots=_plots(metrics),
        sequence_table=sequence_table(metrics),
        strips=_strips(metrics, trackers),
        overlaps=_encoded_overlaps(trackers),
        notes=[*format_counts(metrics), *list_failures(metrics.failures, metrics.sequences)],
        colors={
            "base": _css(BASE.color),
            "refined": _css(REFINED.color),
            "truth": _css(TRUTH.color),
            "mask": _css(MASK_COLOR),
        },
    )
    write_whole(path, page)


def _plots(metrics: Metrics) -> list[_Plot]:
    figures = plot_curves(metrics)
    plots = [
        _Plot(_uri(figure_bytes(figure, "svg"), "image/svg+xml"), f"{name.replace('_', ' ')} curves of all runs")
        for name, figure in figures.items()
    ]
    attributes = plot_attributes(metrics)
    if attributes is not None:
        plots.append(_Plot(_uri(figure_bytes(attributes, "svg"), "image/svg+xml"), "scores by attribute", is_wide=True))
    return plots


def _strips(metrics: Metrics, trackers: Sequence[TrackerBoxes]) -> list[_Strip]:
    """Draw the best and the worst sequences of each tracker: by gain, or by score if there is no gain."""
    num_each = max(1, min(3, _MAX_STRIPS // (2 * len(trackers))))
    strips: list[_Strip] = []
    for tracker in trackers:
        numbers = metrics.trackers[tracker.name]
        scored = next(iter(numbers.scores.values()), None)
        if scored is None:
            continue
        gained = has_gain(numbers)
        every = sequence_gains(numbers) if gained else {n: main_score(one) for n, one in scored.sequences.items()}
        values = {
            name: every[name]
            for name, boxes in tracker.sequences.items()
            if boxes.sequence.frame_paths is not None and name in every
        }
        order = sorted(values, key=lambda name: -values[name])
        for name in dict.fromkeys(order[:num_each] + order[-num_each:]):
            remark = f"gain {values[name]:+.2f}" if gained else f"score {values[name]:.2f}"
            strips.append(_strip(tracker.name, tracker.sequences[name], remark))
    return strips[:_MAX_STRIPS]


def _strip(tracker: str, boxes: SequenceBoxes, remark: str) -> _Strip:
    pictures, fault = [], ""
    for index in shown_frames(len(boxes.sequence), _NUM_PICTURES):
        try:
            picture = draw_frame(boxes, index, _PICTURE_WIDTH)
        except UserError as error:  # the scores do not need the frames
            fault = str(error)
            break
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()
        pictures.append((index, _uri(content, "image/jpeg")))
    return _Strip(tracker, boxes.sequence.name, remark, pictures, fault)


def _encoded_overlaps(trackers: Sequence[TrackerBoxes]) -> dict[str, Any]:
    """Return the overlaps of all frames by sequence and run as bytes in base 64, and the distance of the frames."""
    total = sum(len(boxes.sequence) * len(boxes.boxes_xywh) for t in trackers for boxes in t.sequences.values())
    step = max(1, math.ceil(total / _MAX_OVERLAPS))
    sequences: dict[str, Any] = {}
    for tracker in trackers:
        for name, boxes in tracker.sequences.items():
            entry = sequences.setdefault(name, {"frames": len(boxes.sequence), "runs": []})
            if not _has_truth(boxes.sequence):
                continue
            for run, boxes_xywh in boxes.boxes_xywh.items():
                overlaps = frame_overlaps(boxes_xywh, boxes.sequence)[::step]
                codes = np.where(np.isnan(overlaps), _NO_OVERLAP, (overlaps * (_NO_OVERLAP - 1)).round())
                label = run_label(tracker.name, run, len(boxes.boxes_xywh))
                text = base64.b64encode(np.nan_to_num(codes, nan=_NO_OVERLAP).astype(np.uint8).tobytes()).decode()
                entry["runs"].append({"label": label, "run": run, "overlaps": text})
    return {"step": step, "sequences": {name: entry for name, entry in sequences.items() if entry["runs"]}}


def _has_truth(sequence: EvaluationSequence) -> bool:
    return bool(np.isfinite(sequence.truth.boxes_xywh[1:]).any())


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _css(color: Color) -> str:
    return f"rgb({', '.join(map(str, color))})"
