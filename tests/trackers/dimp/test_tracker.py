from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.trackers.base import TrackState
from alpharefine.trackers.dimp.crop import Sample
from alpharefine.trackers.dimp.first_frame import FirstFrameViews, View
from alpharefine.trackers.dimp.loading import NETWORKS
from alpharefine.trackers.dimp.localization import Localization
from alpharefine.trackers.dimp.network import DiMPNet
from alpharefine.trackers.dimp.optimizers import HingeOptimizer
from alpharefine.trackers.dimp.parameters import DiMPParameters, read_parameters
from alpharefine.trackers.dimp.tracker import DiMPTracker

from ..videos import moving_texture
from .golden import as_originally_set, golden_frames, golden_network, read_arrays
from .traces import Trace, names

TRACES = {
    "dimp18": ("a_det", "a_overwrite", "a_seeded", "b_det"),
    "dimp50": ("a_det", "a_lowopt", "a_mem", "a_overwrite", "a_seeded", "b_det"),
    "prdimp18": ("a_det",),
    "prdimp50": ("a_det", "a_overwrite", "b_det"),
    "super_dimp": ("a_det", "a_lowopt", "a_mem", "a_overwrite", "a_seeded", "b_det"),
    "super_dimp_simple": ("a_det", "a_overwrite", "b_det"),
}
EXHAUSTIVE = {
    ("dimp50", "a_det"),
    ("dimp50", "b_det"),
    ("dimp50", "a_lowopt"),
    ("dimp50", "a_overwrite"),
    ("dimp50", "a_seeded"),
    ("prdimp50", "a_det"),
    ("prdimp50", "a_overwrite"),
    ("prdimp50", "b_det"),
    ("super_dimp", "a_det"),
    ("super_dimp", "a_mem"),
    ("super_dimp", "b_det"),
    ("super_dimp", "a_overwrite"),
    ("super_dimp", "a_seeded"),
    ("super_dimp_simple", "a_det"),
    ("super_dimp_simple", "a_overwrite"),
    ("super_dimp_simple", "b_det"),
}
"""What `make exhaustive` alone looks at: each is a case that another network has in every run of the tests."""

FILTER_TOLERANCE = {"dimp50": 5e-5}
"""Of the initial filter, where rounding alone exceeds 1e-5: on AVX2, one thread and two differ by 1e-5."""

SCORE_TOLERANCE = {("super_dimp", "b_det"): 2e-2, ("super_dimp", "a_lowopt"): 2e-2, ("dimp50", "a_lowopt"): 2e-2}
"""Of traces in which many updates add up their rounding."""


class TracedTracker(DiMPTracker):
    """Keeps what it saw."""

    scores: Tensor
    sample: Sample
    boxes_xywh: np.ndarray
    views: list[View]

    def _views(self) -> list[View]:
        self.views = super()._views()
        return self.views

    def _localize(self, scores: Tensor, sample: Sample) -> Localization:
        self.scores, self.sample = scores[0, 0], sample
        return super()._localize(scores, sample)

    def _remember(self, features: Tensor, boxes_xywh: Tensor) -> None:
        super()._remember(features, boxes_xywh)
        self.boxes_xywh = np.zeros((self.parameters.memory_size, 4), np.float32)
        self.boxes_xywh[: len(boxes_xywh)] = boxes_xywh

    def _next_slot(self, state: TrackState) -> int:
        slot = super()._next_slot(state)
        self.boxes_xywh[slot] = self.target.box_in(self.sample.center_yx, self.sample.scale, self._size_hw)
        return slot


@cache
def network_of(golden: Path, model: str) -> DiMPNet:
    return golden_network(golden, model)


@cache
def started(golden: Path, model: str, sequence: str, parameters: DiMPParameters) -> TracedTracker:
    """A tracker that has learned its target; not to be changed: copy it."""
    trace = Trace(read_arrays(golden / f"tracker_trace_{model}.npz"), f"{sequence}_det")
    tracker = TracedTracker(network_of(golden, model), parameters)
    tracker.initialize(golden_frames(golden, sequence)[0][0], trace["init_box"])
    return tracker


@pytest.mark.parity
@pytest.mark.parametrize("model", NETWORKS)
def test_there_is_a_test_of_every_trace(golden: Path, model: str) -> None:
    arrays = read_arrays(golden / f"tracker_trace_{model}.npz")
    assert names(arrays) == sorted(TRACES[model])


