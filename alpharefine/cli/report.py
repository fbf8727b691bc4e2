"""Subcommand ``report``: prints the scores of results folders."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from alpharefine.cli.arguments import command_line
from alpharefine.cli.command import UserErrorParser


def _make_parser() -> ArgumentParser:
    parser = UserErrorParser(
        prog="alpharefine report", description="Print the scores of results folders that `evaluate` or `score` wrote."
    )
    parser.add_argument("results", nargs="+", type=Path, help="Results folder, or path of a metrics.json.")
    parser.add_argument("--attributes", action="store_true", help="Print the scores by attribute.")
    parser.add_argument("--per_sequence", action="store_true", help="Print the scores of every sequence.")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Print a table for each results folder.

    Args:
        args: Arguments; those of the command line by default.

    Raises:
        UserError: If a folder has no `metrics.json`.
    """
    options = _make_parser().parse_args(command_line(args))

    from alpharefine.evaluation.metrics_file import read_metrics
    from alpharefine.report.summary import format_attribute_scores, format_sequence_scores, format_summary

    for folder in options.results:
        metrics = read_metrics(folder)
        parts = [str(folder), format_summary(metrics)]
        parts += [format_attribute_scores(metrics)] if options.attributes else []
        parts += [format_sequence_scores(metrics)] if options.per_sequence else []
        sys.stdout.write("\n".join(parts) + "\n")
