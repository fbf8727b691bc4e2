"""Options, base tracker and refiner of the commands that follow one target through frames as they come."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from alpharefine.errors import UserError
from alpharefine.options import ComputePrecision

if TYPE_CHECKING:
    from alpharefine.evaluation.settings import RefinementSettings, ResolvedRuns
    from alpharefine.inference.refiner import Refiner
    from alpharefine.trackers import LoadedTracker, TrackerEntry


class LivePair(NamedTuple):
    """Loaded base tracker and refiner.

    Attributes:
        entry: Registry entry of the base tracker.
        base: Base tracker.
        refiner: Refiner.
        settings: Settings of the refinement. They save masks if the network has a mask head.
    """

    entry: TrackerEntry
    base: LoadedTracker
    refiner: Refiner
    settings: RefinementSettings


def add_live_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of tracker, refiner and device.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("--tracker", default="mil", help="base tracker (default: %(default)s)")
    parser.add_argument("--tracker_weights", default="", help="weight files of the tracker, separated by commas")
    parser.add_argument(
        "--ckpt", default="ar18_cm", help="checkpoint of the refiner, or name of shipped weights (default: %(default)s)"
    )
    parser.add_argument(
        "--feedback",
        action=argparse.BooleanOptionalAction,
        help="pass the refined box back to the tracker (default: if the tracker accepts it)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=get_args(ComputePrecision),
        help="precision of the network (default: auto)",
    )
    parser.add_argument("--device", default="auto", help="torch device (default: the GPU if there is one)")


def check_live_files(options: argparse.Namespace) -> TrackerEntry:
    """Check the options that can be checked before torch is imported.

    Args:
        options: Values of the options of `add_live_arguments`.

    Returns:
        Registry entry of the tracker.

    Raises:
        UserError: If the tracker is unknown or runs only in an evaluation, or a file is missing.
    """
    from alpharefine.checkpoints.shipped import find_checkpoint
    from alpharefine.trackers import check_arguments, find_tracker

    entry = find_tracker(options.tracker, in_evaluation=False)
    for path in check_arguments(entry, weights=_weights(options), has_refiner=True):
        if entry.roles and not path.exists():
            raise UserError(f"`--tracker_weights`: no file {path}; correct the path.")
    find_checkpoint(options.ckpt)
    return entry


def resolve_live(options: argparse.Namespace) -> ResolvedRuns:
    """Check the options, and load the checkpoint.

    Args:
        options: Values of the options of `add_live_arguments`.

    Raises:
        UserError: If an option is invalid, or a file is not a checkpoint.
    """
    from alpharefine.evaluation.config import EvaluationConfig, RefinerConfig, TrackerConfig
    from alpharefine.evaluation.settings import resolve_runs

    refiner = RefinerConfig(options.ckpt, precision=options.precision, feedback=options.feedback)
    config = EvaluationConfig(TrackerConfig(options.tracker, _weights(options)), refiner=refiner)
    return resolve_runs(config, options.device)


def load_live(runs: ResolvedRuns, device: str) -> LivePair:
    """Load base tracker and refiner.

    Args:
        runs: Runs from `resolve_live`.
        device: Torch device. ``auto`` selects the GPU if there is one.

    Raises:
        UserError: If a file is missing or invalid, or the code of the tracker fails.
    """
    from dataclasses import replace

    from alpharefine.evaluation.refined_tracker import load_base_tracker, load_refiner

    assert runs.checkpoint is not None
    run = runs.settings["refined"]
    assert run.refinement is not None
    settings = replace(run.refinement, save_masks="mask" in runs.checkpoint.config.heads)
    refiner = load_refiner(settings, device, runs.checkpoint)
    return LivePair(runs.entry, load_base_tracker(run.tracker, refiner, device), refiner, settings)


def _weights(options: argparse.Namespace) -> tuple[Path, ...]:
    return tuple(Path(path) for path in options.tracker_weights.split(",") if path)
