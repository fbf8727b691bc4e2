"""Settings of the runs of an evaluation: the checked configuration with all defaults resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from alpharefine.checkpoints.shipped import find_checkpoint
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig, EvaluationConfig, RefinerConfig, TrackerConfig
from alpharefine.inference.loading import LoadedNetwork, load_network
from alpharefine.inference.options import resolve_box_head
from alpharefine.masks import MASK_THRESHOLD
from alpharefine.models import HeadName, NetworkConfig
from alpharefine.models.device import select_device
from alpharefine.options import BoxSource, ComputePrecision, GeometryName, WhenLost
from alpharefine.trackers import TimeLimits, TrackerEntry, check_arguments, find_tracker

MIN_FEEDBACK_IOU = 0.5
"""Default of `RefinerConfig.min_feedback_score` for a network with a quality head, whose score is a predicted IoU."""

MIN_FEEDBACK_SCORE = 0.2
"""Default for other networks in the geometry ``exact``. It was chosen with NanoTrack on five short sequences, where
feedback of boxes with a low score made the tracker drift."""

RUNS = ("base", "refined")
"""Names of the runs: the base tracker alone, and the base tracker with refinement."""


@dataclass(frozen=True)
class RefinementSettings:
    """Refinement settings of a run: `RefinerConfig` with all defaults resolved.

    Attributes:
        ckpt: Path of the checkpoint.
        geometry: Crop geometry of the network.
        precision: Precision of the network.
        box_from: Head that the box is taken from.
        mask_threshold: Probability above which a pixel belongs to the target.
        flip_test: Average the predictions for each search region and its mirror image.
        save_masks: Save the mask of every frame after the first.
        feedback: Pass the refined box back to the tracker.
        min_feedback_score: Minimum score of a refinement whose box is passed back to the tracker.
        when_lost: Treatment of frames in which the tracker reports a lost target.
        min_score: Minimum score of a tracker's box that is refined. None refines every box.
    """

    ckpt: str
    geometry: GeometryName
    precision: ComputePrecision
    box_from: BoxSource
    mask_threshold: float
    flip_test: bool
    save_masks: bool
    feedback: bool
    min_feedback_score: float
    when_lost: WhenLost
    min_score: float | None

    @property
    def saves_box_masks(self) -> bool:
        """True if the saved masks are those from which the boxes were computed, not those around the refined boxes."""
        return self.save_masks and self.box_from == "mask"


@dataclass(frozen=True)
class RunSettings:
    """Settings that determine the boxes of one run.

    Attributes:
        dataset: Evaluation data set.
        tracker: Base tracker, with the paths of its files resolved.
        refinement: Refinement; None for the base tracker alone.
    """

    dataset: DatasetConfig
    tracker: TrackerConfig
    refinement: RefinementSettings | None


class ResolvedRuns(NamedTuple):
    """Runs of an evaluation.

    Attributes:
        entry: Registry entry of the base tracker.
        settings: Settings of each run by name. The names are one or both of `RUNS`.
        checkpoint: Network of the refiner; None without refinement.
    """

    entry: TrackerEntry
    settings: dict[str, RunSettings]
    checkpoint: LoadedNetwork | None


def resolve_runs(config: EvaluationConfig, device: str = "auto") -> ResolvedRuns:
    """Check a configuration, load the checkpoint, and resolve the defaults.

    Args:
        config: Configuration of the evaluation.
        device: Torch device. ``auto`` selects the GPU if there is one.

    Raises:
        UserError: If the device does not exist, a file is missing, a value is out of range, or an option does not apply
            to the tracker or network.
    """
    _check_values(config)
    try:
        device_type = select_device(device).type
    except ValueError as error:
        raise UserError(str(error).replace("`device`", "`--device`")) from error
    entry = find_tracker(config.tracker.name)
    tracker = _resolve_tracker(config.tracker, entry, config.refiner.ckpt is not None)
    base = RunSettings(config.dataset, tracker, None)
    if config.refiner.ckpt is None:
        _require_no_refinement(config)
        return ResolvedRuns(entry, {"base": base}, None)
    _check_refinement(config, entry)
    refiner = replace(config.refiner, ckpt=str(find_checkpoint(config.refiner.ckpt)))
    assert refiner.ckpt is not None
    checkpoint = load_network(refiner.ckpt, refiner.geometry)
    refined = RunSettings(config.dataset, tracker, _resolve_refinement(refiner, entry, checkpoint, device_type))
    # Published boxes need no computation, so their scores are always reported, also without `--baseline`.
    settings = {"base": base, "refined": refined} if config.run.baseline or entry.replays else {"refined": refined}
    return ResolvedRuns(entry, settings, checkpoint)


def _check_values(config: EvaluationConfig) -> None:
    """Check the ranges of numbers."""

    def require(option: str, value: float | None, rule: str, holds: bool) -> None:
        if value is not None and not (math.isfinite(value) and holds):
            raise UserError(f"`--{option}` must be {rule}, got {value}.")

    tracker, refiner = config.tracker, config.refiner
    for limit in ("startup_limit", "frame_limit"):
        seconds = getattr(tracker, limit)
        require(limit, seconds, "a positive number of seconds", seconds is None or seconds > 0)
    for score in ("min_score", "min_feedback_score"):
        require(score, getattr(refiner, score), "a finite number", True)
    threshold = refiner.mask_threshold
    require("mask_threshold", threshold, "between 0 and 1", threshold is None or 0 < threshold < 1)
    require("devices", config.run.devices, "a whole number of at least 1", config.run.devices >= 1)


def _resolve_tracker(config: TrackerConfig, entry: TrackerEntry, has_refiner: bool) -> TrackerConfig:
    weights = check_arguments(
        entry,
        weights=config.weights,
        results_dir=config.results_dir,
        limits=time_limits(config),
        has_refiner=has_refiner,
    )
    results_dir = None if config.results_dir is None else config.results_dir.resolve()
    return replace(config, weights=tuple(path.resolve() for path in weights), results_dir=results_dir)


def time_limits(config: TrackerConfig) -> TimeLimits | None:
    """Return the time limits of a tracker, or None if the configuration sets none.

    Args:
        config: Base tracker.
    """
    if config.startup_limit is None and config.frame_limit is None:
        return None
    default = TimeLimits()
    return TimeLimits(config.startup_limit or default.startup_s, config.frame_limit or default.frame_s)


def _require_no_refinement(config: EvaluationConfig) -> None:
    default = RefinerConfig()
    given = [f.name for f in fields(default) if getattr(config.refiner, f.name) != getattr(default, f.name)]
    given += ["baseline"] if config.run.baseline else []
    if given:
        raise UserError(
            f"`--{given[0]}` applies only to refinement, which requires `--ckpt`; give `--ckpt`, or leave "
            "the option out."
        )


def _check_refinement(config: EvaluationConfig, entry: TrackerEntry) -> None:
    """Raise an error for options that do not apply to the tracker."""
    refiner, name = config.refiner, config.tracker.name
    if refiner.mask_threshold is not None and refiner.box_from != "mask" and not refiner.save_masks:
        raise UserError("`--mask_threshold` requires `--box_from mask` or `--save_masks`; give one, or leave it out.")
    if config.run.baseline and entry.requires_refiner:
        raise UserError(f"`--baseline`: {name} does not run without a refiner; leave it out.")
    if refiner.feedback and not entry.accepts_feedback:
        raise UserError(f"`--feedback`: {name} does not accept the refined box; use `--no-feedback`.")
    feedback = _resolve_feedback(refiner, entry)
    if entry.requires_refiner and not feedback:
        raise UserError(f"`--no-feedback`: {name} moves only by the refined box; leave it out.")
    if not feedback and refiner.min_feedback_score is not None:
        raise UserError("`--min_feedback_score` requires feedback, and this run has none; leave it out.")
    if not feedback and refiner.when_lost == "report":
        raise UserError("`--when_lost report` requires feedback, and this run has none; leave it out.")
    if refiner.when_lost != "refine" and not entry.reports_lost:
        raise UserError(f"`--when_lost {refiner.when_lost}`: {name} does not report lost targets; leave it out.")
    if refiner.min_score is not None and not entry.gives_score:
        raise UserError(f"`--min_score`: {name} gives no scores; leave it out.")


def _resolve_feedback(config: RefinerConfig, entry: TrackerEntry) -> bool:
    return entry.accepts_feedback if config.feedback is None else config.feedback


def _resolve_refinement(
    config: RefinerConfig, entry: TrackerEntry, checkpoint: LoadedNetwork, device_type: str
) -> RefinementSettings:
    network = checkpoint.config
    box_head = resolve_box_head(config.box_from, network.heads)
    if box_head not in network.heads:
        raise UserError(
            f"`--box_from {config.box_from}`: the network of {config.ckpt} has only the head "
            f"{network.heads[0]}; give another checkpoint, or leave it out."
        )
    if config.save_masks and "mask" not in network.heads:
        raise UserError(f"`--save_masks`: the network of {config.ckpt} has no mask head; leave it out.")
    min_feedback_score = config.min_feedback_score
    if min_feedback_score is None:
        min_feedback_score = _default_feedback_score(network, entry, box_head)
    assert config.ckpt is not None
    return RefinementSettings(
        ckpt=config.ckpt,
        geometry=network.geometry,
        precision=checkpoint.resolve_precision(config.precision, device_type),
        box_from=box_head,
        mask_threshold=MASK_THRESHOLD if config.mask_threshold is None else config.mask_threshold,
        flip_test=config.flip_test,
        save_masks=config.save_masks,
        feedback=_resolve_feedback(config, entry),
        min_feedback_score=min_feedback_score,
        when_lost=config.when_lost,
        min_score=config.min_score,
    )


def _default_feedback_score(network: NetworkConfig, entry: TrackerEntry, box_head: HeadName) -> float:
    if entry.requires_refiner or network.geometry != "exact":
        return 0.0
    return MIN_FEEDBACK_IOU if network.quality_head != "none" and box_head == "corner" else MIN_FEEDBACK_SCORE
