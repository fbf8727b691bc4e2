from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alpharefine.trackers.dimp.box_search import RefinementSpace, climb
from alpharefine.trackers.dimp.filters import apply_filter
from alpharefine.trackers.dimp.iou_net import IoUNet
from alpharefine.trackers.dimp.loading import NETWORKS
from alpharefine.trackers.dimp.network import DiMPNet

from .golden import golden_crops, golden_network, golden_state, read_arrays

SEARCHES: dict[str, tuple[RefinementSpace, int, Any, float]] = {
    "default_step1_it5": ("default", 5, 1.0, 1.0),
    "relative_step2.5e-3_it10": ("relative", 10, 2.5e-3, 1.0),
    "relative_tuple_1e-2_5e-3_decay0.8_it5": ("relative", 5, (1e-2, 5e-3), 0.8),
}


def assert_near(ours: Tensor, golden: np.ndarray, part: float) -> None:
    """Within a part of the golden array's largest value."""
    np.testing.assert_allclose(ours, golden, atol=part * np.abs(golden).max(), rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("model", NETWORKS)
@torch.no_grad()
def test_every_stage_of_the_original(golden: Path, model: str) -> None:
    network, arrays = golden_network(golden, model), read_arrays(golden / f"tracker_net_{model}.npz")
    layers = network.layers(golden_crops(golden, model))
    check_backbone(layers.layer2, arrays, "layer2")
    check_backbone(layers.layer3, arrays, "layer3")

    features = network.classification_features(layers.layer3)
    np.testing.assert_allclose(features[:1, ::16], arrays["clf_feat_slice"], atol=1e-6)
    check_classifier(network, features, arrays)
    check_boxes(network, layers, arrays)


def check_backbone(maps: Tensor, arrays: dict[str, Any], name: str) -> None:
    step = maps.shape[1] // 16
    assert_near(maps[:, ::step, ::4, ::4], arrays[f"backbone/{name}_slice"], 1e-4)
    assert_near(maps.mean(dim=(2, 3)), arrays[f"backbone/{name}_channel_mean"], 1e-4)
    assert_near(maps.abs().amax(dim=(2, 3)), arrays[f"backbone/{name}_channel_absmax"], 1e-4)


def check_classifier(network: DiMPNet, features: Tensor, arrays: dict[str, Any]) -> None:
    boxes_xywh = torch.from_numpy(arrays["boxes_xywh"])
    initializer, optimizer = network.classifier.filter_initializer, network.classifier.filter_optimizer
    np.testing.assert_allclose(initializer(features[:1], boxes_xywh[:1]), arrays["filter/init_from_1"], atol=1e-5)
    first = initializer(features, boxes_xywh)
    np.testing.assert_allclose(first, arrays["filter/init_from_3"], atol=1e-5)
    samples, maps = features[:, None], optimizer.maps(boxes_xywh, features.shape[-1] + 1, 4, 1.0)[:, None]
    if "train_label" in arrays:
        maps = torch.from_numpy(arrays["train_label"])[:, :, None]
    for num_iterations in (0, 1, 5, 10):
        filters = optimizer(first, samples, maps, num_iterations)
        check_filter(filters, samples, arrays, f"iter{num_iterations}")
    weights = torch.tensor([0.5, 0.2, 0.3])[:, None]
    check_filter(optimizer(filters, samples, maps, 2, weights), samples, arrays, "iter10_plus2_weighted")


def check_filter(filters: Tensor, samples: Tensor, arrays: dict[str, Any], name: str) -> None:
    if f"filter/{name}" in arrays:
        np.testing.assert_allclose(filters, arrays[f"filter/{name}"], atol=1e-5)
    np.testing.assert_allclose(apply_filter(samples, filters)[:, 0], arrays[f"scores/{name}"], atol=1e-4)


def check_boxes(network: DiMPNet, layers: tuple[Tensor, Tensor], arrays: dict[str, Any]) -> None:
    layer2, layer3 = layers
    regressor, box = network.bb_regressor, torch.from_numpy(arrays["boxes_xywh"][:1])
    modulation = regressor.modulation(layer2[:1], layer3[:1], box)
    for ours, name in zip(modulation, ("3", "4"), strict=True):
        assert_near(ours.flatten(), arrays[f"iou/modulation{name}"], 1e-4)
    features = regressor.features(layer2[1:2], layer3[1:2])
    for ours, name in zip(features, ("c3", "c4"), strict=True):
        assert_near(ours[:, ::16, ::3, ::3], arrays[f"iou/{name}_slice"], 1e-4)
        assert_near(ours.mean(dim=(2, 3)), arrays[f"iou/{name}_channel_mean"], 1e-4)
    proposals = torch.from_numpy(arrays["proposals_xywh"])[None]
    values, gradient = values_and_gradient(regressor, modulation(features), proposals)
    np.testing.assert_allclose(values[0], arrays["iou/pred"], atol=1e-5)
    np.testing.assert_allclose(gradient[0], arrays["iou/grad_xywh"], atol=1e-6)
    for name, search in SEARCHES.items():
        boxes, values = climb(regressor, modulation(features), proposals, *search)
        np.testing.assert_allclose(boxes[0], arrays[f"refine/{name}/boxes"], atol=1e-3)
        np.testing.assert_allclose(values[0], arrays[f"refine/{name}/iou"], atol=1e-5)


def values_and_gradient(
    regressor: IoUNet, features: tuple[Tensor, Tensor], boxes_xywh: Tensor
) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        boxes = boxes_xywh.clone().requires_grad_()
        values = regressor(features, boxes)
        (gradient,) = torch.autograd.grad(values.sum(), boxes)
    return values.detach(), gradient


@pytest.mark.parity
@torch.no_grad()
def test_the_box_network_alone(golden: Path) -> None:
    state, logic = golden_state(golden, "dimp18"), read_arrays(golden / "tracker_logic.npz")
    arrays = {name: torch.from_numpy(logic[f"iounet/{name}"]) for name in BOX_NETWORK_ARRAYS}
    regressor = IoUNet((128, 256)).requires_grad_(False).eval()
    prefix = "bb_regressor."
    regressor.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    modulation = regressor.modulation(arrays["ref_layer2"], arrays["ref_layer3"], arrays["ref_box"])
    features = regressor.features(arrays["test_layer2"], arrays["test_layer3"])
    for ours, name in zip((*modulation, *features), ("mod3", "mod4", "c3_t", "c4_t"), strict=True):
        assert_near(ours, arrays[name].numpy(), 1e-4)
    values, gradient = values_and_gradient(regressor, modulation(features), arrays["proposals"][None])
    np.testing.assert_allclose(values[0], arrays["pred"], atol=1e-5)
    np.testing.assert_allclose(gradient[0], arrays["grad"], atol=1e-6)


BOX_NETWORK_ARRAYS = (
    *("ref_layer2", "ref_layer3", "test_layer2", "test_layer3", "ref_box", "proposals"),
    *("mod3", "mod4", "c3_t", "c4_t", "pred", "grad"),
)


@pytest.mark.parametrize("space", ["default", "relative"])
def test_boxes_climb_each_on_its_own(space: RefinementSpace) -> None:
    torch.manual_seed(0)
    regressor = IoUNet((8, 16)).requires_grad_(False).eval()
    features = torch.rand(1, 256, 12, 12), torch.rand(1, 256, 6, 6)
    boxes = torch.tensor([[[20.0, 25, 30, 40], [35, 30, 25, 20]]])
    step = 1.0 if space == "default" else 1e-3
    before = regressor(features, boxes)
    together, _ = climb(regressor, features, boxes, space, 5, step)
    assert (regressor(features, together) > before).all()
    alone, values = climb(regressor, features, boxes[:, :1], space, 5, step)
    torch.testing.assert_close(alone, together[:, :1])
    assert values.shape == (1, 1)
