from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from alpharefine.trackers.dimp.filters import FilterInitializer, InstanceL2Norm, apply_filter, filter_gradient
from alpharefine.trackers.dimp.optimizers import (
    DiMPOptimizer,
    FilterOptimizer,
    HingeOptimizer,
    PrDiMPOptimizer,
    distance_bins,
    distance_map,
)

from .golden import read_arrays


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, Tensor]:
    loaded = read_arrays(golden / "tracker_filter_ops.npz")
    return {name: torch.from_numpy(values) for name, values in loaded.items()}


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_scores_are_a_convolution(size: int) -> None:
    rng = torch.Generator().manual_seed(size)
    features = torch.randn(3, 2, 4, 6, 7, dtype=torch.float64, generator=rng)
    filters = torch.randn(2, 4, size, size, dtype=torch.float64, generator=rng)
    expected = F.conv2d(features.flatten(1, 2), filters, padding=size // 2, groups=2)
    torch.testing.assert_close(apply_filter(features, filters), expected)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_the_gradient_is_the_adjoint_of_the_scores(size: int) -> None:
    rng = torch.Generator().manual_seed(size)
    features = torch.randn(3, 2, 4, 6, 7, dtype=torch.float64, generator=rng)
    filters = torch.randn(2, 4, size, size, dtype=torch.float64, generator=rng, requires_grad=True)
    scores = apply_filter(features, filters)
    residuals = torch.randn(scores.shape, dtype=torch.float64, generator=rng)
    (expected,) = torch.autograd.grad((scores * residuals).sum(), filters)
    torch.testing.assert_close(filter_gradient(features, residuals, size), expected)


@pytest.mark.parity
@pytest.mark.parametrize("size", [1, 3, 4])
def test_scores_and_gradient_of_the_original(arrays: dict[str, Tensor], size: int) -> None:
    features, filters, residuals, scores, transpose = (
        arrays[f"ops/k{size}/{name}"] for name in ("feat", "filter", "residual", "scores", "transpose")
    )
    np.testing.assert_allclose(apply_filter(features, filters), scores, atol=1e-5)
    np.testing.assert_allclose(filter_gradient(features, residuals, size), transpose, atol=2e-5)


@pytest.mark.parity
def test_norm_and_initializer_of_the_original(arrays: dict[str, Tensor]) -> None:
    features, boxes_xywh = arrays["opt/feat"], arrays["opt/bb_xywh"]
    initializer = FilterInitializer(16, 4)
    with torch.no_grad():
        initializer.filter_conv.weight.copy_(arrays["init/weight"])
        initializer.filter_conv.bias.copy_(arrays["init/bias"])  # type: ignore[union-attr]
        np.testing.assert_allclose(initializer(features, boxes_xywh), arrays["init/filter_mean4"], atol=1e-6)
        np.testing.assert_allclose(initializer(features[:1], boxes_xywh[:1]), arrays["init/filter_single"], atol=1e-6)
    np.testing.assert_allclose(InstanceL2Norm(16, 4)(3 * features), arrays["l2norm/out"], atol=1e-6)


def constructed(optimizer: FilterOptimizer, step_length: float, regularization: float) -> FilterOptimizer:
    """An optimizer with the parameters that it is constructed with before any training."""
    bins = torch.arange(100) * 0.1
    with torch.no_grad():
        for name, parameter in optimizer.named_parameters():
            if name.endswith("filter_reg"):
                parameter.fill_(regularization)
            elif name == "log_step_length":
                parameter.fill_(np.log(step_length))
            elif name == "label_map_predictor.weight":
                label = torch.exp(-0.5 * (bins / 0.9) ** 2)
                parameter.copy_((label - label.min()).view(1, 100, 1, 1))
            elif name == "target_mask_predictor.0.weight":
                parameter.copy_((3 * torch.tanh(2 - bins)).view(1, 100, 1, 1))
            else:
                parameter.fill_(1)
    return optimizer.requires_grad_(False)


OPTIMIZERS = {
    "dimp": lambda: constructed(DiMPOptimizer(), 0.9, 0.1),
    "prdimp": lambda: constructed(PrDiMPOptimizer(), 1.0, 0.05),
    "prdimp_alt": lambda: constructed(
        PrDiMPOptimizer(uni_weight=0.1, softmax_reg=1.5, label_shrink=0.05, label_threshold=0.01), 0.7, 0.05
    ),
    "simple": lambda: constructed(HingeOptimizer(), 1.0, 0.1),
}


@pytest.mark.parity
@pytest.mark.parametrize("weighting", ["none", "weighted"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_iterate_of_the_original(arrays: dict[str, Tensor], name: str, weighting: str) -> None:
    optimizer, features = OPTIMIZERS[name](), arrays["opt/feat"][:, None]
    maps = optimizer.maps(arrays["opt/bb_xywh"], 19, 4, 1.0)[:, None]
    if name == "simple":
        maps = arrays["opt/simple/train_label"][:, :, None]
    weights = None if weighting == "none" else arrays["opt/sample_weight"][:, None]
    filters = arrays["opt/init_filter"]
    for expected in arrays[f"opt/{name}/{weighting}/iterates"]:
        np.testing.assert_allclose(filters[0], expected, atol=1e-4)
        filters = optimizer(filters, features, maps, 1, weights)


@pytest.mark.parity
def test_maps_of_the_original(arrays: dict[str, Tensor]) -> None:
    boxes_xywh = arrays["opt/bb_xywh"]
    maps = OPTIMIZERS["dimp"]().maps(boxes_xywh, 19, 4, 1.0)
    np.testing.assert_allclose(maps[:, :1], arrays["dimp_maps/label"], atol=1e-6)
    np.testing.assert_allclose(maps[:, 1:2], arrays["dimp_maps/mask"], atol=1e-6)
    bins = distance_bins(distance_map(boxes_xywh, 19, 4))
    np.testing.assert_allclose(bins[0, :, 8], arrays["dimp_maps/distance_bins_sample0_row8"], atol=1e-6)
    density = OPTIMIZERS["prdimp"]().maps(boxes_xywh, 19, 4, 1.0)
    np.testing.assert_allclose(density, arrays["prdimp_label_density"], atol=1e-7)


@pytest.mark.parity
def test_softmax_and_label_of_the_original(golden: Path) -> None:
    logic = read_arrays(golden / "tracker_logic.npz")
    scores = torch.from_numpy(logic["softmax/in"])[None, None]
    for softmax_reg, name in ((None, "noreg"), (1.5, "reg1.5")):
        prob = PrDiMPOptimizer(softmax_reg=softmax_reg).score_map(scores)
        np.testing.assert_allclose(prob[0, 0], logic[f"softmax/out_{name}"], atol=1e-7)
    center = 16 * (torch.tensor([-1.3, 0.7]) + 10.5)  # x, y; the label's are cells from the middle
    box_xywh = torch.cat([center - 20, torch.tensor([40.0, 40.0])])
    label = HingeOptimizer().maps(box_xywh, 23, 4, 2.0)[0]
    np.testing.assert_allclose(label, logic["label_spatial/22x22_sig2_c0.7_-1.3_endpad1"], atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_filter_learns_where_its_target_is(name: str) -> None:
    """Two targets at once, each alone on its pictures' features."""
    rng = torch.Generator().manual_seed(0)
    features = 0.1 * torch.randn(3, 2, 8, 12, 12, generator=rng)
    boxes_xywh = torch.tensor([[[40.0, 56, 48, 48], [88, 72, 48, 48]]]).repeat(3, 1, 1)
    features[:, 0, :, 4:6, 3:5] += torch.randn(8, 2, 2, generator=rng)
    features[:, 1, :, 5:7, 6:8] += torch.randn(8, 2, 2, generator=rng)
    optimizer = OPTIMIZERS[name]()
    maps = optimizer.maps(boxes_xywh, 13, 4, 1.0)
    filters = optimizer(torch.zeros(2, 8, 4, 4), features, maps, 10)
    peaks = apply_filter(features, filters).flatten(2).argmax(dim=-1)
    for target, (y, x) in enumerate([(5, 4), (6, 7)]):
        assert all(abs(int(peak) // 13 - y) <= 1 and abs(int(peak) % 13 - x) <= 1 for peak in peaks[:, target])
