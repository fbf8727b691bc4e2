"""Subcommand ``evaluate``: runs a base tracker with and without refinement, scores it and prints a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alpharefine.cli.arguments import command_line, make_parser, parse_config
from alpharefine.errors import UserError


def main(args: Sequence[str] | None = None) -> None:
    """Run, score and report.

    Args:
        args: Arguments; those of the command line by default.

    Raises:
        UserError: If an input is missing or wrong, if sequences failed (the others are complete and scored then), or if
            no frame was refined because the predictions are not finite.
    """
    parser = make_parser(
        "alpharefine evaluate",
        "Run a base tracker over an evaluation data set, with and without refinement, and score it.",
    )
    config = parse_config(parser, command_line(args))

    from alpharefine.evaluation import stages  # torch is imported here, after `--help`
    from alpharefine.evaluation.failures import summarize
    from alpharefine.report.page import REPORT_FILE, write_results_page
    from alpharefine.report.summary import format_summary, list_failures, require_complete
    from alpharefine.report.videos import VIDEO_FOLDER, write_videos

    if config.output.wandb == "online":
        from alpharefine.tracking import resolve_mode

        resolve_mode("online")  # an error that would end the evaluation is told of before the run
    outcome = stages.run(config)
    if not outcome.is_last:
        return
    results = outcome.results
    if not any(results.sequences.values()):
        sys.stdout.write("\n".join([*list_failures(results.failures, results.chosen), ""]))
        raise UserError(summarize(results.failures, results.chosen))
    metrics, boxes = stages.score(results, config.output)
    sys.stdout.write(f"{outcome.checkpoint}{format_summary(metrics)}\n")
    write_results_page(metrics, boxes, results.output_dir)
    sys.stdout.write(f"boxes, metrics.json and {REPORT_FILE} in {results.output_dir}\n")
    videos = []
    if config.output.save_video:
        own = {name: boxes[name] for name in metrics.trackers if name in results.sequences}
        videos = write_videos(metrics, own, results.output_dir, config.output.save_video)
        sys.stdout.write(f"{len(videos)} videos in {results.output_dir / VIDEO_FOLDER}\n")
    if config.output.wandb != "off":
        from alpharefine.report.wandb import log_evaluation

        log_evaluation(metrics, config, results.output_dir, videos, config.output.wandb)
    require_complete(
        metrics, f"The boxes of the others are in {results.output_dir}. Mend the cause and run the same command again."
    )
