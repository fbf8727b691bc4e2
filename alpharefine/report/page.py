"""The report page: one HTML file without references to other files."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader

from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.failures import Failure
from alpharefine.evaluation.metrics_file import Metrics, TrackerMetrics
from alpharefine.evaluation.results import write_whole
from alpharefine.evaluation.tracker_scores import SequenceBoxes, TrackerBoxes
from alpharefine.report.plots import figure_bytes, plot_all
from alpharefine.report.scores import (
    Cell,
    CellKind,
    attribute_table,
    gains_of,
    has_gain,
    main_scores,
    score_table,
    sequence_table,
)
from alpharefine.report.series import draw_frame, frame_overlaps, shown_frames
from alpharefine.report.settings import settings_table
from alpharefine.report.styles import run_lines
from alpharefine.report.summary import format_counts, list_errors, list_failures, list_missing
from alpharefine.video.drawing import BASE, MASK_COLOR, REFINED, TRUTH, Color

REPORT_FILE = "report.html"
"""Name of the page in a results folder."""

_NUM_PICTURES, _PICTURE_WIDTH, _JPEG_QUALITY = 24, 320, 80
"""Pictures of a sequence, and their width in pixels."""

_MAX_STRIPS = 12
_MAX_EACH = 3
"""Best sequences of a tracker with pictures, and worst ones."""

_MAX_OVERLAPS = 4_000_000
"""Number of overlaps above which only every second, third ... frame is kept."""

_NO_OVERLAP = 255
"""Value of a frame without a target in the encoded overlaps; 254 is an overlap of 1."""


_Item = TypeVar("_Item")


class _Plot(NamedTuple):
    """Plot in the page."""

    name: str
    uri: str
    text: str


class _Strip(NamedTuple):
    """Pictures of one tracker in one sequence."""

    tracker: str
    sequence: str
    cell: Cell
    pictures: list[tuple[int, str]]
    fault: str


class _Choice(NamedTuple):
    """Sequence that may be shown in pictures, with the number that it was chosen by."""

    tracker: str
    boxes: SequenceBoxes
    cell: Cell


class _LegendLine(NamedTuple):
    """Line in the legend of the pictures. One without dashes has an empty `dash`."""

    label: str
    color: str
    dash: str = ""


def write_results_page(metrics: Metrics, boxes: Mapping[str, TrackerBoxes], output_dir: Path) -> None:
    """Write the report of scored results as `REPORT_FILE` in their folder.

    Args:
        metrics: Scores of the results.
        boxes: Boxes by tracker.
        output_dir: Results folder.

    Raises:
        UserError: If the file cannot be written.
    """
    write_whole(output_dir / REPORT_FILE, render_report(metrics, boxes))


def render_report(metrics: Metrics, boxes: Mapping[str, TrackerBoxes], unread: Sequence[Failure] = ()) -> str:
    """Return the text of the report of an evaluation.

    Args:
        metrics: Scores of the evaluation.
        boxes: Boxes by tracker.
        unread: Sequences that were scored, and whose files cannot be read any more.
    """
    environment = Environment(
        loader=PackageLoader("alpharefine.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    ranked = {name: _rank(name, metrics.trackers[name], each) for name, each in boxes.items()}
    choices = _choose(ranked)
    strips = [_strip(choice) for choice in choices]
    overlaps = _encoded_overlaps(metrics, boxes)
    return environment.get_template("report.html").render(
        metrics=metrics,
        scores=score_table(metrics),
        settings=settings_table(metrics),
        plots=_plots(metrics),
        attributes=attribute_table(metrics),
        sequences=sequence_table(metrics),
        strips=list(zip(strips, _strip_ids(strips, overlaps), strict=True)),
        cut=_describe_cut(ranked, choices),
        legend=_legend([choice.boxes for choice in choices]),
        overlaps=overlaps,
        notes=[
            *list_missing(metrics),
            *format_counts(metrics),
            *list_errors(metrics),
            *list_failures(unread, metrics.sequences, "scored before, but not readable now, so without frames here:"),
        ],
    )


def _plots(metrics: Metrics) -> list[_Plot]:
    every = ", ".join(metrics.trackers)
    return [
        _Plot(
            name,
            _uri(figure_bytes(figure, "svg"), "image/svg+xml"),
            f"scores by attribute of {every}"
            if name == "attributes"
            else f"{name.replace('_', ' ')} curves of {every}",
        )
        for name, figure in plot_all(metrics).items()
    ]


def _choose(ranked: Mapping[str, list[_Choice]]) -> list[_Choice]:
    """Choose at most `_MAX_STRIPS` sequences. The trackers take turns, so that each has one before any has two."""
    taken = {(choice.tracker, choice.boxes.sequence.name) for choice in _in_turn(*ranked.values())[:_MAX_STRIPS]}
    return [
        choice
        for each in ranked.values()
        for choice in sorted(each, key=_descending)
        if (choice.tracker, choice.boxes.sequence.name) in taken
    ]


def _rank(tracker: str, numbers: TrackerMetrics, boxes: TrackerBoxes) -> list[_Choice]:
    """Return the best sequence of a tracker, the worst one, the second best one, and so on: by gain, else by score."""
    scores = {run: main_scores(score) for run, score in numbers.scores.items()}
    if not scores:
        return []
    is_gain = has_gain(scores)
    values = gains_of(scores) if is_gain else next(iter(scores.values()))
    shown = [name for name, each in boxes.items() if each.sequence.frame_paths is not None and name in values]
    order = sorted(shown, key=lambda name: -values[name])
    half = min(_MAX_EACH, (len(order) + 1) // 2)
    best, worst = order[:half], order[half:][::-1][:half]
    kind: CellKind = "gain" if is_gain else "score"
    return [_Choice(tracker, boxes[name], Cell(kind, values[name])) for name in _in_turn(best, worst)]


def _in_turn(*lists: Sequence[_Item]) -> list[_Item]:
    """Return the first items of all lists, then the second ones, and so on."""
    return [item for turn in zip_longest(*lists) for item in turn if item is not None]


def _descending(choice: _Choice) -> float:
    return -(choice.cell.value or 0.0)


def _describe_cut(ranked: Mapping[str, list[_Choice]], choices: Sequence[_Choice]) -> str:
    """Return a remark if some trackers that have frames are not shown in pictures."""
    shown = {choice.tracker for choice in choices}
    missing = [name for name, each in ranked.items() if each and name not in shown]
    if not missing:
        return ""
    return f"The page holds the pictures of {_MAX_STRIPS} sequences; there are none of {', '.join(missing)}."


def _strip(choice: _Choice) -> _Strip:
    pictures, fault = [], ""
    for index in shown_frames(len(choice.boxes.sequence), _NUM_PICTURES):
        try:
            picture = draw_frame(choice.boxes, index, _PICTURE_WIDTH)
        except UserError as error:  # the scores do not need the frames
            fault = str(error)
            break
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()
        pictures.append((index, _uri(content, "image/jpeg")))
    return _Strip(choice.tracker, choice.boxes.sequence.name, choice.cell, pictures, fault)


def _legend(drawn: Sequence[SequenceBoxes]) -> list[_LegendLine]:
    """Return the lines of what the pictures show."""
    runs = {run for boxes in drawn for run in boxes.boxes_xywh}
    lines = [_LegendLine(TRUTH.label, _css(TRUTH.color), "3")]
    lines += [_LegendLine(BASE.label, _css(BASE.color), "9 6")] if "base" in runs else []
    lines += [_LegendLine(REFINED.label, _css(REFINED.color))] if "refined" in runs else []
    has_masks = any(boxes.mask_folder is not None for boxes in drawn)
    return lines + ([_LegendLine("mask", _css(MASK_COLOR))] if has_masks else [])


def _encoded_overlaps(metrics: Metrics, boxes: Mapping[str, TrackerBoxes]) -> dict[str, Any]:
    """Return the overlaps of each sequence and run, as bytes in base 64, of every n-th frame and of the last one."""
    total = sum(len(each.sequence) * len(each.boxes_xywh) for one in boxes.values() for each in one.values())
    step = max(1, math.ceil(total / _MAX_OVERLAPS))
    sequences: dict[str, Any] = {}
    for line in run_lines(metrics):
        for name, each in boxes.get(line.tracker, {}).items():
            if line.run not in each.boxes_xywh or not _has_truth(each.sequence):
                continue
            entry = sequences.setdefault(name, {"name": name, "frames": len(each.sequence), "runs": []})
            overlaps = frame_overlaps(each.boxes_xywh[line.run], each.sequence)
            kept = overlaps[np.r_[0 : len(overlaps) - 1 : step, len(overlaps) - 1]]
            codes = np.nan_to_num((kept * (_NO_OVERLAP - 1)).round(), nan=_NO_OVERLAP)
            text = base64.b64encode(codes.astype(np.uint8).tobytes()).decode()
            run = {"tracker": line.tracker, "label": line.label, "color": line.color, "dashed": line.is_dashed}
            entry["runs"].append({**run, "overlaps": text})
    order = {name: index for index, name in enumerate(metrics.sequences)}
    entries = sorted(sequences.values(), key=lambda entry: order.get(entry["name"], len(order)))
    return {"step": step, "trackers": list(metrics.trackers), "sequences": entries}


def _strip_ids(strips: Sequence[_Strip], overlaps: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return the numbers of the sequence and of the tracker of each strip, which need no escapes in a page."""
    sequences = {entry["name"]: index for index, entry in enumerate(overlaps["sequences"])}
    trackers = {name: index for index, name in enumerate(overlaps["trackers"])}
    return [(sequences.get(strip.sequence, -1), trackers[strip.tracker]) for strip in strips]


def _has_truth(sequence: EvaluationSequence) -> bool:
    return bool(np.isfinite(sequence.truth.boxes_xywh[1:]).any())


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _css(color: Color) -> str:
    return f"rgb({', '.join(map(str, color))})"
