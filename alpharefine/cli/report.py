"""Subcommand ``report``: prints the scores of results folders, or writes them as a page, tables and plots."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alpharefine.cli.arguments import command_line, make_parser, parse_config, saved_config
from alpharefine.cli.command import UserErrorParser
from alpharefine.errors import UserError

if TYPE_CHECKING:
    from alpharefine.evaluation.datasets.base import EvaluationSequence
    from alpharefine.evaluation.metrics_file import Metrics

FORMATS = ("html", "csv", "latex", "markdown", "pdf", "png", "svg")


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
        "--format", default="", help=f"Formats of the files to write, separated by commas: {', '.join(FORMATS)}."
    )
    parser.add_argument("--output", type=Path, help="Folder of the files (default: the first results folder).")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Print a table for each results folder, or write the files of a report.

    Args:
        args: Arguments; those of the command line by default.

    Raises:
        UserError: If a folder has no `metrics.json`, or the folders differ in what was evaluated.
    """
    options = _make_parser().parse_args(command_line(args))
    formats = [name.strip() for name in options.format.split(",") if name.strip()]
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UserError(f"`--format` must be among {', '.join(FORMATS)}, got {unknown[0]}.")
    if options.output is not None and not formats:
        raise UserError("`--output` is the folder of the files of `--format`; give both, or leave it out.")

    from alpharefine.evaluation.metrics_file import read_metrics
    from alpharefine.report.summary import format_attribute_scores, format_sequence_scores, format_summary

    parts = {folder: read_metrics(folder) for folder in options.results}
    if formats:
        _write(parts, formats, options.output or _folder_of(options.results[0]))
        return
    for folder, metrics in parts.items():
        texts = [str(folder), format_summary(metrics)]
        texts += [format_attribute_scores(metrics)] if options.attributes else []
        texts += [format_sequence_scores(metrics)] if options.per_sequence else []
        sys.stdout.write("\n".join(texts) + "\n")


def _folder_of(results: Path) -> Path:
    return results if results.is_dir() else results.parent


def _write(parts: dict[Path, Metrics], formats: Sequence[str], output: Path) -> None:
    from alpharefine.evaluation.metrics_file import join_metrics
    from alpharefine.report.export import PLOTS, TABLES, write_plots, write_tables
    from alpharefine.report.page import REPORT_FILE, write_report
    from alpharefine.report.series import TrackerBoxes, read_boxes

    metrics, origins = join_metrics(parts)
    output.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name in formats:
        if name in TABLES:
            written += write_tables(metrics, output, name)
        elif name in PLOTS:
            written += write_plots(metrics, output, name)
        else:
            sequences = {folder: _load_sequences(_folder_of(folder), part) for folder, part in parts.items()}
            trackers: list[TrackerBoxes] = []
            for joined, (folder, tracker) in origins.items():
                runs = parts[folder].trackers[tracker].runs
                boxes = read_boxes(_folder_of(folder), tracker, runs, sequences[folder])
                trackers.append(replace(boxes, name=joined))
            write_report(metrics, trackers, output / REPORT_FILE)
            written.append(output / REPORT_FILE)
    sys.stdout.write("".join(f"{path}\n" for path in written))


def _load_sequences(folder: Path, metrics: Metrics) -> list[EvaluationSequence]:
    """Read the sequences of a results folder; those that cannot be read are left out."""
    from alpharefine.evaluation.datasets.registry import open_dataset
    from alpharefine.evaluation.stages import load_sequences

    parser = make_parser("alpharefine report", "")
    config = parse_config(parser, saved_config(folder, "config.yaml"))
    dataset = open_dataset(replace(config.dataset, sequences=tuple(metrics.sequences)))
    return load_sequences(dataset, dataset.names)[0]
