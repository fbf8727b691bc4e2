"""Typed configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alpharefine.options import BoxSource, ComputePrecision, GeometryName, Protocol, WandbMode, WhenLost

VideoRank = Literal["best", "worst"]
"""Sequence with the highest or the lowest gain, or score where a tracker has one run."""


@dataclass(frozen=True)
class DatasetConfig:
    """Evaluation data set.

    Attributes:
        name: Name of the data set.
        root: Folder of the data set in its official layout.
        annotations_dir: Folder of the official annotations, for `lasot` and `lasot_ext`. Scoring then needs no frames.
        split: Split of the data set, or path of a text file with one sequence name per line.
        sequences: Names of the sequences to evaluate. Empty selects all sequences of the split.
        first_box: Box of the target in the first frame, ``x,y,w,h`` in pixels, for `folder` without ground truth.
    """

    name: str = "lasot"
    root: Path | None = None
    annotations_dir: Path | None = None
    split: str = "test"
    sequences: tuple[str, ...] = ()
    first_box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class TrackerConfig:
    """Base tracker.

    Attributes:
        name: Name of the tracker, ``cmd:program arguments`` or ``package.module:Class``.
        weights: Weight files, in the order of the tracker's roles.
        results_dir: Folder or archive of published results, for `replay`.
        startup_limit: Time limit in seconds from the start of a ``cmd:`` program to its answer for the first frame.
        frame_limit: Time limit in seconds for each further frame of a ``cmd:`` program.
    """

    name: str
    weights: tuple[Path, ...] = ()
    results_dir: Path | None = None
    startup_limit: float | None = None
    frame_limit: float | None = None


@dataclass(frozen=True)
class RefinerConfig:
    """Refiner. None selects a default, which may depend on the tracker and the checkpoint.

    Attributes:
        ckpt: Path of the checkpoint, or name of shipped weights (``ar18_cm``). Without a checkpoint, the base tracker
            runs alone.
        geometry: Crop geometry in place of the one recorded in the checkpoint.
        precision: Floating-point precision of the network.
        box_from: Head that the box is taken from.
        mask_threshold: Probability above which a pixel belongs to the target.
        flip_test: Average the predictions for each search region and its mirror image.
        save_masks: Save the mask of every frame after the first as a PNG image.
        feedback: Pass the refined box back to the tracker.
        min_feedback_score: Minimum score of a refinement whose box is passed back to the tracker.
        when_lost: Treatment of frames in which the tracker reports a lost target: ``refine`` as usual, ``report`` the
            refined box without feedback, or ``keep`` the box of the tracker.
        min_score: Minimum score of a tracker's box that is refined. None refines every box.
    """

    ckpt: str | None = None
    geometry: GeometryName | None = None
    precision: ComputePrecision = "auto"
    box_from: BoxSource = "auto"
    mask_threshold: float | None = None
    flip_test: bool = False
    save_masks: bool = False
    feedback: bool | None = None
    min_feedback_score: float | None = None
    when_lost: WhenLost = "refine"
    min_score: float | None = None


@dataclass(frozen=True)
class RunConfig:
    """Execution of the run stage.

    Attributes:
        baseline: Also run the base tracker without refinement.
        devices: Number of processes. They share the GPUs of the machine, if there are any.
        overwrite: Discard the results of an earlier run in the results folder.
    """

    baseline: bool = False
    devices: int = 1
    overwrite: bool = False


@dataclass(frozen=True)
class OutputConfig:
    """Results folder and scoring.

    Attributes:
        dir: Results folder, for boxes, scores and the resolved configuration.
        protocol: Scoring conventions of one-pass evaluation. `auto` selects the default of the data set.
        compare: Print published scores below the measured ones.
        compare_results: Raw results of other trackers to score on the same sequences, each ``DIR`` or ``NAME=DIR``.
        save_video: Sequences of which videos are drawn after scoring: ``best``, ``worst`` (by gain) and names.
        wandb: Tracking of the scores in wandb. `auto` is online with a key and an answer of the server, else offline.
    """

    dir: Path | None = None
    protocol: Protocol | Literal["auto"] = "auto"
    compare: bool = False
    compare_results: tuple[str, ...] = ()
    save_video: tuple[str, ...] = ()
    wandb: WandbMode = "off"


@dataclass(frozen=True)
class EvaluationConfig:
    """Configuration of `alpharefine evaluate`.

    Attributes:
        dataset: Evaluation data set.
        tracker: Base tracker.
        refiner: Refiner.
        run: Execution of the run stage.
        output: Results folder and scoring.
    """

    tracker: TrackerConfig
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
