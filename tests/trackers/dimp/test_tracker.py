from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.trackers.base import TrackState
from alpharefine.trackers.dimp.augmentation import Augmentation
from alpharefine.trackers.dimp.loading import NETWORKS
from alpharefine.trackers.dimp.network import DiMPNet
from alpharefine.trackers.dimp.optimizers import HingeOptimizer
from alpharefine.trackers.dimp.parameters import DiMPParameters, read_parameters
from alpharefine.trackers.dimp.tracker import DiMPTracker

from ..videos import moving_texture
from .golden import as_originally_set, golden_frames, golden_network, read_arrays
from .traces import Trace

TRACES = {
    "dimp18": ("a_det", "a_overwrite", "a_seeded", "b_det"),
    "dimp50": ("a_det", "a_lowopt", "a_mem", "a_overwrite", "a_seeded", "b_det"),
    "prdimp18": ("a_det",),
    "prdimp50": ("a_det", "a_overwrite", "b_det"),
    "super_dimp": ("a_det", "a_lowopt", "a_mem", "a_overwrite", "a_seeded", "b_det"),
    "super_dimp_simple": ("a_det", "a_overwrite", "b_det"),
}
QUICK = {
    "dimp18": TRACES["dimp18"],
    "dimp50": ("b_det",),
    "prdimp18": ("a_det",),
    "prdimp50": ("b_det",),
    "super_dimp": ("a_det", "a_overwrite", "a_lowopt"),
    "super_dimp_simple": ("a_det",),
}
"""What every run of the tests looks at."""

SCORE_TOLERANCE = {("super_dimp", "b_det"): 2e-2, ("super_dimp", "a_lowopt"): 2e-2, ("dimp50", "a_lowopt"): 2e-2}


@cache
def network_of(golden: Path, model: str) -> DiMPNet:
    return golden_network(golden, model)


@cache
def started(golden: Path, model: str, sequence: str, parameters: DiMPParameters) -> DiMPTracker:
    """A tracker that has learnt its target; not to be changed: copy it."""
    trace = Trace(read_arrays(golden / f"tracker_trace_{model}.npz"), f"{sequence}_det")
    tracker = DiMPTracker(network_of(golden, model), parameters)
    tracker.initialize(golden_frames(golden, sequence)[0][0], trace["init_box"])
    return tracker


@pytest.mark.parity
@pytest.mark.parametrize("model", NETWORKS)
def test_there_is_a_test_of_every_trace(shared: Path, model: str) -> None:
    arrays = read_arrays(shared / "golden" / f"tracker_trace_{model}.npz")
    assert sorted({key.split("/")[0] for key in arrays if "/" in key}) == sorted(TRACES[model])


@pytest.mark.parity
@pytest.mark.parametrize(
    ("model", "name"),
    [
        pytest.param(model, name, marks=[] if name in QUICK[model] else pytest.mark.exhaustive)
        for model in TRACES
        for name in TRACES[model]
    ],
)
def test_every_frame_of_the_original(shared: Path, model: str, name: str) -> None:
    golden = shared / "golden"
    trace = Trace(read_arrays(golden / f"tracker_trace_{model}.npz"), name)
    parameters = trace.parameters(read_parameters(model))
    # What a first frame gives depends on few of the parameters: it is shared by the traces that agree in them.
    first = replace(parameters, thresholds=read_parameters(model).thresholds, train_skipping=20)
    network, sequence = network_of(golden, model), trace.config["seq"]
    tracker = copy.deepcopy(started(golden, model, sequence, first), {id(network): network})
    tracker.parameters = parameters
    check_start(tracker, trace)

    frames, gt_xywh = golden_frames(golden, sequence)
    for i, frame in enumerate(frames[1:]):
        track = tracker.track(frame)
        assert track.state == trace["flag"][i]
        np.testing.assert_allclose(track.box_xywh, trace["target_bbox"][i], atol=0.02)
        tolerance = SCORE_TOLERANCE.get((model, name), 1e-3)
        assert track.score == pytest.approx(trace["max_score"][i], abs=tolerance)
        np.testing.assert_allclose(tracker.last_score_map, expected_scores(tracker, trace, i), atol=tolerance)
        assert tracker.sample_weights.num_stored == trace["num_stored"][i]
        assert float(tracker.target_filter.abs().sum()) == pytest.approx(trace["filter_abssum"][i], rel=2e-2)
        if trace.config.get("overwrite"):
            tracker.set_box(as_originally_set(gt_xywh[i + 1]))
    np.testing.assert_allclose(tracker.sample_weights.values, trace["final_sample_weights"], atol=1e-6)
    np.testing.assert_allclose(tracker.sample_boxes_xywh, trace["final_target_boxes_xywh"], atol=0.02)


