"""Configuration of the network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alpharefine.models import AlphaRefineNet, NetworkConfig


def test_values_survive_json() -> None:
    config = NetworkConfig("resnet18", ("mask",), neck="naive", geometry="original")
    assert NetworkConfig.from_mapping(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_values_have_their_defaults() -> None:
    assert NetworkConfig.from_mapping({"backbone": "resnet18"}) == NetworkConfig("resnet18")


def test_heads_are_sorted_and_need_not_be_a_tuple() -> None:
    assert NetworkConfig(heads=["mask", "corner"]) == NetworkConfig()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("neck", "given", "resolved"),
    [
        ("pixel", "auto", "none"),
        ("naive", "auto", "non_local"),
        ("depthwise", "auto", "non_local"),
        ("depthwise", "none", "none"),
        ("pixel", "convolutions", "convolutions"),
    ],
)
def test_spatial_attention_is_resolved(neck: Any, given: Any, resolved: str) -> None:
    assert NetworkConfig(neck=neck, spatial_attention=given).spatial_attention == resolved


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "resnet101"}, "`backbone` must be one of resnet18, .*, got 'resnet101'; choose"),
        ({"neck": ["pixel"]}, r"`neck` must be one of pixel, .*, got \['pixel'\]"),
        ({"corner_head": None}, "`corner_head` must be one of towers, .*, got None"),
        ({"mask_head": "deep"}, "`mask_head` must be one of pyramid, simple, got 'deep'"),
        ({"quality_head": "deep"}, "`quality_head` must be one of none, convolutions, got 'deep'"),
        ({"quality_head": "convolutions", "heads": ("mask",)}, "`quality_head` requires the head 'corner'"),
        ({"geometry": "round"}, "`geometry` must be one of exact, .*, got 'round'"),
        ({"spatial_attention": 1}, "`spatial_attention` must be one of auto, .*, got 1"),
        ({"heads": ()}, r"`heads` must name 'corner', 'mask' or both, got \(\)"),
        ({"heads": "corner"}, "`heads` must name 'corner', 'mask' or both, got 'corner'"),
        ({"heads": ("corner", "box")}, "`heads` must name 'corner', 'mask' or both, got .*'box'"),
        ({"bakbone": "resnet18"}, "Unknown network options bakbone; the known ones are backbone, heads, neck"),
    ],
    ids=str,
)
def test_unknown_values_are_errors(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig.from_mapping(values)


def test_the_network_keeps_its_configuration() -> None:
    config = NetworkConfig("mobilenet_v3_small", ("corner",), geometry="original")
    network = AlphaRefineNet(config)
    assert network.config is config
    assert (network.heads, network.geometry) == (("corner",), "original")
    assert network.mask_head is None
    assert not network.corner_head.grid.reaches_end  # type: ignore[union-attr]
