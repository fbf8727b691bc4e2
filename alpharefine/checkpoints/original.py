"""Checkpoints of the authors' code: detection of the network, and its weights under the names of `AlphaRefineNet`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from textwrap import shorten
from typing import Any, NamedTuple

from torch import Tensor

from alpharefine.checkpoints.files import ForeignObject
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet, BackboneName, CornerHeadName, HeadName, NetworkConfig
from alpharefine.models.backbone import unused_names
from alpharefine.models.config import SLIDING_NECKS

_DEFAULT = NetworkConfig(geometry="original")

_RECIPES: dict[str, dict[str, Any]] = {
    "SEcm_r34": {},
    "SEcm_r34_ARmask": {},
    "SEcm_r34_debug": {},
    "SEc_r34": {"heads": ("corner",)},
    "SEc_r34_got10k": {"heads": ("corner",)},
    "SEm_r34": {"heads": ("mask",)},
    "SEcm_r34_Att": {"neck": "pixel_gate_first"},
    "SEcm_r34_naive": {"neck": "naive", "spatial_attention": "non_local"},
    "SEcm_r34_dwcorr": {"neck": "depthwise", "spatial_attention": "non_local"},
    "SEex_r34": {"corner_head": "extreme"},
    "SErpnm_r34": {"corner_head": "rpn"},
}
"""Differences from the default network, by the module of the constructor."""

_INDISTINCT = {"neck": ("pixel", "pixel_gate_first"), "corner_head": ("towers", "towers_256")}
"""Values whose parameters have the same names and shapes."""

_TEXT_LENGTH = 80

_ATTENTION = "neck.spatial_attention."

_ATTENTIONS = {
    "none": {},
    "non_local": {"theta.": "query.", "phi.0.": "key.", "g.0.": "value.", "W.": "project."},
    "convolutions": {f"{i}.": f"layers.{i}." for i in (0, 1, 3, 4, 6, 7)},
}
"""Prefixes of parameters of each spatial attention: the original's and ours."""


class OriginalNetwork(NamedTuple):
    """Network of a checkpoint of the authors' code.

    Attributes:
        network: Network with the weights, on the CPU, in evaluation mode.
        description: Network type, epoch and constructor recorded in the file.
        assumptions: Values assumed for properties that the file does not determine, by the options that override them.
    """

    network: AlphaRefineNet
    description: str
    assumptions: dict[str, str]


def is_original(content: Mapping[Any, Any], state: Mapping[str, Tensor]) -> bool:
    """Return True if a checkpoint was written by the authors' code, or has the names of its parameters.

    Args:
        content: Content of the checkpoint.
        state: State dict in it.
    """
    is_whole = {"net", "constructor", "net_type"} <= set(content)
    return is_whole or any(name.startswith("feature_extractor.") for name in state)


def build_original(content: Mapping[Any, Any], state: Mapping[str, Tensor], place: str) -> OriginalNetwork:
    """Build the network of a checkpoint of the authors' code, in the geometry ``original``.

    Args:
        content: Content of the checkpoint. Without a constructor, the parameters alone determine the network.
        state: State dict in it.
        place: Option and path of the file, for messages.

    Raises:
        UserError: If the constructor contradicts the parameters, or a parameter is missing or unknown.
    """
    constructor = _constructor(content.get("constructor"))
    config = _config_of(state, place)
    is_known = constructor.module in _RECIPES
    if is_known:
        config = _as_recorded(config, constructor, place)
    elif constructor.backbone not in (None, config.backbone):
        raise UserError(_contradiction(constructor, "backbone", constructor.backbone, config.backbone, place))
    network = AlphaRefineNet(config)
    renamed = from_original_names(state, config, place)
    try:
        network.load_state_dict(renamed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{place}: its parameters do not fit the network that it describes ({reason}); download the file again."
        ) from error
    source = f"constructor {constructor}" if is_known else f"parameter names (unknown constructor {constructor})"
    if "constructor" not in content:
        source = "parameter names"
    recorded = (_text(content.get("net_type", "state dict")), f"epoch {_text(content.get('epoch'))}")
    return OriginalNetwork(
        network.eval(), f"{', '.join(recorded)}, network from its {source}", _assumptions(config, is_known)
    )


class _Constructor(NamedTuple):
    """Record of the function that built the network.

    Attributes:
        module: Last part of the name of its module.
        function: Name of the function.
        non_local: Value of its argument for a non-local block; None if it was not given.
    """

    module: str
    function: str
    non_local: bool | None

    @property
    def backbone(self) -> BackboneName | None:
        """Backbone in the name of the function, or else of the module."""
        depths: dict[str, BackboneName] = {"18": "resnet18", "34": "resnet34", "50": "resnet50"}
        for name in (self.function, self.module):
            depth = re.search(r"(?:resnet|_r)(18|34|50)(?![0-9])", name)
            if depth is not None:
                return depths[depth[1]]
        return None

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"