@pytest.mark.parity
@pytest.mark.parametrize(
    ("model", "name"),
    [
        pytest.param(model, name, marks=pytest.mark.exhaustive if (model, name) in EXHAUSTIVE else [])
        for model in TRACES
        for name in TRACES[model]
    ],
)
def test_every_frame_of_the_original(golden: Path, model: str, name: str) -> None:
    trace = Trace(read_arrays(golden / f"tracker_trace_{model}.npz"), name)
    parameters = trace.parameters(read_parameters(model))
    # What a first frame gives depends on few of the parameters: it is shared by the traces that agree in them.
    first = replace(parameters, thresholds=read_parameters(model).thresholds, train_skipping=20)
    network, sequence = network_of(golden, model), trace.config["seq"]
    tracker = copy.deepcopy(started(golden, model, sequence, first), {id(network): network})
    tracker.parameters = parameters
    check_start(tracker, trace, FILTER_TOLERANCE.get(model, 1e-5))

    for i, frame in enumerate(golden_frames(golden, sequence)[0][1:]):
        track = tracker.track(frame)
        assert track.state == trace["flag"][i]
        np.testing.assert_allclose(track.box_xywh, trace["target_bbox"][i], atol=0.02)
        check_state(tracker, trace, i)
        tolerance = SCORE_TOLERANCE.get((model, name), 1e-3)
        assert track.score == pytest.approx(trace["max_score"][i], abs=tolerance)
        np.testing.assert_allclose(tracker.scores, trace["score_map"][i], atol=tolerance)
        assert tracker.sample_weights.num_stored == trace["num_stored"][i]
        assert float(tracker.target_filter.abs().sum()) == pytest.approx(trace["filter_abssum"][i], rel=tolerance)
        largest = np.abs(trace["filter_abssum"][i])
        assert float(tracker.target_filter.sum()) == pytest.approx(trace["filter_sum"][i], abs=tolerance * largest)
        if trace.config.get("overwrite"):
            tracker.set_box(as_originally_set(trace["ow_box"][i]))
    np.testing.assert_allclose(tracker.sample_weights.values, trace["final_sample_weights"], atol=1e-6)
    np.testing.assert_allclose(tracker.boxes_xywh, trace["final_target_boxes_xywh"], atol=0.02)


def check_start(tracker: TracedTracker, trace: Trace, filter_tolerance: float) -> None:
    np.testing.assert_allclose(tracker.target_filter, trace["init_filter"], atol=filter_tolerance)
    num_samples, num_views = len(trace["init_boxes_xywh"]), len(tracker.views)
    np.testing.assert_array_equal([view.shift_yx for view in tracker.views], trace["init_shift_yx"][:num_views])
    np.testing.assert_allclose(tracker.boxes_xywh[:num_samples], trace["init_boxes_xywh"], atol=1e-3)
    for ours, name in zip(tracker.modulation, ("init_mod3", "init_mod4"), strict=True):
        np.testing.assert_allclose(ours[0], trace[name], atol=1e-4 * np.abs(trace[name]).max())
    *center, sample_y, sample_x, sample_scale, scale, height, width = trace["init_pos_scale"]
    target = tracker.target
    np.testing.assert_array_equal(target.center_yx, center)
    np.testing.assert_array_equal(np.rint(target.center_yx), [sample_y, sample_x])
    np.testing.assert_allclose([target.scale, target.scale], [scale, sample_scale], rtol=1e-6)
    np.testing.assert_allclose(target.base_size_hw, [height, width], rtol=1e-6)


def check_state(tracker: TracedTracker, trace: Trace, i: int) -> None:
    target, sample = tracker.target, tracker.sample
    for ours, name in (
        (target.center_yx, "pos_yx"),
        (target.size_hw, "target_sz_hw"),
        (target.scale, "target_scale"),
        (sample.center_yx, "sample_pos_yx"),
        (sample.scale, "sample_scale"),
    ):
        np.testing.assert_allclose(ours, trace[name][i], atol=0.02, err_msg=name)


SMALL = DiMPParameters(
    sample_size=128,
    search_area_scale=4,
    border="inside_major",
    max_scale_change=1.5,
    thresholds=replace(read_parameters("super_dimp").thresholds, target_not_found_threshold=0.2),
    box_search=replace(read_parameters("super_dimp").box_search, num_steps=2),
    augmentation=FirstFrameViews(relativeshift=((0.6, 0.6), (-0.6, -0.6)), fliplr=True, dropout=(2, 0.2)),
    memory_size=8,
    train_skipping=2,
)


