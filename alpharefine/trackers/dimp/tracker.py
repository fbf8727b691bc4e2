"""DiMP, PrDiMP, SuperDiMP and SuperDiMPSimple: one tracker with different networks and parameters.

Sources: DiMP (arXiv 1904.07220), PrDiMP (arXiv 2003.12565), ATOM (arXiv 1811.07628) for the box.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alpharefine.trackers.base import Track, TrackState
from alpharefine.trackers.dimp.crop import Sample, cut_sample
from alpharefine.trackers.dimp.filters import apply_filter
from alpharefine.trackers.dimp.first_frame import View, drop_channels
from alpharefine.trackers.dimp.localization import Localization, localize
from alpharefine.trackers.dimp.memory import SampleWeights, with_room
from alpharefine.trackers.dimp.network import FILTER_SIZE, DiMPNet
from alpharefine.trackers.dimp.online import OnlineTracker
from alpharefine.trackers.dimp.parameters import DiMPParameters


class DiMPTracker(OnlineTracker[DiMPNet, DiMPParameters]):
    """Tracker of the DiMP family in one sequence.

    Args:
        network: Network in evaluation mode, without gradients of its parameters; any number of trackers can share it.
        parameters: Parameters of the tracker, such as the published ones.
        seed: Seed of the random shifts of the first frame's views, and of the initial boxes of the box search.

    Attributes:
        target_filter: Filter of the classifier, ``(1, C, 4, 4)``.
    """

    @torch.no_grad()
    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        parameters, network = self.parameters, self.network
        self._begin(box_xywh)
        center = np.rint(self.target.center_yx)
        views = self._views()
        layers = network.layers(self._first_crops(frame, center, views))
        features = network.classification_features(layers.layer3)
        boxes = self._first_boxes(center, views)
        self.modulation = network.bb_regressor.modulation(layers.layer2[:1], layers.layer3[:1], boxes[:1])
        if parameters.augmentation.dropout is not None:
            copies = drop_channels(features[:1], *parameters.augmentation.dropout, self._generator)
            features, boxes = torch.cat([features, copies]), torch.cat([boxes, boxes[:1].expand(len(copies), 4)])
        self._remember(features, boxes)
        first = network.classifier.filter_initializer(features, boxes)
        self.target_filter = self._optimized(first, parameters.num_initial_iterations, None)

    @torch.no_grad()
    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame, and update the classifier.

        Args:
            frame: Next frame, ``(H, W, 3)`` RGB uint8.
        """
        parameters, network, target = self.parameters, self.network, self.target
        self._frame_number += 1
        sample = cut_sample(
            frame,
            target.center_yx,
            target.scale * self._size_hw,
            (parameters.sample_size, parameters.sample_size),
            parameters.border,
            parameters.max_scale_change,
            parameters.arithmetic,
            self._device,
        )
        layers = network.layers_of_one(sample.pixels)
        features = network.classification_features(layers.layer3)
        found = self._localize(apply_filter(features[:, None], self.target_filter), sample)
        if found.state is not TrackState.NOT_FOUND:
            target.move_to(sample.center_yx + found.translation_yx, frame.shape[:2], parameters.target_inside_ratio)
            self._refine_box(layers, sample.center_yx, sample.scale)
            if found.state is not TrackState.UNCERTAIN:
                self._learn(features, sample, found.state)
            target.settle()
        return Track(target.box_xywh, found.max_score, found.state)

    def _first_boxes(self, center_yx: np.ndarray, views: list[View]) -> Tensor:
        box_xywh = self.target.box_in(center_yx, self.target.scale, self._size_hw)
        shifts = np.array([[*view.shift_yx[::-1], 0, 0] for view in views], dtype=np.float32)
        return torch.from_numpy(box_xywh + shifts).to(self._device)

    def _localize(self, scores: Tensor, sample: Sample) -> Localization:
        score_map = self.network.classifier.filter_optimizer.score_map(scores)[0, 0].cpu().numpy()
        num_cells = len(score_map) - (FILTER_SIZE + 1) % 2
        cell_px = self._size_hw / np.float32(num_cells)
        cell, thresholds = cell_px[0] * sample.scale, self.parameters.thresholds
        return localize(
            score_map,
            (len(score_map) - 1) / 2,
            cell,
            (self.target.center_yx - sample.center_yx) / cell,
            np.float32(thresholds.target_neighborhood_scale) * (self.target.size_hw / sample.scale) / cell_px,
            thresholds,
        )

    def _maps(self, boxes_xywh: Tensor, num_cells: int) -> Tensor:
        map_side = num_cells + (FILTER_SIZE + 1) % 2
        return self.network.classifier.filter_optimizer.maps(
            boxes_xywh, map_side, FILTER_SIZE, self._label_sigma(num_cells)
        )

    def _remember(self, features: Tensor, boxes_xywh: Tensor) -> None:
        size = self.parameters.memory_size
        self.sample_weights = SampleWeights(size, len(features), self.parameters.minimum_initial_weight)
        maps = self._maps(boxes_xywh, features.shape[-1])
        self._features, self._sample_maps = (with_room(values, size) for values in (features, maps))

    def _learn(self, features: Tensor, sample: Sample, state: TrackState) -> None:
        slot, num_iterations = self._next_slot(state), self._num_iterations(state)
        box_xywh = torch.from_numpy(self.target.box_in(sample.center_yx, sample.scale, self._size_hw))
        self._features[slot] = features[0]
        self._sample_maps[slot] = self._maps(box_xywh[None].to(self._device), features.shape[-1])[0]
        if num_iterations > 0:
            self.target_filter = self._optimized(self.target_filter, num_iterations, self.sample_weights.values)

    def _optimized(self, filters: Tensor, num_iterations: int, weights: np.ndarray | None) -> Tensor:
        num_stored = min(self.sample_weights.num_stored, len(self._features))
        features, maps = (values[:num_stored, None] for values in (self._features, self._sample_maps))
        shares = None if weights is None else torch.from_numpy(weights[:num_stored, None]).to(self._device)
        better: Tensor = self.network.classifier.filter_optimizer(filters, features, maps, num_iterations, shares)
        return better
