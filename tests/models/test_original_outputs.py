"""The network against outputs of the original with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.checkpoints.original import from_original_names
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet, FeaturePyramid, Grid, NetworkConfig, Prediction, soft_argmax
from alpharefine.models.backbone import unused_names
from alpharefine.models.correlation import pixel_correlation
from alpharefine.training.losses import corner_loss, mask_loss
from tests.models.golden import BACKBONES, golden_network, golden_pairs, golden_state

pytestmark = pytest.mark.parity


class Run(NamedTuple):
    expected: dict[str, np.ndarray]
    kernel: Tensor
    features: FeaturePyramid
    adjusted: list[Tensor]
    fused: Tensor
    logits128: Tensor
    prediction: Prediction


def record(module: nn.Module, outputs: list) -> None:
    module.register_forward_hook(lambda *args: outputs.append(args[-1]))


@pytest.fixture(scope="module", params=BACKBONES)
def run(request, golden, shared) -> Run:
    with np.load(shared / "golden" / f"{request.param}.npz") as arrays:
        expected = dict(arrays)
    template, search = golden_pairs(shared / "golden")
    network = golden_network(golden, request.param).eval()
    head = network.mask_head
    assert head is not None
    modules = (network.backbone, head.adjust_conv1, head.adjust_layer1, head.adjust_layer2, network.neck, head)
    outputs: list[Tensor] = []
    with torch.no_grad():
        kernel = network.encode_template(template)
        for module in modules:
            record(module, outputs)
        prediction = network(search, kernel)
    features, fused, *adjusted, logits128 = outputs
    # The hooks fire in the order of the calls: low features are adjusted from the deepest up.
    return Run(expected, kernel, features, adjusted[::-1], fused, logits128, prediction)


def close(actual: Tensor, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual.numpy(), expected.astype(np.float32), rtol=0, atol=tolerance)


def test_kernel(run) -> None:
    close(run.kernel, run.expected["kernel"], 5e-4)


@pytest.mark.parametrize("stage", FeaturePyramid._fields)
def test_feature_maps(run, stage) -> None:
    x = getattr(run.features, stage)
    close(x.mean(dim=(2, 3)), run.expected[f"{stage}_channel_mean"], 5e-4)
    close(x.std(dim=(2, 3)), run.expected[f"{stage}_channel_std"], 5e-4)
    if stage != "layer3":
        step = x.shape[-1] // 16
        close(x[:, ::8, ::step, ::step], run.expected[f"{stage}_sample"], 5e-4)


def test_every_fourth_channel_of_layer3(run) -> None:
    if "layer3_sub4" not in run.expected:
        pytest.skip("these vectors hold no channels of layer3")
    close(run.features.layer3[:, ::4], run.expected["layer3_sub4"], 5e-4)


def test_correlation(run) -> None:
    close(pixel_correlation(run.features.layer3, run.kernel), run.expected["correlation"], 0.1)


def test_fused(run) -> None:
    close(run.fused, run.expected["fused"], 5e-4)


@pytest.mark.parametrize("level", range(3))
def test_adjusted_low_features(run, level) -> None:
    close(run.adjusted[level].mean(dim=(2, 3)), run.expected[f"adjust{level}_channel_mean"], 5e-4)


@pytest.mark.parametrize(("channel", "corner"), [(0, "tl"), (1, "br")])
def test_score_maps(run, channel, corner) -> None:
    close(run.prediction.corners.scores[:, channel], run.expected[f"score_{corner}"], 5e-4)


def test_corners(run) -> None:
    close(run.prediction.corners.crop_xyxy, run.expected["corner_xyxy"], 2e-3)


def test_mask_logits_before_the_last_resize(run) -> None:
    close(run.logits128, run.expected["mask_logits128"], 5e-4)


def test_mask_probabilities(run) -> None:
    expected = run.expected["mask_prob"].astype(np.float32).reshape(3, 256, 256)
    close(run.prediction.mask_logits.sigmoid(), expected, 1e-3)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_weight_of_the_original_has_its_place_and_no_other_name_is_taken(golden, name) -> None:
    state = golden_state(golden, name)
    renamed = from_original_names(state)
    unused = [key for key in state if key.startswith(("feature_extractor.layer4.", "feature_extractor.fc."))]
    assert len(renamed) == len(state) - len(unused)
    expected = AlphaRefineNet(NetworkConfig(BACKBONES[name])).state_dict()
    assert {key: value.shape for key, value in renamed.items()} == {k: v.shape for k, v in expected.items()}
    with pytest.raises(UserError, match="bogus"):
        from_original_names({"neck.bogus.weight": torch.zeros(1)})


def test_soft_argmax_on_the_exact_grid(golden) -> None:
    with np.load(golden / "geometry_exact.npz") as arrays:
        corner = soft_argmax(torch.from_numpy(arrays["score"]), Grid(256))
        np.testing.assert_allclose(corner.numpy(), arrays["corner"], rtol=0, atol=1e-9)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread, as for the golden vectors: Adam amplifies rounding errors of tiny gradients in its first step."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_one_training_step(shared) -> None:
    golden = shared / "golden"
    with np.load(golden / "ar34_cm_train.npz") as arrays:
        expected = dict(arrays)
    template, search = golden_pairs(golden)
    target_xyxy = torch.from_numpy(xywh_to_xyxy(expected["anno_xywh"]))
    mask = torch.from_numpy(np.unpackbits(expected["mask_gt_packed"]).reshape(3, 256, 256))
    has_mask = torch.from_numpy(expected["mask_flag"]).bool()
    network = golden_network(golden, "ar34_cm").train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def losses() -> tuple[Tensor, Tensor, Tensor]:
        corners, logits, _ = network(search, network.encode_template(template))
        corner = corner_loss(corners.crop_xyxy, target_xyxy)
        of_mask = mask_loss(logits, mask, has_mask)
        return corner + 1000 * of_mask, corner, of_mask

    before = losses()
    np.testing.assert_allclose([loss.item() for loss in before], expected["losses"], rtol=1e-3)
    sums = dict(zip(expected["bn_name"], expected["bn_sum"], strict=True))
    renamed = from_original_names({name: torch.tensor(value) for name, value in sums.items()})
    state = network.state_dict()
    for name, value in renamed.items():
        np.testing.assert_allclose(state[name].double().sum(), value, rtol=1e-2, atol=1e-2, err_msg=name)
    tracked = (state["neck.post_correlation.1.num_batches_tracked"], state["backbone.bn1.num_batches_tracked"])
    assert [int(t) for t in tracked] == expected["tracked"][:2].tolist()

    before[0].backward()
    norms = dict(zip(expected["grad_name"], expected["grad_norm"], strict=True))
    golden_norms = from_original_names({name: torch.tensor(norm) for name, norm in norms.items()})
    parameters = dict(network.named_parameters())
    assert golden_norms.keys() == parameters.keys()
    large = {name: norm for name, norm in golden_norms.items() if norm > 1}
    assert len(large) > 100
    for name, norm in large.items():
        np.testing.assert_allclose(parameters[name].grad.double().norm(), norm, rtol=0.05, err_msg=name)

    assert {str(name) for name in expected["no_grad_name"]} <= {
        f"feature_extractor.{n}" for n in unused_names("resnet34")
    }

    start = {name: value.detach().clone() for name, value in parameters.items()}
    optimizer.step()
    steps = dict(zip(expected["grad_name"], expected["step_max_abs"], strict=True))
    for name, step in from_original_names({n: torch.tensor(float(s)) for n, s in steps.items()}).items():
        found = (parameters[name].detach() - start[name]).abs().max()
        if name in large:
            np.testing.assert_allclose(found, step, rtol=0.01, err_msg=name)
    after = losses()
    np.testing.assert_allclose([loss.item() for loss in after], expected["losses_after_step"], rtol=0.02)
