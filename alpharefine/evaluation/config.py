"""Typed configuration of an evaluation, shared by its three stages: run, score, report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alpharefine.options import BoxSource, ComputePrecision, GeometryName, Protocol, WhenLost


@dataclass(frozen=True)
class DatasetConfig:
    """Evaluation data set.

    Attributes:
        name: Name of the data set.
        root: Folder of the data set in its official layout.
        annotations_dir: Folder of the official annotations, for scoring without frames (`lasot`, `lasot_ext`).
        split: Split of the data set, or path of a text file with one sequence name a line.
        sequences: Names of the sequences, in place of a split.
        first_box: First box ``x,y,w,h`` in pixels, for `folder` without a ground-truth file.
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
        startup_limit: Seconds until a program of ``cmd:`` has answered the first frame.
        frame_limit: Seconds for each further frame of such a program.
    """

    name: str
    weights: tuple[Path, ...] = ()
    results_dir: Path | None = None
    startup_limit: float | None = None
    frame_limit: float | None = None


@dataclass(frozen=True)
class RefinerConfig:
    """Refiner; None selects the default that depends on tracker and checkpoint.

    Attributes:
        ckpt: Path of the checkpoint; without one the base tracker runs alone.
        geometry: Geometry in place of the one recorded in the checkpoint.
        precision: Floating-point precision of the network.
        box_from: Head that the box is taken from.
        mask_threshold: Probability above which a pixel belongs to the target.
        flip_test: Average the predictions for each search region and its mirror image.
        save_masks: Save the mask of every frame as a PNG.
        feedback: Hand the refined box back to the tracker.
        min_feedback_score: Minimum refinement score at which the box is handed back.
        when_lost: Treatment of frames in which the tracker reports that the target is lost.
        min_score: Minimum tracker score at which a box is refined.
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
        baseline: Run the base tracker without refinement, too.
        devices: Number of processes, each with a GPU where there is one.
        overwrite: Discard the results of an earlier run in the output folder.
    """

    baseline: bool = False
    devices: int = 1
    overwrite: bool = False


@dataclass(frozen=True)
class OutputConfig:
    """Scores and files.

    Attributes:
        dir: Folder of boxes, scores and the resolved configuration.
        protocol: Scoring conventions of a one-pass data set; `auto` selects those of the data set.
        compare: Print published scores beside the measured ones.
    """

    dir: Path | None = None
    protocol: Protocol | Literal["auto"] = "auto"
    compare: bool = False


@dataclass(frozen=True)
class EvaluationConfig:
    """Configuration of `alpharefine evaluate`.

    Attributes:
        dataset: Evaluation data set.
        tracker: Base tracker.
        refiner: Refiner.
        run: Execution of the run stage.
        output: Scores and files.
    """

    tracker: TrackerConfig
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
