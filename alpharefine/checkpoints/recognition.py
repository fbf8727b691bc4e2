"""Configuration of a network from the names and shapes of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from alpharefine.checkpoints.fit import Shapes, difference, shapes
from alpharefine.crops import CROP_SIZE
from alpharefine.errors import UserError
from alpharefine.models import HeadName, NetworkConfig, build_backbone
from alpharefine.models.config import CHOICES
from alpharefine.models.correlation import CorrelationNeck
from alpharefine.models.heads import Grid, build_corner_head, build_mask_head, build_quality_head

Channels = tuple[int, int, int, int]
"""Channels of the four feature maps of a backbone."""

_OPTIONS = {
    "backbone": ("backbone",),
    "neck": ("neck", "spatial_attention"),
    "corner_head": ("corner_head",),
    "mask_head": ("mask_head",),
    "quality_head": ("quality_head",),
}
"""Parts of a network, and the options that determine their parameters."""


class Recognized(NamedTuple):
    """Configuration of a network, and what was assumed about it.

    Attributes:
        config: Configuration of the network.
        others: Other possible values of each option that the parameters do not determine.
    """

    config: NetworkConfig
    others: dict[str, tuple[str, ...]]


def is_network(state: Mapping[str, Tensor]) -> bool:
    """Return True if a state dict has a parameter of the backbone of an `AlphaRefineNet`.

    Args:
        state: State dict.
    """
    return any(name.startswith("backbone.") for name in state)


def recognize(state: Mapping[str, Tensor], place: str) -> Recognized:
    """Return the configuration of the `AlphaRefineNet` whose parameters have the names and shapes of a state dict.

    Of options with equal parameters the first one is assumed. The geometry is not visible in the parameters; ``exact``
    is assumed.

    Args:
        state: State dict.
        place: Option and path of the file, for messages.

    Raises:
        UserError: If a part of the network is missing or unknown.
    """
    parts = _split(state, place)
    heads: list[HeadName] = [head for head in get_args(HeadName) if parts[f"{head}_head"]]
    if not heads:
        raise UserError(f"{place}: it holds no head (corner_head, mask_head); give the file of a whole network.")
    config = NetworkConfig(heads=tuple(heads))
    others = {"geometry": tuple(name for name in CHOICES["geometry"] if name != config.geometry)}
    channels: Channels = (0, 0, 0, 0)
    for part, options in _OPTIONS.items():
        if not parts[part] and part.endswith("_head"):
            continue
        first, *rest = _fitting(part, parts[part], channels, place)
        config = replace(config, **first)
        for name in options:
            others[name] = tuple({values[name]: None for values in rest if values[name] != first[name]})
        if part == "backbone":
            with torch.device("meta"):
                channels = build_backbone(config.backbone).channels
    return Recognized(config, {name: values for name, values in others.items() if values})


def _split(state: Mapping[str, Tensor], place: str) -> dict[str, Shapes]:
    """Return the shapes of the parameters of each part."""
    parts: dict[str, Shapes] = {part: {} for part in _OPTIONS}
    for name, shape in shapes(state).items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise UserError(f"{place}: `{name[:100]}` is not a parameter of a refinement network; give another file.")
        parts[part][rest] = shape
    return parts


def _fitting(part: str, found: Shapes, channels: Channels, place: str) -> list[dict[str, Any]]:
    """Return the values of the options of a part with which it has the given parameters."""
    names = _OPTIONS[part]
    fitting, closest, least = [], "", Shapes()
    for values in product(*([value for value in CHOICES[name] if value != "auto"] for name in names)):
        candidate: dict[str, Any] = dict(zip(names, values, strict=True))
        expected = _expected(part, values, channels)
        if expected == found:
            fitting.append(candidate)
        if not least or len(expected.items() ^ found.items()) < len(least.items() ^ found.items()):
            closest, least = " ".join(values), expected
    if not fitting:
        raise UserError(
            f"{place}: its parameters `{part}.` are not those of a known network, and closest to {closest} "
            f"({difference(least, found)}); give the file of a network of this version."
        )
    return fitting


@cache
def _expected(part: str, values: tuple[Any, ...], channels: Channels) -> Shapes:
    """Return the shapes of the parameters of one part of an `AlphaRefineNet` with these values of its options."""
    with torch.device("meta"):
        return shapes(_build(part, values, channels).state_dict())


def _build(part: str, values: tuple[Any, ...], channels: Channels) -> nn.Module:
    first = values[0]
    if part == "backbone":
        return build_backbone(first)
    if part == "neck":
        return CorrelationNeck(first, channels[-1], spatial_attention=values[1])
    if part == "corner_head":
        return build_corner_head(first, CorrelationNeck.out_channels, Grid(CROP_SIZE))
    if part == "quality_head":
        return build_quality_head(first, CorrelationNeck.out_channels) or nn.Identity()
    return build_mask_head(first, CorrelationNeck.out_channels, channels[:3])
