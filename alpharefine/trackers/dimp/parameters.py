"""Published parameters of the trackers, in one YAML file each."""

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
    """Parameters of ATOM and of the DiMP family.

    Attributes:
        sample_size: Side of the search region's crop in pixels.
        search_area_scale: Side of the search region in target sizes.
        thresholds: Thresholds on the peaks of the score map.
        box_search: Settings of the search for the best box.
        augmentation: Views of the first frame.
        arithmetic: Arithmetic of the crops, see `cut_sample`.
        augmentation_expansion_factor: Side of the image that the views are made of, in crops.
        random_shift_factor: Maximum random shift of the views, see `make_views`.
        memory_size: Number of samples in the memory.
        learning_rate: Weight of a new sample.
        hard_negative_learning_rate: Weight of a new sample that is a hard negative.
        minimum_initial_weight: Minimum total weight of the first frame's samples.
        train_skipping: Number of frames between two updates of the filter.
        num_initial_iterations: Number of iterations of the optimizer in the first frame; for ATOM, in each of its
            steps.
        num_update_iterations: Number of iterations in an update.
        num_hard_negative_iterations: Number of iterations in the update after a hard negative.
        target_inside_ratio: Fraction of the target that stays inside the image, along each side.
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
    """Parameters of a tracker of the DiMP family.

    Attributes:
        border: Treatment of the border of the image, see `cut_sample`.
        max_scale_change: Maximum factor by which the search region shrinks at the border.
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
    """Parameters of ATOM.

    Attributes:
        num_channels: Number of projected channels.
        num_initial_steps: Number of Gauss-Newton steps in the first frame.
        filter_reg: Weight of the squared filter.
        projection_reg: Weight of the squared projection.
        direction_forgetting_factor: Forgetting factor of the updates, see `ConjugateGradient`.
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
    """Return the published parameters of a tracker of the DiMP family.

    Args:
        name: Name of the tracker.
    """
    return _read(name, DiMPParameters)


def read_atom_parameters() -> ATOMParameters:
    """Return the published parameters of ATOM."""
    return _read("atom", ATOMParameters)


def _read(name: str, kind: type[Parameters]) -> Parameters:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--parameters", type=kind)
    config = parser.parse_object({"parameters": str(FOLDER / f"{name}.yaml")})
    parameters: Parameters = parser.instantiate(config).parameters
    return parameters
