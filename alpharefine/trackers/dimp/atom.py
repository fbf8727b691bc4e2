"""ATOM: a tracker whose classifier is trained from scratch in the first frame.

Source: ATOM (arXiv 1811.07628).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alpharefine.trackers.base import Track, TrackState
from alpharefine.trackers.dimp.atom_maps import gaussian_labels, normalized, upsampled
from alpharefine.trackers.dimp.atom_optimizer import (
    Classifier,
    ConjugateGradient,
    Regularization,
    Samples,
    filter_scores,
    filter_step,
    joint_step,
    project,
)
from alpharefine.trackers.dimp.crop import cut_sample
from alpharefine.trackers.dimp.first_frame import View, drop_channels
from alpharefine.trackers.dimp.localization import Localization, localize
from alpharefine.trackers.dimp.memory import SampleWeights, with_room
from alpharefine.trackers.dimp.network import FILTER_SIZE, BoxNet
from alpharefine.trackers.dimp.online import OnlineTracker
from alpharefine.trackers.dimp.parameters import ATOMParameters
from alpharefine.trackers.dimp.threads import one_thread


class ATOMTracker(OnlineTracker[BoxNet, ATOMParameters]):
    """ATOM in one sequence.

    Args:
        network: Network in evaluation mode, without gradients of its parameters; any number of trackers can share it.
        parameters: Parameters of the tracker, such as the published ones.
        seed: Seed of the random shifts of the first frame's views, of the initial classifier, and of the initial boxes
            of the box search.

    Attributes:
        classifier: Classifier of the target.
    """

    @torch.no_grad()
    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self._begin(box_xywh)
        network, target = self.network, self.target
        target.mark_found()
        center, views = np.rint(target.center_yx), self._views()
        # Unlike in DiMP, the window is centered on the exact center; positions are measured from the rounded center.
        layers = network.layers(self._first_crops(frame, target.center_yx, views))
        box = torch.from_numpy(target.box_in(center, target.scale, self._size_hw))[None].to(self._device)
        self.modulation = network.bb_regressor.modulation(layers.layer2[:1], layers.layer3[:1], box)

        with one_thread():
            self._learn_first(normalized(layers.layer3), center, views)

    def _learn_first(self, features: Tensor, center_yx: np.ndarray, views: list[View]) -> None:
        target, dropout = self.target, self.parameters.augmentation.dropout
        shifts_yx = [view.shift_yx for view in views]
        if dropout is not None:
            features = torch.cat([features, drop_channels(features[:1], *dropout, self._generator)])
            shifts_yx += [(0, 0)] * dropout[0]
        labels = self._labels(center_yx, target.scale, np.array(shifts_yx, dtype=np.float32), features.shape[-1])
        weights = features.new_full((len(features),), 1 / len(features))
        self.classifier = self._first_classifier(Samples(features, labels, weights))
        self._search = ConjugateGradient("polak_ribiere", self.parameters.direction_forgetting_factor)
        self._remember(project(features, self.classifier.projection), labels)

    @torch.no_grad()
    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame, and update the classifier.

        Args:
            frame: Next frame, ``(H, W, 3)`` RGB uint8.
        """
        parameters, target = self.parameters, self.target
        self._frame_number += 1
        center, scale = np.rint(target.center_yx), target.scale
        size = parameters.sample_size
        sample = cut_sample(
            frame,
            target.center_yx,
            scale * self._size_hw,
            (size, size),
            arithmetic=parameters.arithmetic,
            device=self._device,
        )
        layers = self.network.layers_of_one(sample.pixels)
        with one_thread():
            features = project(normalized(layers.layer3), self.classifier.projection)
            found = self._localize(filter_scores(features, self.classifier.filters)[0], scale)
        if found.state is not TrackState.NOT_FOUND:
            target.move_to(center + found.translation_yx, frame.shape[:2], parameters.target_inside_ratio)
            self._refine_box(layers, center, scale)
        if found.state in (TrackState.NORMAL, TrackState.HARD_NEGATIVE):
            self._add(features, center, scale, found.state)
        num_iterations = self._num_iterations(found.state)
        if num_iterations > 0:
            with one_thread():
                self._update(num_iterations)
        if found.state is not TrackState.NOT_FOUND:
            target.settle()
        return Track(target.box_xywh, found.max_score, found.state)

    def _labels(self, sample_center_yx: np.ndarray, scale: np.float32, shifts_yx: np.ndarray, num_cells: int) -> Tensor:
        """Return labels ``(N, n, n)`` of samples whose content is shifted by ``(N, 2)`` crop pixels."""
        cells = np.float32(num_cells)
        # The response of a filter with an even side lies half a cell after its input.
        center = cells * (self.target.center_yx - sample_center_yx) / (scale * self._size_hw) + np.float32(0.5)
        centers = torch.from_numpy(center + shifts_yx / self._size_hw * cells)
        return gaussian_labels(centers.to(self._device), num_cells, self._label_sigma(num_cells))

    def _random_classifier(self, in_channels: int) -> Classifier:
        channels, size = self.parameters.num_channels, FILTER_SIZE
        projection = torch.randn(channels, in_channels, generator=self._generator) / in_channels**0.5
        filters = torch.randn(1, channels, size, size, generator=self._generator) / (channels * size**2)
        return Classifier(projection.to(self._device), filters.to(self._device))

    def _first_classifier(self, samples: Samples) -> Classifier:
        parameters = self.parameters
        regularization = Regularization(parameters.projection_reg, parameters.filter_reg)
        classifier = self._random_classifier(samples.features.shape[1])
        for _ in range(parameters.num_initial_steps):
            classifier = joint_step(samples, classifier, regularization, parameters.num_initial_iterations)
        return classifier

    def _localize(self, scores: Tensor, scale: np.float32) -> Localization:
        size, thresholds = self.parameters.sample_size, self.parameters.thresholds
        # The small map is copied to the host and upsampled there.
        return localize(
            upsampled(scores.cpu().numpy(), size),
            size / 2,
            scale,
            np.zeros(2, np.float32),
            np.float32(thresholds.target_neighborhood_scale) * (self.target.size_hw / scale),
            thresholds,
        )

    def _remember(self, features: Tensor, labels: Tensor) -> None:
        size = self.parameters.memory_size
        self.sample_weights = SampleWeights(
            size, len(features), self.parameters.minimum_initial_weight, fills_in_order=False
        )
        self._features, self._stored_labels = (with_room(values, size) for values in (features, labels))

    def _add(self, features: Tensor, sample_center_yx: np.ndarray, scale: np.float32, state: TrackState) -> None:
        slot = self._next_slot(state)
        self._features[slot] = features[0]
        unmoved = np.zeros((1, 2), np.float32)
        self._stored_labels[slot] = self._labels(sample_center_yx, scale, unmoved, features.shape[-1])[0]

    def _update(self, num_iterations: int) -> None:
        parameters = self.parameters
        num_stored = min(self.sample_weights.num_stored, parameters.memory_size)
        weights = torch.from_numpy(self.sample_weights.values[:num_stored]).to(self._device)
        samples = Samples(self._features[:num_stored], self._stored_labels[:num_stored], weights)
        filters = filter_step(samples, self.classifier.filters, parameters.filter_reg, self._search, num_iterations)
        self.classifier = self.classifier._replace(filters=filters)