def _constructor(record: object) -> _Constructor:
    attributes = vars(record) if isinstance(record, ForeignObject) else {}
    kwds = attributes.get("kwds")
    non_local = kwds.get("use_NL") if isinstance(kwds, dict) else None
    return _Constructor(
        _text(attributes.get("fun_module")).rpartition(".")[2],
        _text(attributes.get("fun_name")),
        non_local if isinstance(non_local, bool) else None,
    )


def _as_recorded(config: NetworkConfig, constructor: _Constructor, place: str) -> NetworkConfig:
    """Complete the configuration of the parameters with that of the constructor, which must agree."""
    expected = replace(_DEFAULT, backbone=constructor.backbone or _DEFAULT.backbone, **_RECIPES[constructor.module])
    if constructor.non_local is not None:
        # A neck built without a non-local block may still end in convolutions.
        other = "none" if config.spatial_attention == "non_local" else config.spatial_attention
        expected = replace(expected, spatial_attention="non_local" if constructor.non_local else other)
    for name, alike in _INDISTINCT.items():
        recorded: Any = getattr(expected, name)
        if {getattr(config, name), recorded} <= {*alike}:
            config = replace(config, **{name: recorded})
    for name in ("backbone", "heads", "neck", "spatial_attention", *(f"{head}_head" for head in expected.heads)):
        recorded, found = getattr(expected, name), getattr(config, name)
        if recorded != found:
            raise UserError(_contradiction(constructor, name, recorded, found, place))
    return config


def _contradiction(constructor: _Constructor, name: str, recorded: object, found: object, place: str) -> str:
    return (
        f"{place}: its constructor {constructor} builds a network with {name} {recorded!r}, but its parameters belong "
        f"to one with {found!r}: some are missing or added; download the file again."
    )


def _assumptions(config: NetworkConfig, is_known: bool) -> dict[str, str]:
    """Return what neither the constructor nor the parameters determine."""
    assumptions = {}
    if not is_known:
        assumptions = {
            name: f"assuming {name}={assumed} (`export --{name} {other}` overrides it)"
            for name, (assumed, other) in _INDISTINCT.items()
            if getattr(config, name) == assumed and (name != "corner_head" or "corner" in config.heads)
        }
    if config.neck == "pixel" and config.spatial_attention != "none":
        assumptions["template"] = "assuming a template cut from the feature map (older code pooled it from its box)"
    return assumptions


def _text(value: object) -> str:
    """Return a value recorded in a file as a short text of one line."""
    return shorten(str(value), _TEXT_LENGTH)


def _config_of(state: Mapping[str, Tensor], place: str) -> NetworkConfig:
    """Infer the configuration from names and shapes of the parameters."""

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in state)

    config = replace(_DEFAULT, backbone=_backbone(has), spatial_attention="none")
    if has("neck.adjust_layer."):
        is_naive = _channels(state, "neck.adjust_layer.0.weight", 1) == 1
        config = replace(config, neck="naive" if is_naive else "depthwise")
    if has(_ATTENTION):
        config = replace(config, spatial_attention="convolutions" if has(f"{_ATTENTION}0.") else "non_local")
    heads: list[HeadName] = []
    if has("corner_head.") or has("bbox_head."):
        heads.append("corner")
        config = replace(config, corner_head=_corner_head(has, state))
    if has("mask_head."):
        heads.append("mask")
        config = replace(config, mask_head="simple" if has("mask_head.conv1.") else "pyramid")
    if not heads:
        raise UserError(f"{place}: it holds no head (corner_head, mask_head); download the file again.")
    return replace(config, heads=tuple(heads))


