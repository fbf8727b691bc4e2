"""Subcommand ``score``: scores the boxes of a results folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from alpharefine.cli.arguments import TYPES, command_line, make_parser, parse_config, saved_config
from alpharefine.errors import UserError


def main(args: Sequence[str] | None = None) -> None:
    """Score all complete sequences of a results folder and print the table.

    Args:
        args: Results folder, then options; those of the command line by default.

    Raises:
        UserError: If the folder holds no results, or some sequences have none; the others are scored then.
    """
    parser = make_parser(
        "alpharefine score RESULTS_DIR",
        "Score the boxes of a results folder. Its configuration is read from the folder; `--protocol`, `--sequences`, "
        "`--data_root`, `--annotations_dir`, `--compare_results` and `--wandb` override it. All complete "
        "sequences are scored by default.",
    )
    arguments = command_line(args)
    if arguments and arguments[0] in ("-h", "--help"):
        parser.print_help()
        return
    if not arguments or arguments[0].startswith("-"):
        raise UserError("`score` requires a results folder as its first argument; see `alpharefine score --help`.")
    folder = Path(arguments[0])
    # The saved sequences may be a part of those in the folder. A run of wandb is started on request only.
    overrides = ["--dataset.sequences=[]", "--output.wandb=off", *arguments[1:]]
    allowed = {name for name in TYPES if name.startswith("dataset.")} | {
        "output.protocol",
        "output.compare",
        "output.compare_results",
        "output.wandb",
    }
    saved = saved_config(folder, "config.yaml")
    config = parse_config(parser, [*saved, *overrides], allowed)
    planned = parse_config(parser, saved).dataset.sequences

    from alpharefine.evaluation import stages
    from alpharefine.report.page import REPORT_FILE, write_results_page
    from alpharefine.report.summary import format_summary, require_complete

    results = stages.find_results(config, folder, planned)
    metrics, boxes = stages.score(results, config.output)
    sys.stdout.write(f"{format_summary(metrics)}\n")
    write_results_page(metrics, boxes, folder)
    sys.stdout.write(f"metrics.json and {REPORT_FILE} in {folder}\n")
    if config.output.wandb != "off":
        from alpharefine.report.wandb import log_evaluation

        log_evaluation(metrics, config, folder, (), config.output.wandb)
    require_complete(metrics, "The scores are those of the others.")
