"""Base class of ATOM and the DiMP family: views of the first frame, and refinement of the box."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from alpharefine.trackers.base import Tracker, TrackState
from alpharefine.trackers.dimp.box_search import search_box
from alpharefine.trackers.dimp.crop import cut_sample
from alpharefine.trackers.dimp.first_frame import View, crops_of, make_views
from alpharefine.trackers.dimp.iou_net import Modulation
from alpharefine.trackers.dimp.memory import SampleWeights
from alpharefine.trackers.dimp.network import BoxNet, Layers
from alpharefine.trackers.dimp.parameters import OnlineParameters
from alpharefine.trackers.dimp.target import Target

Network = TypeVar("Network", bound=BoxNet)
Parameters = TypeVar("Parameters", bound=OnlineParameters)


class OnlineTracker(Tracker, Generic[Network, Parameters]):
    """Tracker that updates its classifier online.

    Args:
        network: Network in evaluation mode, without gradients of its parameters; any number of trackers can share it.
        parameters: Parameters of the tracker, such as the published ones.
        seed: Seed of the tracker's own random numbers.

    Attributes:
        target: Position and size of the target.
        modulation: Encoding of the target for the network that scores boxes.
        sample_weights: Weights of the slots of the memory.
    """

    target: Target
    modulation: Modulation
    sample_weights: SampleWeights

    def __init__(self, network: Network, parameters: Parameters, seed: int = 0) -> None:
        self.network, self.parameters = network, parameters
        self._device = next(network.parameters()).device
        self._size_hw = np.full(2, parameters.sample_size, dtype=np.float32)
        self._seed = seed

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box; the classifier does not change.

        Args:
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self.target.set_box(box_xywh)

    def _begin(self, box_xywh: np.ndarray) -> None:
        self._generator = torch.Generator().manual_seed(self._seed)
        self.target = Target(box_xywh, self.parameters.sample_size, self.parameters.search_area_scale)
        self._frame_number = 1

    def _views(self) -> list[View]:
        parameters = self.parameters
        return make_views(
            parameters.augmentation, parameters.sample_size, parameters.random_shift_factor, self._generator
        )

    def _first_crops(self, frame: np.ndarray, center_yx: np.ndarray, views: list[View]) -> Tensor:
        size, factor = self.parameters.sample_size, self.parameters.augmentation_expansion_factor
        large = size * factor + size * (factor - 1) % 2  # so that the crop in its middle starts at a whole pixel
        sample_hw = self.target.scale * np.full(2, large, dtype=np.float32)
        sample = cut_sample(
            frame, center_yx, sample_hw, (large, large), arithmetic=self.parameters.arithmetic, device=self._device
        )
        return crops_of(views, sample.pixels, size)

    def _refine_box(self, layers: Layers, sample_center_yx: np.ndarray, scale: np.float32) -> None:
        network = self.network.bb_regressor
        best_xywh = search_box(
            network,
            self.modulation(network.features(*layers)),
            self.target.box_in(sample_center_yx, scale, self._size_hw),
            self.parameters.box_search,
            self._generator,
        )
        if best_xywh is not None:
            self.target.take_box(best_xywh, sample_center_yx, scale, self._size_hw)

    def _next_slot(self, state: TrackState) -> int:
        parameters, is_hard = self.parameters, state is TrackState.HARD_NEGATIVE
        return self.sample_weights.add(parameters.hard_negative_learning_rate if is_hard else parameters.learning_rate)

    def _num_iterations(self, state: TrackState) -> int:
        """Return the number of iterations of the optimizer in this frame."""
        if state is TrackState.HARD_NEGATIVE:
            return self.parameters.num_hard_negative_iterations
        is_due = (self._frame_number - 1) % self.parameters.train_skipping == 0
        return self.parameters.num_update_iterations if is_due else 0

    def _label_sigma(self, num_cells: int) -> float:
        """Return a quarter of the target's size in the first frame's crop, in cells."""
        size = self.target.base_size_hw * (num_cells / self._size_hw)
        return float(np.sqrt(size.prod()) / 4)