def _channels(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    """Length of an axis of a parameter; 0 if it is missing, which is reported when the weights are loaded."""
    weight = state.get(name)
    return weight.shape[axis] if weight is not None and weight.ndim > axis else 0


def _backbone(has: Callable[[str], bool]) -> BackboneName:
    if has("feature_extractor.layer1.0.conv3."):
        return "resnet50"
    return "resnet34" if has("feature_extractor.layer1.2.") else "resnet18"


def _corner_head(has: Callable[[str], bool], state: Mapping[str, Tensor]) -> CornerHeadName:
    if has("bbox_head."):
        if has("bbox_head.avgpool."):
            return "box_conv" if _channels(state, "bbox_head.conv1.0.weight", 0) == 512 else "box_conv_narrow"
        return "box_relu" if has("bbox_head.fc.0.") else "box"
    if has("corner_head.conv1_conf."):
        return "rpn"
    if has("corner_head.conv1."):
        return "extreme"
    return "towers" if has("corner_head.conv1_br.") else "shared_tower"


def from_original_names(
    state: Mapping[str, Tensor], config: NetworkConfig = _DEFAULT, place: str = "The checkpoint"
) -> dict[str, Tensor]:
    """Rename parameters of the authors' code to those of `AlphaRefineNet`.

    Parameters that the authors' code never uses are dropped.

    Args:
        state: Tensors by the original's names.
        config: Configuration of the network; AR34 by default.
        place: Option and path of the file, for messages.

    Raises:
        UserError: If a name does not belong to such a network.
    """
    prefixes, unused = dict(_prefixes(config)), _unused_names(config)
    renamed = {}
    for name, value in state.items():
        if name in unused:
            continue
        prefix = next((p for p in prefixes if name.startswith(p)), None)
        if prefix is None:
            raise UserError(f"{place}: `{name}` is not a parameter of its network; download the file again.")
        ours = f"{prefixes[prefix]}{name.removeprefix(prefix)}"
        if ours in renamed:
            raise UserError(f"{place}: `{name}` is present under two names; download the file again.")
        renamed[ours] = value
    return renamed


def _has_pyramid(config: NetworkConfig) -> bool:
    return "mask" in config.heads and config.mask_head == "pyramid"


def _unused_names(config: NetworkConfig) -> set[str]:
    """The original's names of parameters that such a network has and never uses."""
    names = {f"feature_extractor.{name}" for name in unused_names(config.backbone)}
    if not _has_pyramid(config):
        of_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        of_layer = ("0.weight", "0.bias", *(f"1.{name}" for name in of_norm))
        names |= {f"feat_adjust.{i}.{name}" for i in range(3) for name in of_layer}
    return names


def _prefixes(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    """Prefixes of the original's names, and ours."""
    yield "feature_extractor.", "backbone."
    yield "neck.post_corr.", "neck.post_correlation."
    yield "neck.channel_attention.fc1.", "neck.gate.squeeze."
    yield "neck.channel_attention.fc2.", "neck.gate.excite."
    if config.neck in SLIDING_NECKS:
        yield "neck.adjust_layer.", "neck.adjust."
    for theirs, ours in _ATTENTIONS[config.spatial_attention].items():
        yield f"{_ATTENTION}{theirs}", f"neck.attention.{ours}"
    if "corner" in config.heads:
        yield from _corner_prefixes(config.corner_head)
    if _has_pyramid(config):
        for i, stage in enumerate(("conv1", "layer1", "layer2")):
            yield f"feat_adjust.{i}.", f"mask_head.adjust_{stage}."
        for i in range(3):
            yield f"mask_head.v{i}.", f"mask_head.side{i}."
            yield f"mask_head.h{i}.", f"mask_head.top{i}."
            # The original counts the merging layers from the top of the pyramid, we count by the level of their output.
            yield f"mask_head.post{i}.", f"mask_head.merge{2 - i}."
    else:
        yield "mask_head.conv4.0.", "mask_head.layers.3."
        for i in range(3):
            yield f"mask_head.conv{i + 1}.", f"mask_head.layers.{i}."


def _corner_prefixes(name: CornerHeadName) -> Iterator[tuple[str, str]]:
    if name.startswith("box"):
        yield "bbox_head.fc.0.", "corner_head.linear."
        yield "bbox_head.fc.", "corner_head.linear."
        yield "bbox_head.avgpool.", "corner_head.pool."
        for i in range(4):
            yield f"bbox_head.conv{i + 1}.", f"corner_head.layers.{i}."
    elif name == "shared_tower":
        yield "corner_head.conv5_tl.", "corner_head.top_left."
        yield "corner_head.conv5_br.", "corner_head.bottom_right."
        for i in range(4):
            yield f"corner_head.conv{i + 1}_tl.", f"corner_head.tower.{i}."
    else:
        towers = {
            "extreme": {"": "tower"},
            "rpn": {"_box": "boxes", "_conf": "confidence"},
            "towers": {"_tl": "top_left", "_br": "bottom_right"},
            "towers_256": {"_tl": "top_left", "_br": "bottom_right"},
        }
        for suffix, tower in towers[name].items():
            for i in range(5):
                yield f"corner_head.conv{i + 1}{suffix}.", f"corner_head.{tower}.{i}."
