"""Variants of the network against outputs of the original, and their training."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

import evaluate
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.checkpoints.original import from_original_names
from alpharefine.cli import train
from alpharefine.data.text import read_rows
from alpharefine.models import AlphaRefineNet, BackboneName, CornerHeadName, Grid, NetworkConfig, Prediction
from alpharefine.models.correlation import ResidualConvolutions, depthwise_correlation, naive_correlation
from alpharefine.models.heads import BoxHead, build_mask_head
from tests.golden.make_weights import golden_state_dict
from tests.models.golden import golden_pairs

VARIANTS: dict[str, dict[str, Any]] = {
    "att": {"neck": "pixel_gate_first"},
    "ex": {"corner_head": "extreme"},
    "rpn": {"corner_head": "rpn"},
    "corner256": {"corner_head": "towers_256"},
    "corner2": {"corner_head": "shared_tower"},
    "naive": {"neck": "naive", "spatial_attention": "non_local"},
    "dw256": {"neck": "depthwise", "spatial_attention": "non_local"},
}


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / "variants.npz") as arrays:
        return dict(arrays)


def weights(shared: Path, variant: str) -> dict[str, Tensor]:
    shapes = json.loads((shared / "golden" / "variants.json").read_text())
    return golden_state_dict(shapes[variant])


def close(actual: Tensor, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=tolerance)


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest, shared: Path) -> tuple[str, AlphaRefineNet, Tensor, Prediction]:
    """Name, network, template kernel and prediction of the three pairs."""
    network = AlphaRefineNet(NetworkConfig(geometry="original", **VARIANTS[request.param])).eval()
    network.load_state_dict(from_original_names(weights(shared, request.param), network.config))
    template, search = golden_pairs(shared / "golden")
    with np.load(shared / "golden" / "ar34_cm.npz") as arrays:
        box = torch.from_numpy(arrays["template_box"])
    with torch.no_grad():
        kernel = network.encode_template(template, torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], dim=1))
        return request.param, network, kernel, network(search, kernel)


@pytest.mark.parity
class TestGolden:
    def test_boxes(self, variant, expected) -> None:
        name, _, _, prediction = variant
        close(prediction.corners.crop_xyxy, expected[f"{name}_xyxy"], 2e-3)

    def test_masks(self, variant, expected) -> None:
        name, _, _, prediction = variant
        if f"{name}_mask_sub4" in expected:
            close(prediction.mask_logits.sigmoid()[:, ::4, ::4], expected[f"{name}_mask_sub4"], 1e-3)
        else:
            assert VARIANTS[name].get("neck") is None, "a head of its own leaves the mask as it is"

    def test_fused_maps(self, variant, expected, shared) -> None:
        name, network, kernel, _ = variant
        search = golden_pairs(shared / "golden")[1]
        with torch.no_grad():
            fused = network.neck(network.backbone(network._normalize(search)).layer3, kernel)
        if f"{name}_fused" in expected:
            close(fused, expected[f"{name}_fused"], 5e-4)
        else:
            with np.load(shared / "golden" / "ar34_cm.npz") as arrays:
                close(fused, arrays["fused"], 5e-4)

    @torch.no_grad()
    def test_score_maps(self, variant, expected, shared) -> None:
        name, network, _, prediction = variant
        scores = prediction.corners.scores
        with np.load(shared / "golden" / "ar34_cm.npz") as arrays:
            fused = torch.from_numpy(arrays["fused"])
        if name == "ex":
            close(scores, expected["ex_indication"], 5e-4)
            close(network.corner_head.tower(fused)[:, 4:], expected["ex_offset"], 5e-4)
        elif name == "rpn":
            close(scores, expected["rpn_conf"], 5e-4)
            close(network.corner_head.boxes(fused), expected["rpn_boxes"], 5e-4)
        elif name == "corner256":
            close(scores[:, 0, ::4, ::4], expected["corner256_score_tl_sub4"], 5e-4)
            close(scores[:, 1, ::4, ::4], expected["corner256_score_br_sub4"], 5e-4)
        else:
            assert scores.shape == (3, 2, 16, 16)

    def test_kernels_and_correlations(self, variant, expected, shared) -> None:
        name, network, kernel, _ = variant
        if name not in ("naive", "dw256"):
            assert kernel.shape == (3, 256, 8, 8)
            return
        close(kernel[:, ::4], expected["prroi_kernel_sub4"], 5e-4)
        with torch.no_grad():
            search = network.backbone(network._normalize(golden_pairs(shared / "golden")[1])).layer3
        if name == "naive":
            np.testing.assert_allclose(naive_correlation(search, kernel), expected["naive_corr9"], rtol=1e-4)
        else:
            close(depthwise_correlation(search, kernel)[:, ::8], expected["dw_corr9_sub8"], 0.1)

    def test_simple_mask_head(self, expected, shared) -> None:
        head = build_mask_head("simple", 64, (64, 64, 128)).eval()
        state = from_original_names(weights(shared, "simplemask"), NetworkConfig(mask_head="simple"))
        head.load_state_dict({k.removeprefix("mask_head."): v for k, v in state.items() if k.startswith("mask_head.")})
        with torch.no_grad():
            logits = head.enlarge(head(torch.from_numpy(expected["att_fused"]), None), (256, 256))
        close(logits.sigmoid()[:, ::4, ::4], expected["simplemask_mask_sub4"], 1e-3)

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [("bbox", "box_relu"), ("bbox_anchor", "box"), ("rcnn", "box_conv"), ("rcnn2", "box_conv_narrow")],
    )
    def test_box_heads(self, expected, shared, theirs, ours) -> None:
        head = BoxHead(64, Grid(256), ours).eval()
        state = from_original_names(weights(shared, theirs), NetworkConfig(corner_head=ours))
        head.load_state_dict({k.removeprefix("corner_head."): v for k, v in state.items()})
        fused = 0.05 * torch.from_numpy(expected["att_fused"])
        with torch.no_grad():
            close(head.deltas(fused), expected[f"{theirs}_delta"], 5e-4)
            found = head(fused)
        if theirs == "bbox_anchor":
            x, y, w, h = expected["bbox_anchor_decoded_xywh"].T
            close(found.crop_xyxy, np.stack([x, y, x + w, y + h], axis=1), 2e-2)
        assert found.peak.tolist() == [1, 1, 1]


def test_three_convolutions_added_to_their_input() -> None:
    torch.manual_seed(0)
    block = ResidualConvolutions(8).eval()
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(values, 0.5, 1.5)
    x = torch.randn(2, 8, 5, 5)
    first, norm1, _, second, norm2, _, third, norm3 = block.layers
    expected = norm3(third(norm2(second(norm1(first(x)).clamp(min=0))).clamp(min=0)))
    torch.testing.assert_close(block(x) - x, expected, rtol=0, atol=1e-5)
    assert (expected < 0).any(), "no ReLU at the end"


@pytest.mark.parametrize(
    "parts",
    [*VARIANTS.values(), {"corner_head": "box"}, {"mask_head": "simple"}, {"spatial_attention": "convolutions"}],
    ids=str,
)
def test_every_part_runs_in_double_precision(parts: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = AlphaRefineNet(NetworkConfig("mobilenet_v3_small", **parts)).eval()
    template, search = torch.randint(0, 256, (2, 1, 3, 256, 256), dtype=torch.uint8)
    found = []
    with torch.no_grad():
        for dtype in (torch.float32, torch.float64):
            network.to(dtype)
            (crop_xyxy, _), logits, _ = network(search, network.encode_template(template))
            assert (crop_xyxy.dtype, logits.dtype) == (dtype, dtype)
            found.append((crop_xyxy.double(), logits.double()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-2)
    assert not torch.equal(found[0][0], found[1][0]), "rounded to float32 on the way"


# ---- training ------------------------------------------------------------------------------------------------------

EXHAUSTIVE: list[dict[str, Any]] = [
    {"heads": ["corner"]},
    {"heads": ["mask"]},
    *({"neck": neck} for neck in ("pixel_gate_first", "naive", "depthwise")),
    *({"corner_head": head} for head in get_args(CornerHeadName) if head != "towers"),
    {"mask_head": "simple"},
    *({"spatial_attention": attention} for attention in ("non_local", "convolutions")),
    *({"backbone": name} for name in get_args(BackboneName) if name not in ("resnet34", "mobilenet_v3_small")),
    {"geometry": "original"},
]
"""Variants that only `make exhaustive` trains; every run of the tests trains the smallest backbone."""


@pytest.mark.parametrize(
    "parts",
    [{"backbone": "mobilenet_v3_small"}, *(pytest.param(each, marks=pytest.mark.exhaustive) for each in EXHAUSTIVE)],
    ids=lambda parts: "-".join(f"{k}={v}" for k, v in parts.items()),
)
def test_a_variant_trains_and_evaluates(
    parts: dict[str, Any], data_root: Path, lasot_root: Path, tmp_path: Path
) -> None:
    options = {
        "config": Path(__file__).parents[1] / "conf" / "small.yaml",
        "output_dir": tmp_path,
        "name": "variant",
        "data.root": data_root,
        "data.pairs_per_epoch": 40,
        "data.val_pairs": 2,
        "data.batch_size": 2,
        "trainer.max_epochs": 1,
        "model.corner_loss": "l1_giou",
        "model.mask_weight": 1,
        **{f"model.{name}": value for name, value in parts.items()},
    }
    if str(parts.get("corner_head")).startswith("box_conv"):  # a batch norm over one cell a sample, and an exponential
        options |= {"data.batch_size": 4, "data.pairs_per_epoch": 80, "model.lr": 2e-4}
    if parts.get("heads") == ["mask"]:  # every pair with a mask
        options["data.train"] = {"coco": {"kind": "coco", "path": "coco"}}
    train.main([f"--{name}={value}" for name, value in options.items()])
    with (tmp_path / "variant/logs/version_0/metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 20
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:3])
    checkpoint = tmp_path / "variant/checkpoints/last.ckpt"
    network = load_checkpoint(checkpoint).network
    assert network.config == NetworkConfig(**{"backbone": "resnet18"} | parts)
    name = (lasot_root / "testing_set.txt").read_text().split()[0]
    command = {
        "tracker": "oracle",
        "ckpt": checkpoint,
        "data_root": lasot_root,
        "output_dir": tmp_path,
        "sequences": name,
    }
    evaluate.main([f"--{name}={value}" for name, value in command.items()])
    assert np.isfinite(read_rows(tmp_path / "oracle" / "refined" / f"{name}.txt")).all()