def check_start(tracker: DiMPTracker, trace: Trace) -> None:
    np.testing.assert_allclose(tracker.target_filter, trace["init_filter"], atol=2e-5)
    num_views = len(trace["init_boxes_xywh"])
    np.testing.assert_allclose(tracker.sample_boxes_xywh[:num_views], trace["init_boxes_xywh"], atol=1e-3)
    for ours, name in zip(tracker.modulation, ("init_mod3", "init_mod4"), strict=True):
        np.testing.assert_allclose(ours[0], trace[name], atol=1e-4 * np.abs(trace[name]).max())
    *_, scale, height, width = trace["init_pos_scale"]
    assert tracker.target.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(tracker.target.base_size_hw, [height, width], rtol=1e-6)


def expected_scores(tracker: DiMPTracker, trace: Trace, i: int) -> np.ndarray:
    """The trace's raw scores, as the network's optimiser looks at them."""
    scores = torch.from_numpy(trace["score_map"][i])[None, None]
    return tracker.network.classifier.filter_optimizer.score_map(scores)[0, 0].numpy()


SMALL = DiMPParameters(
    sample_size=128,
    search_area_scale=4,
    border="inside_major",
    max_scale_change=1.5,
    thresholds=replace(read_parameters("super_dimp").thresholds, target_not_found_threshold=0.2),
    box_search=replace(read_parameters("super_dimp").box_search, num_steps=2),
    augmentation=Augmentation(relativeshift=((0.6, 0.6), (-0.6, -0.6)), fliplr=True, dropout=(2, 0.2)),
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
    centres, true_centres = (values[:, :2] + values[:, 2:] / 2 for values in (boxes, gt_xywh[1:]))
    assert np.abs(centres - true_centres).max() < 16
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


def test_a_set_box_moves_the_search_and_leaves_what_was_learnt(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(3)
    tracker = DiMPTracker(network, SMALL)
    tracker.initialize(frames[0], gt_xywh[0])
    learnt = tracker.target_filter.clone()
    box = gt_xywh[0] + np.array([5.0, -4.0, 6.0, 2.0])
    tracker.set_box(box)
    x, y, w, h = box
    np.testing.assert_allclose(tracker.target.box_xywh, box, atol=1e-4)
    np.testing.assert_allclose(tracker.target.centre_yx, [y + (h - 1) / 2, x + (w - 1) / 2])
    np.testing.assert_allclose(tracker.target.size_hw, [h, w])
    growth = np.sqrt(w * h / np.prod(gt_xywh[0][2:].astype(float)))
    first_scale = np.sqrt(np.prod(gt_xywh[0][2:].astype(float))) * SMALL.search_area_scale / SMALL.sample_size
    assert tracker.target.scale == pytest.approx(first_scale * growth, rel=1e-5)
    assert torch.equal(tracker.target_filter, learnt)


def test_a_lost_target_leaves_the_box_and_what_was_learnt(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(3)
    thresholds = replace(SMALL.thresholds, target_not_found_threshold=1e9)
    tracker = DiMPTracker(network, replace(SMALL, thresholds=thresholds))
    tracker.initialize(frames[0], gt_xywh[0])
    learnt = tracker.target_filter.clone()
    track = tracker.track(frames[1])
    assert track.state is TrackState.NOT_FOUND
    np.testing.assert_allclose(track.box_xywh, gt_xywh[0], atol=1e-4)
    assert torch.equal(tracker.target_filter, learnt)
    assert tracker.sample_weights.num_stored == 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graphics_card_gives_nearly_the_same_boxes(network: DiMPNet) -> None:
    frames, gt_xywh = moving_texture(4)
    expected = boxes_of(DiMPTracker(network, SMALL), frames, gt_xywh[0])
    on_card: Any = copy.deepcopy(network).cuda()
    np.testing.assert_allclose(boxes_of(DiMPTracker(on_card, SMALL), frames, gt_xywh[0]), expected, atol=2.0)
