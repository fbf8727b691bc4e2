"""Subcommand ``report``: prints the scores of results folders, or writes them as a page, tables and plots."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alpharefine.cli.arguments import command_line, make_parser, parse_config, saved_config
from alpharefine.cli.command import UserErrorParser
from alpharefine.errors import UserError

if TYPE_CHECKING:
    from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence
    from alpharefine.evaluation.failures import Failure
    from alpharefine.evaluation.metrics_file import Metrics
    from alpharefine.evaluation.tracker_scores import SequenceBoxes

FORMATS = ("html", "csv", "latex", "markdown", "pdf", "png", "svg")


class _Data(NamedTuple):
    """Sequences of one results folder.

    Attributes:
        dataset: Evaluation data set.
        sequences: Sequences that at least one tracker was scored on.
        failures: Those of them that cannot be read any more.
    """

    dataset: EvaluationDataset
    sequences: list[EvaluationSequence]
    failures: list[Failure]


def _make_parser() -> ArgumentParser:
    parser = UserErrorParser(
        prog="alpharefine report",
        description="Print the scores of results folders that `evaluate` or `score` wrote, or write them as a page, "
        "tables and plots. Several folders are written as one report.",
    )
    parser.add_argument("results", nargs="+", type=Path, help="Results folder, or path of a metrics.json.")
    parser.add_argument("--attributes", action="store_true", help="Print the scores by attribute.")
    parser.add_argument("--per_sequence", action="store_true", help="Print the scores of every sequence.")
    parser.add_argument(
        "--compare_results",
        type=_split,
        default=[],
        metavar="DIR,...",
        help="Raw results of other trackers to score on the same sequences: folders or archives of `<sequence>.txt`, "
        "each DIR or NAME=DIR, separated by commas.",
    )
    parser.add_argument(
        "--format", type=_split, help=f"Formats of the files to write, separated by commas: {', '.join(FORMATS)}."
    )
    parser.add_argument(
        "--output", type=Path, help="Folder of the files. Required for several folders (default: the results folder)."
    )
    return parser


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main(args: Sequence[str] | None = None) -> None:
    """Print a table for each results folder, or write the files of a report.

    Args:
        args: Arguments; those of the command line by default.

    Raises:
        UserError: If options do not fit together, a folder has no `metrics.json` or lacks what was scored, the folders
            differ in what was evaluated, or raw results cannot be scored.
    """
    options = _make_parser().parse_args(command_line(args))
    places: list[str] = options.compare_results
    if options.format is None and options.output is not None:
        raise UserError("`--output` is the folder of the files of `--format`; give both, or leave it out.")
    if options.format is not None:
        _check_format(options.format, attributes=options.attributes, per_sequence=options.per_sequence)
        if options.output is not None and options.output.exists() and not options.output.is_dir():
            raise UserError(f"`--output`: {options.output} is a file; give a folder.")
        if options.output is None and len(options.results) > 1:
            raise UserError("`--output` is required for a report on several folders; give a folder for its files.")

    from alpharefine.evaluation.compared import add_compared
    from alpharefine.evaluation.metrics_file import read_metrics
    from alpharefine.report.summary import format_attribute_scores, format_sequence_scores, format_summary

    parts = {folder: read_metrics(folder) for folder in options.results}
    if options.format is not None:
        _write(parts, options.format, options.output or _folder_of(options.results[0]), places)
        return
    for folder, metrics in parts.items():
        if places:
            data = _load(folder, metrics)
            metrics, _ = add_compared(metrics, places, data.sequences, data.dataset)
        texts = [str(folder), format_summary(metrics)]
        texts += [format_attribute_scores(metrics)] if options.attributes else []
        texts += [format_sequence_scores(metrics)] if options.per_sequence else []
        sys.stdout.write("\n".join(texts) + "\n")


def _check_format(formats: Sequence[str], **printed: bool) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UserError(f"`--format` must be among {', '.join(FORMATS)}, got {unknown[0] if unknown else 'none'}.")
    for option, is_given in printed.items():
        if is_given:
            raise UserError(f"`--{option}` is for printed scores, and files hold them always; leave it out.")


def _folder_of(results: Path) -> Path:
    return results if results.is_dir() else results.parent


def _write(parts: dict[Path, Metrics], formats: Sequence[str], output: Path, places: Sequence[str]) -> None:
    from alpharefine.evaluation.compared import add_compared
    from alpharefine.evaluation.failures import unique
    from alpharefine.evaluation.metrics_file import join_metrics
    from alpharefine.evaluation.results import write_whole
    from alpharefine.report.export import export
    from alpharefine.report.page import REPORT_FILE, render_report

    metrics, origins = join_metrics(parts)
    data = {folder: _load(folder, part) for folder, part in parts.items()} if places or "html" in formats else {}
    boxes: dict[str, dict[str, SequenceBoxes]] = {}
    unread = [failure for each in data.values() for failure in each.failures]
    if "html" in formats:
        boxes, lacking = _read_boxes(parts, data, origins)
        unread += lacking
    if places:
        by_name = {sequence.name: sequence for each in data.values() for sequence in each.sequences}
        metrics, others = add_compared(metrics, places, list(by_name.values()), next(iter(data.values())).dataset)
        boxes |= others
    files = export(metrics, formats)
    if "html" in formats:
        files = {REPORT_FILE: render_report(metrics, boxes, unique(unread)), **files}
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(output / name, content)
    sys.stdout.write("".join(f"{output / name}\n" for name in files))


def _read_boxes(
    parts: Mapping[Path, Metrics], data: Mapping[Path, _Data], origins: Mapping[str, tuple[Path, str]]
) -> tuple[dict[str, dict[str, SequenceBoxes]], list[Failure]]:
    """Read the boxes of all trackers by joined name, and list what cannot be read any more."""
    from alpharefine.evaluation.compared import find_again, read_compared
    from alpharefine.evaluation.tracker_scores import read_tracker_boxes

    boxes: dict[str, dict[str, SequenceBoxes]] = {}
    unread: list[Failure] = []
    for joined, (folder, tracker) in origins.items():
        metrics, numbers = parts[folder], parts[folder].trackers[tracker]
        scores = [score.sequences for score in numbers.scores.values()]
        sequences = [each for each in data[folder].sequences if not scores or each.name in scores[0]]
        compared = find_again(tracker, numbers, [sequence.name for sequence in sequences])
        if compared is None:
            boxes[joined], failures = read_tracker_boxes(_folder_of(folder), tracker, numbers.runs, sequences)
        else:
            dataset = data[folder].dataset
            stored = read_compared(compared, sequences, dataset, metrics.protocol or dataset.default_protocol)
            boxes[joined], failures = stored.boxes(), stored.failures
        unread += [failure._replace(tracker=joined) for failure in failures]
    return boxes, unread


def _load(results: Path, metrics: Metrics) -> _Data:
    """Read the sequences of a results folder that were scored."""
    from alpharefine.evaluation.datasets.registry import open_dataset
    from alpharefine.evaluation.stages import load_sequences

    parser = make_parser("alpharefine report", "")
    config = parse_config(parser, saved_config(_folder_of(results), "config.yaml"))
    dataset = open_dataset(replace(config.dataset, sequences=tuple(metrics.frames)))
    return _Data(dataset, *load_sequences(dataset, dataset.names))
