"""One training step of the original with the same weights and the same two pairs, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alpharefine.boxes import xywh_to_xyxy, xyxy_to_xywh
from alpharefine.checkpoints.original import from_original_names
from alpharefine.crops import OriginalWindow
from alpharefine.models import AlphaRefineNet
from alpharefine.models.backbone import unused_names
from alpharefine.training.losses import corner_loss, mask_loss
from tests.models.golden import golden_network
from tests.original_frames import assert_same_crop, crc32
from tests.trackers.dimp.golden import golden_frames, read_arrays

pytestmark = [pytest.mark.parity, pytest.mark.slow]

RELATIVE = 1e-6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, Any]:
    arrays = read_arrays(golden / "portable_refine.npz")
    return {name.removeprefix("train/"): array for name, array in arrays.items() if name.startswith("train/")}


@pytest.fixture(scope="module")
def batch(golden: Path, expected: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the template and search crops ``(2, 3, 256, 256)``, compared with the original's."""
    templates, crops = [], []
    for i, sequence in enumerate(expected["sequence"]):
        frames, _ = golden_frames(golden, sequence)
        template = OriginalWindow.around(expected["template_box"][i])
        templates.append(template.cut(frames[expected["template_frame"][i]]))
        assert crc32(templates[-1]) == expected["template_crop_crc32"][i]
        window = OriginalWindow.around(expected["box"][i])
        crops.append(window.cut(frames[expected["frame"][i]]))
        assert_same_crop(crops[-1], expected["crop_crc32"][i], expected["crop_sub16"][i])
    found = [torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) for pictures in (templates, crops)]
    return found[0], found[1]


@pytest.mark.parametrize(
    ("cut_around", "target", "label"),
    [("template_box", "template_box", "template_anno_xywh"), ("box", "true_box", "anno_xywh")],
)
def test_labels(expected: dict[str, Any], cut_around: str, target: str, label: str) -> None:
    for around, box, expected_xywh in zip(expected[cut_around], expected[target], expected[label], strict=True):
        found_xyxy = OriginalWindow.around(around).to_crop(xywh_to_xyxy(box)).clip(0, 256)
        np.testing.assert_allclose(xyxy_to_xywh(found_xyxy), expected_xywh, atol=1e-3, rtol=0)


def test_losses_gradients_statistics_and_step(
    golden: Path, expected: dict[str, Any], batch: tuple[Tensor, Tensor]
) -> None:
    network = golden_network(golden, "ar34_cm").double().train()
    for buffer, values in ((network.mean, MEAN), (network.std, STD)):  # float32 rounding moves the step by 2e-6
        buffer.copy_(255 * torch.tensor(values, dtype=torch.float64).view_as(buffer))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    before = losses(network, batch, expected)
    np.testing.assert_allclose([loss.item() for loss in before], expected["f64_losses"], rtol=RELATIVE)
    check_statistics(network, expected)
    before[0].backward()
    check_gradients(network, expected)
    optimizer.step()
    after = losses(network, batch, expected)
    np.testing.assert_allclose([loss.item() for loss in after], expected["f64_losses_after_step"], rtol=RELATIVE)


def losses(
    network: AlphaRefineNet, batch: tuple[Tensor, Tensor], expected: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the total, corner and mask losses."""
    template, search = (pictures.double() for pictures in batch)
    corners, logits, _ = network(search, network.encode_template(template))
    assert corners is not None
    assert logits is not None
    target_xyxy = torch.from_numpy(xywh_to_xyxy(expected["anno_xywh"])).double()
    mask = torch.from_numpy(np.unpackbits(expected["mask_gt_packed"]).reshape(2, 256, 256))
    corner = corner_loss(corners.crop_xyxy, target_xyxy)
    of_mask = mask_loss(logits, mask, torch.from_numpy(expected["mask_flag"]).bool())
    return corner + 1000 * of_mask, corner, of_mask


def by_own_name(names: np.ndarray, values: np.ndarray) -> dict[str, Tensor]:
    return from_original_names({str(name): torch.tensor(value) for name, value in zip(names, values, strict=True)})


def check_statistics(network: AlphaRefineNet, expected: dict[str, Any]) -> None:
    state = network.state_dict()
    sums = by_own_name(expected["bn_name"], expected["f64_bn_sum"])
    assert len(sums) > 50
    for name, value in sums.items():
        np.testing.assert_allclose(state[name].sum(), value, rtol=RELATIVE, atol=RELATIVE, err_msg=name)
    layers = ("neck.post_correlation.1", "backbone.bn1")
    tracked = [int(state[f"{layer}.num_batches_tracked"]) for layer in layers]
    assert tracked == expected["tracked"][:2].tolist()


def check_gradients(network: AlphaRefineNet, expected: dict[str, Any]) -> None:
    parameters = dict(network.named_parameters())
    norms = by_own_name(expected["grad_name"], expected["f64_grad_norm"])
    assert norms.keys() == parameters.keys()
    unused = {f"feature_extractor.{name}" for name in unused_names("resnet34")}
    assert {str(name) for name in expected["no_grad_name"]} <= unused
    large = {name: norm for name, norm in norms.items() if norm > 1}
    assert len(large) > 100
    for name, norm in large.items():
        gradient = parameters[name].grad
        assert gradient is not None
        np.testing.assert_allclose(gradient.norm(), norm, rtol=RELATIVE, err_msg=name)
