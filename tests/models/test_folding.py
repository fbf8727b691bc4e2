"""Folded batch norms: the same predictions from every kind of layer."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from alpharefine.models import AlphaRefineNet, BackboneName, NetworkConfig
from alpharefine.models.folding import fold_batch_norms

VARIANTS: list[dict[str, Any]] = [
    *({"backbone": name} for name in get_args(BackboneName)),
    {"quality_head": "convolutions", "spatial_attention": "non_local"},
    {"corner_head": "shared_tower", "mask_head": "simple", "spatial_attention": "convolutions"},
    {"corner_head": "box_conv_narrow", "neck": "depthwise"},
]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options.values()))
def test_predictions_stay(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = AlphaRefineNet(NetworkConfig(**{"backbone": "resnet18", **options})).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.1)
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
    crops = torch.randint(0, 256, (1, 3, 256, 256))
    with torch.inference_mode():
        kernel = network.encode_template(crops)
        expected = network(crops, kernel)
        fold_batch_norms(network)
        torch.testing.assert_close(network.encode_template(crops), kernel)
        torch.testing.assert_close(network(crops, kernel), expected, atol=1e-7, rtol=1e-7)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
