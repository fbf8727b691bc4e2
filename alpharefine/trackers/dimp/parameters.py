"""The published parameters of a tracker, one YAML file each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from jsonargparse import ArgumentParser

from alpharefine.trackers.dimp.box_search import BoxSearch
from alpharefine.trackers.dimp.crop import Arithmetic
from alpharefine.trackers.dimp.first_frame import FirstFrameViews
from alpharefine.trackers.dimp.localization import Thresholds

FOLDER = Path(__file__).parent / "parameters"


@dataclass(frozen=True, kw_only=True)
class OnlineParameters:
    """What ATOM and the DiMP family are both set by.

    Attributes:
        sample_size: side of the search region's crop in pixels.
        search_area_scale: side of the search region in sizes of the target.
        thresholds: when a peak is believed.
        box_search: how the best box is looked for.
        augmentation: the first frame's views.
        arithmetic: of the crops, see `cut_sample`.
        augmentation_expansion_factor: side of the picture that views are made of, in crops.
        random_shift_factor: see `make_views`.
        memory_size: samples that are kept.
        learning_rate: weight of a new sample.
        hard_negative_learning_rate: the same after a rival was seen.
        minimum_initial_weight: least share of the first frame's samples.
        train_skipping: the filter is updated every so many frames.
        num_initial_iterations: of the filter's optimizer, in the first frame; of ATOM's, in each of its steps.
        num_update_iterations: in an update.
        num_hard_negative_iterations: in the update at once after a rival was seen.
        target_inside_ratio: part of the target that stays in the picture, along each side.
    """

    sample_size: int
    search_area_scale: float
    thresholds: Thresholds
    box_search: BoxSearch
    augmentation: FirstFrameViews
    arithmetic: Arithmetic = "integer"
    augmentation_expansion_factor: int = 2
    random_shift_factor: float = 1 / 3
    memory_size: int
    learning_rate: float = 0.01
    hard_negative_learning_rate: float = 0.02
    minimum_initial_weight: float | None = 0.25
    train_skipping: int
    num_initial_iterations: int = 10
    num_update_iterations: int
    num_hard_negative_iterations: int
    target_inside_ratio: float = 0.2


_DIMP_VIEWS = FirstFrameViews(
    relativeshift=((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6)),
    fliplr=True,
    blur=((3, 1), (1, 3), (2, 2)),
    rotate=(10, -10, 45, -45),
    dropout=(2, 0.2),
)


@dataclass(frozen=True, kw_only=True)
class DiMPParameters(OnlineParameters):
    """All that a tracker of the DiMP family is set by.

    Attributes:
        border: what happens at the border of the picture, see `cut_sample`.
        max_scale_change: limits how far the search region shrinks at the border.
    """

    border: Literal["replicate", "inside_major"] = "replicate"
    max_scale_change: float | None = None
    augmentation: FirstFrameViews = _DIMP_VIEWS
    memory_size: int = 50
    train_skipping: int = 20
    num_update_iterations: int = 2
    num_hard_negative_iterations: int = 1


@dataclass(frozen=True, kw_only=True)
class ATOMParameters(OnlineParameters):
    """All that ATOM is set by.

    Attributes:
        num_channels: of the projected features.
        num_initial_steps: of Gauss-Newton in the first frame.
        filter_reg: weight of the filter's squares.
        projection_reg: weight of the projection's squares.
        direction_forgetting_factor: of the updates, see `ConjugateGradient`.
    """

    memory_size: int = 250
    train_skipping: int = 10
    num_update_iterations: int = 5
    num_hard_negative_iterations: int = 5
    num_channels: int = 64
    num_initial_steps: int = 6
    filter_reg: float = 0.1
    projection_reg: float = 1e-4
    direction_forgetting_factor: float | None = None


Parameters = TypeVar("Parameters", bound=OnlineParameters)


def read_parameters(name: str) -> DiMPParameters:
    """The parameters of the DiMP family published under a name."""
    return _read(name, DiMPParameters)


def read_atom_parameters() -> ATOMParameters:
    """The parameters that ATOM was published with."""
    return _read("atom", ATOMParameters)


def _read(name: str, kind: type[Parameters]) -> Parameters:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--parameters", type=kind)
    config = parser.parse_object({"parameters": str(FOLDER / f"{name}.yaml")})
    parameters: Parameters = parser.instantiate(config).parameters
    return parameters
