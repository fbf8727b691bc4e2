"""Subcommand ``evaluate``: runs a base tracker with and without refinement, scores it and prints a table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from alpharefine.cli.arguments import command_line, make_parser, parse_config
from alpharefine.errors import UserError


def main(args: Sequence[str] | None = None) -> None:
    """Run, score and report.

    Args:
        args: Arguments; those of the command line by default.

    Raises:
        UserError: If an input is missing or wrong, or sequences failed; the others are complete then.
    """
    parser = make_parser(
        "alpharefine evaluate",
        "Run a base tracker over an evaluation data set, with and without refinement, and score it.",
    )
    config = parse_config(parser, command_line(args))

    from alpharefine.evaluation import stages  # torch is imported here, after `--help`
    from alpharefine.report.summary import format_summary

    outcome = stages.run(config)
    if not outcome.is_last:
        return
    output_dir = outcome.results.output_dir
    _raise_if_failed(outcome.failures, output_dir)
    metrics = stages.score(outcome.results, config.output.protocol, config.output.compare)
    sys.stdout.write(f"{outcome.checkpoint}{format_summary(metrics)}\nboxes and metrics.json in {output_dir}\n")


def _raise_if_failed(failures: Mapping[str, list[str]], output_dir: Path) -> None:
    if any(failures.values()):
        names = "; ".join(f"{run}: {', '.join(sorted(names))}" for run, names in failures.items() if names)
        raise UserError(
            f"{sum(map(len, failures.values()))} sequences failed ({names}); see above. The boxes of the others are in "
            f"{output_dir}. Run the same command again to retry them."
        )
