"""Folded batch norms and fused activations: the same predictions from every kind of layer."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alpharefine.models import AlphaRefineNet, BackboneName, NetworkConfig
from alpharefine.models.folding import FusedBlock, FusedConvolution, fold_batch_norms, fuse_activations

VARIANTS: list[dict[str, Any]] = [
    *({"backbone": name} for name in get_args(BackboneName)),
    {"quality_head": "convolutions", "spatial_attention": "non_local"},
    {"corner_head": "shared_tower", "mask_head": "simple", "spatial_attention": "convolutions"},
    {"corner_head": "box_conv_narrow", "neck": "depthwise"},
]


def make_network(options: dict[str, Any]) -> AlphaRefineNet:
    torch.manual_seed(0)
    network = AlphaRefineNet(NetworkConfig(**{"backbone": "resnet18", **options})).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.1)
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options.values()))
def test_predictions_stay(options: dict[str, Any]) -> None:
    network = make_network(options)
    crops = torch.randint(0, 256, (1, 3, 256, 256))
    with torch.inference_mode():
        kernel = network.encode_template(crops)
        expected = network(crops, kernel)
        fold_batch_norms(network)
        torch.testing.assert_close(network.encode_template(crops), kernel)
        torch.testing.assert_close(network(crops, kernel), expected, atol=1e-7, rtol=1e-7)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def conv_relu(x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
    """What `torch.cudnn_convolution_relu` computes."""
    return F.conv2d(x, weight, bias, *geometry).relu()


def conv_add_relu(x: Tensor, weight: Tensor, residual: Tensor, factor: float, bias: Tensor, *geometry: Any) -> Tensor:
    """What `torch.cudnn_convolution_add_relu` computes."""
    return (F.conv2d(x, weight, bias, *geometry) + factor * residual).relu()


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options.values()))
def test_fused_activations_leave_the_predictions(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)
    network = make_network(options)
    fold_batch_norms(network)
    crops = torch.randint(0, 256, (1, 3, 256, 256))
    with torch.inference_mode():
        kernel = network.encode_template(crops)
        expected = network(crops, kernel)
        fuse_activations(network)
        torch.testing.assert_close(network.encode_template(crops), kernel)
        torch.testing.assert_close(network(crops, kernel), expected, atol=1e-7, rtol=1e-7)
    fused = [module for module in network.modules() if isinstance(module, FusedConvolution)]
    assert len(fused) >= 3, "those of the neck at least"


@pytest.mark.parametrize(("backbone", "blocks", "convs"), [("resnet34", 13, 27), ("resnet50", 13, 40)])
def test_all_blocks_of_a_resnet_are_fused(backbone: BackboneName, blocks: int, convs: int) -> None:
    network = make_network({"backbone": backbone}).backbone
    fold_batch_norms(network)
    fuse_activations(network)
    assert sum(isinstance(module, FusedBlock) for module in network.modules()) == blocks
    assert sum(isinstance(module, FusedConvolution) for module in network.modules()) == convs
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cudnn_fuses_a_block(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 64, 3, stride=2, padding=1, device="cuda", dtype=dtype).requires_grad_(False)
    x = torch.randn(2, 32, 24, 24, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
    residual = torch.randn(2, 64, 12, 12, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
    fused, limits = FusedConvolution(conv), {"atol": 0.02, "rtol": 0.02}
    torch.testing.assert_close(fused(x), conv_relu(x, conv.weight, conv.bias, *geometry), **limits)
    expected = conv_add_relu(x, conv.weight, residual, 1.0, conv.bias, *geometry)
    torch.testing.assert_close(fused(x, residual), expected, **limits)