@pytest.fixture(scope="module")
def network() -> DiMPNet:
    """Random weights; the features are spread so that peaks form."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DiMPNet("resnet18", HingeOptimizer())
    with torch.no_grad():
        network.classifier.filter_optimizer.residual_module["filter_reg"].fill_(0.1)
        weight = network.classifier.feature_extractor[1].weight
        weight -= weight.mean(dim=1, keepdim=True)
    return network.requires_grad_(False).eval()


def boxes_of(tracker: DiMPTracker, frames: list[np.ndarray], box_xywh: np.ndarray) -> np.ndarray:
    tracker.initialize(frames[0], box_xywh)
    return np.stack([tracker.track(frame).box_xywh for frame in frames[1:]])


def test_a_moving_target_is_followed(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(8)
    # The box network's weights are random: boxes stay where the classifier puts them.
    still = replace(SMALL, box_search=replace(SMALL.box_search, step_length=0.0, num_random_boxes=0))
    boxes = boxes_of(DiMPTracker(network, still), frames, gt_xywh[0])
    centers, true_centers = (values[:, :2] + values[:, 2:] / 2 for values in (boxes, gt_xywh[1:]))
    assert np.abs(centers - true_centers).max() < 16
    overlaps = paired_iou(*(torch.from_numpy(xywh_to_xyxy(values)) for values in (boxes, gt_xywh[1:].astype(float))))
    assert overlaps.min() > 0.3


def test_runs_repeat_whatever_happens_between_them(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(5)
    first, second = DiMPTracker(network, SMALL), DiMPTracker(network, SMALL)
    expected = boxes_of(first, frames, gt_xywh[0])
    first.initialize(frames[0], gt_xywh[0])
    second.initialize(frames[2], gt_xywh[2])
    interleaved = []
    for frame in frames[1:]:
        torch.rand(3)
        interleaved.append(first.track(frame).box_xywh)
        second.track(frame)
    np.testing.assert_array_equal(interleaved, expected)


def test_other_seeds_draw_other_boxes(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(3)
    first, second = (boxes_of(DiMPTracker(network, SMALL, seed), frames, gt_xywh[0]) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_a_set_box_moves_the_search_and_leaves_what_was_learned(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(3)
    tracker = DiMPTracker(network, SMALL)
    tracker.initialize(frames[0], gt_xywh[0])
    learned = tracker.target_filter.clone()
    box = gt_xywh[0] + np.array([5.0, -4.0, 6.0, 2.0])
    tracker.set_box(box)
    x, y, w, h = box
    np.testing.assert_allclose(tracker.target.box_xywh, box, atol=1e-4)
    np.testing.assert_allclose(tracker.target.center_yx, [y + (h - 1) / 2, x + (w - 1) / 2])
    np.testing.assert_allclose(tracker.target.size_hw, [h, w])
    growth = np.sqrt(w * h / np.prod(gt_xywh[0][2:].astype(float)))
    first_scale = np.sqrt(np.prod(gt_xywh[0][2:].astype(float))) * SMALL.search_area_scale / SMALL.sample_size
    assert tracker.target.scale == pytest.approx(first_scale * growth, rel=1e-5)
    assert torch.equal(tracker.target_filter, learned)


def test_a_lost_target_leaves_the_box_and_what_was_learned(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(3)
    thresholds = replace(SMALL.thresholds, target_not_found_threshold=1e9)
    tracker = DiMPTracker(network, replace(SMALL, thresholds=thresholds))
    tracker.initialize(frames[0], gt_xywh[0])
    learned = tracker.target_filter.clone()
    track = tracker.track(frames[1])
    assert track.state is TrackState.NOT_FOUND
    np.testing.assert_allclose(track.box_xywh, gt_xywh[0], atol=1e-4)
    assert torch.equal(tracker.target_filter, learned)
    assert tracker.sample_weights.num_stored == 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graphics_card_gives_nearly_the_same_boxes(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(4)
    expected = boxes_of(DiMPTracker(network, SMALL), frames, gt_xywh[0])
    on_card: Any = copy.deepcopy(network).cuda()
    np.testing.assert_allclose(boxes_of(DiMPTracker(on_card, SMALL), frames, gt_xywh[0]), expected, atol=2.0)
