"""Base tracker and refiner of the commands that follow one target through frames as they come."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alpharefine.errors import UserError, describe_exception

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
        settings: Settings of the refinement.
    """

    entry: TrackerEntry
    base: LoadedTracker
    refiner: Refiner
    settings: RefinementSettings


def resolve_live(options: argparse.Namespace) -> ResolvedRuns:
    """Check the options of tracker and refiner, and load the checkpoint.

    Args:
        options: Values of ``--tracker``, ``--tracker_weights``, ``--ckpt`` and ``--feedback``.

    Raises:
        UserError: If an option is invalid, or the tracker runs only in an evaluation.
    """
    from alpharefine.evaluation.config import EvaluationConfig, RefinerConfig, TrackerConfig
    from alpharefine.evaluation.settings import resolve_runs

    weights = tuple(Path(path) for path in options.tracker_weights.split(",") if path)
    refiner = RefinerConfig(options.ckpt, feedback=options.feedback)
    runs = resolve_runs(EvaluationConfig(TrackerConfig(options.tracker, weights), refiner=refiner))
    if runs.entry.needs_truth or runs.entry.replays:
        raise UserError(f"--tracker {options.tracker} runs only in an evaluation; choose another one.")
    return runs


def load_live(runs: ResolvedRuns, device: str) -> LivePair:
    """Load base tracker and refiner. The settings save masks if the network has a mask head.

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


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turn an exception of a tracker's code into a `UserError` that names its place.

    Args:
        place: Place, such as the number of the frame.

    Raises:
        UserError: If the block raises any exception.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{place}: {describe_exception(error)}.") from error
