"""The checkpoints of the authors' code: which network they hold, and its weights under our names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from alpharefine.checkpoints.files import Record
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet
from alpharefine.models.backbone import unused_names

_DEFAULT: dict[str, object] = {
    "backbone": "resnet34",
    "heads": ("corner", "mask"),
    "neck": "pixel",
    "spatial_attention": "none",
    "corner_head": "towers",
    "mask_head": "pyramid",
}

_RECIPES: dict[str, dict[str, object]] = {
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
"""What the modules of the constructors that are known build, beside the default."""

_INDISTINCT = {"neck": ("pixel", "pixel_gate_first"), "corner_head": ("towers", "towers_256")}
"""Parts whose parameters have the same names and shapes."""

_ATTENTION = "neck.spatial_attention."

_ATTENTIONS = {
    "none": {},
    "non_local": {"theta.": "query.", "phi.0.": "key.", "g.0.": "value.", "W.": "project."},
    "convolutions": {f"{i}.": f"layers.{i}." for i in (0, 1, 3, 4, 6, 7)},
}
"""What may end the neck: the original's names and ours."""


class OriginalNetwork(NamedTuple):
    """A network of the authors' code.

    Attributes:
        network: with the weights, on the CPU.
        description: what the file says it is.
        doubts: what the file does not tell, and what was taken for it; empty if it tells everything.
    """

    network: AlphaRefineNet
    description: str
    doubts: str


def is_original(content: Mapping[Any, Any]) -> bool:
    """Whether what a checkpoint file holds was written by the authors' code."""
    return {"net", "constructor", "net_type"} <= set(content)


def build_original(content: Mapping[Any, Any], place: str) -> OriginalNetwork:
    """Build the network of a checkpoint of the authors' code, in the geometry ``original``.

    Args:
        content: the unpickled file.
        place: of the file, for messages.

    Raises:
        UserError: if the constructor and the parameters' names disagree, or a parameter is missing or unknown.
    """
    net = content["net"]
    state = dict.copy(net) if isinstance(net, dict) else {}  # not by a method that the file may have replaced
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in dict.items(state)):
        raise UserError(f"{place}: `net` must hold named tensors and nothing else; fetch the file again.")
    constructor = _constructor(content["constructor"])
    parts = _parts_of(state, place)
    is_known = constructor.module in _RECIPES
    if is_known:
        parts = _as_recorded(parts, constructor, place)
    elif constructor.backbone not in (None, parts["backbone"]):
        raise UserError(_contradiction(constructor, "backbone", constructor.backbone, parts, place))
    network = AlphaRefineNet(geometry="original", **parts)  # type: ignore[arg-type]
    renamed = from_original_names(state, parts, place)
    try:
        network.load_state_dict(renamed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{place}: its parameters are not those of the network that it names ({reason}).") from error
    told_by = "constructor" if is_known else "parameters' names, as of an unknown constructor"
    description = f"{content['net_type']}, epoch {content.get('epoch')}, told by its {told_by} {constructor}"
    return OriginalNetwork(network.eval(), description, _doubts(parts, is_known))


class _Constructor(NamedTuple):
    """What a file records of the function that built its network.

    Attributes:
        module: last part of its module's name.
        function: its name.
        non_local: whether it was told to build a non-local block; None if it was not told.
    """

    module: str
    function: str
    non_local: bool | None

    @property
    def backbone(self) -> str | None:
        """The backbone that the function's name tells, or else the module's."""
        for name in (self.function, self.module):
            depth = re.search(r"(?:resnet|_r)(18|34|50)(?![0-9])", name)
            if depth is not None:
                return f"resnet{depth[1]}"
        return None

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"


def _constructor(record: object) -> _Constructor:
    attributes = vars(record) if isinstance(record, Record) else {}
    kwds = attributes.get("kwds")
    non_local = kwds.get("use_NL") if isinstance(kwds, dict) else None
    return _Constructor(
        str(attributes.get("fun_module")).rpartition(".")[2],
        str(attributes.get("fun_name")),
        non_local if isinstance(non_local, bool) else None,
    )


def _as_recorded(parts: dict[str, object], constructor: _Constructor, place: str) -> dict[str, object]:
    """The parts that the parameters tell, with what only the constructor tells; the two must agree."""
    expected = _DEFAULT | {"backbone": constructor.backbone} | _RECIPES[constructor.module]
    if constructor.non_local is not None:
        expected["spatial_attention"] = "non_local" if constructor.non_local else _without_non_local(parts)
    parts = parts | {
        name: expected[name] for name, alike in _INDISTINCT.items() if {parts.get(name), expected[name]} <= {*alike}
    }
    heads = expected["heads"]
    assert isinstance(heads, tuple)
    for name in ("backbone", "heads", "neck", "spatial_attention", *(f"{head}_head" for head in heads)):
        if parts.get(name) != expected[name]:
            raise UserError(_contradiction(constructor, name, expected[name], parts, place))
    return parts


def _without_non_local(parts: Mapping[str, object]) -> object:
    """What ends a neck that was built without a non-local block: what its parameters tell, if that is another thing."""
    return "none" if parts["spatial_attention"] == "non_local" else parts["spatial_attention"]


def _contradiction(
    constructor: _Constructor, name: str, expected: object, parts: Mapping[str, object], place: str
) -> str:
    return (
        f"{place}: its constructor {constructor} builds a network with {name} {expected!r}, its parameters are of one "
        f"with {parts.get(name)!r}: some are missing or added; fetch the file again."
    )


def _doubts(parts: Mapping[str, object], is_known: bool) -> str:
    """What neither the constructor nor the parameters' names tell."""
    doubts = []
    if not is_known:
        doubts = [
            f"whether its {name} is {taken}, as assumed, or {other} (`convert` takes `--{name} {other}`)"
            for name, (taken, other) in _INDISTINCT.items()
            if parts.get(name) == taken
        ]
    if parts["neck"] == "pixel" and parts["spatial_attention"] != "none":
        doubts.append("whether its template is cut from the map, as assumed, or pooled from its box, as in older code")
    return f"The file does not tell {', nor '.join(doubts)}." if doubts else ""


def _parts_of(state: Mapping[str, Tensor], place: str) -> dict[str, object]:
    """The parts of a network, as far as the names and shapes of its parameters tell them."""

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in state)

    parts: dict[str, object] = {"backbone": _backbone(has), "neck": "pixel"}
    if has("neck.adjust_layer."):
        parts["neck"] = "naive" if _channels(state, "neck.adjust_layer.0.weight", 1) == 1 else "depthwise"
    parts["spatial_attention"] = "none"
    if has(_ATTENTION):
        parts["spatial_attention"] = "convolutions" if has(f"{_ATTENTION}0.") else "non_local"
    heads = []
    if has("corner_head.") or has("bbox_head."):
        heads.append("corner")
        parts["corner_head"] = _corner_head(has, state)
    if has("mask_head."):
        heads.append("mask")
        parts["mask_head"] = "simple" if has("mask_head.conv1.") else "pyramid"
    if not heads:
        raise UserError(f"{place}: it holds no head (corner_head, mask_head); fetch the file again.")
    return parts | {"heads": tuple(heads)}


def _channels(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    """Length of an axis of a parameter, 0 if it is not there; what is missing is found when the weights are loaded."""
    weight = state.get(name)
    return weight.shape[axis] if weight is not None and weight.ndim > axis else 0


def _backbone(has: Any) -> str:
    if has("feature_extractor.layer1.0.conv3."):
        return "resnet50"
    return "resnet34" if has("feature_extractor.layer1.2.") else "resnet18"


def _corner_head(has: Any, state: Mapping[str, Tensor]) -> str:
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
    state: Mapping[str, Tensor], parts: Mapping[str, object] = _DEFAULT, place: str = "The checkpoint"
) -> dict[str, Tensor]:
    """Rename parameters of the authors' code to those of `AlphaRefineNet`; what their code never runs is dropped.

    Args:
        state: tensors by the original's names.
        parts: of the network, as its arguments; those of AR34 where nothing is said.
        place: of the file, for messages.

    Raises:
        UserError: if a name is not one of such a network.
    """
    parts = _DEFAULT | dict(parts)
    table, never_run = dict(_prefixes(parts)), _never_run(parts)
    renamed = {}
    for name, value in state.items():
        if name in never_run:
            continue
        prefix = next((p for p in table if name.startswith(p)), None)
        if prefix is None:
            raise UserError(f"{place}: `{name}` is no parameter of the network that it holds; fetch the file again.")
        ours = f"{table[prefix]}{name.removeprefix(prefix)}"
        if ours in renamed:
            raise UserError(f"{place}: `{name}` stands there under another name too; fetch the file again.")
        renamed[ours] = value
    return renamed


def _has_pyramid(parts: Mapping[str, object]) -> bool:
    return "mask" in parts["heads"] and parts["mask_head"] == "pyramid"  # type: ignore[operator]


def _never_run(parts: Mapping[str, object]) -> set[str]:
    """The original's names of what such a network has and never runs."""
    names = {f"feature_extractor.{name}" for name in unused_names(parts["backbone"])}  # type: ignore[arg-type]
    if not _has_pyramid(parts):
        of_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        of_layer = ("0.weight", "0.bias", *(f"1.{name}" for name in of_norm))
        names |= {f"feat_adjust.{i}.{name}" for i in range(3) for name in of_layer}
    return names


def _prefixes(parts: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Beginnings of the original's names with ours."""
    yield "feature_extractor.", "backbone."
    yield "neck.post_corr.", "neck.post_correlation."
    yield "neck.channel_attention.fc1.", "neck.gate.squeeze."
    yield "neck.channel_attention.fc2.", "neck.gate.excite."
    if parts["neck"] in ("naive", "depthwise"):
        yield "neck.adjust_layer.", "neck.adjust."
    for theirs, ours in _ATTENTIONS[str(parts["spatial_attention"])].items():
        yield f"{_ATTENTION}{theirs}", f"neck.attention.{ours}"
    if "corner" in parts["heads"]:  # type: ignore[operator]
        yield from _corner_prefixes(str(parts["corner_head"]))
    if _has_pyramid(parts):
        for i, tap in enumerate(("conv1", "layer1", "layer2")):
            yield f"feat_adjust.{i}.", f"mask_head.adjust_{tap}."
        for i in range(3):
            yield f"mask_head.v{i}.", f"mask_head.side{i}."
            yield f"mask_head.h{i}.", f"mask_head.top{i}."
            # The original counts the merging layers from the top of the pyramid, we count by the level they write to.
            yield f"mask_head.post{i}.", f"mask_head.merge{2 - i}."
    else:
        yield "mask_head.conv4.0.", "mask_head.layers.3."
        for i in range(3):
            yield f"mask_head.conv{i + 1}.", f"mask_head.layers.{i}."


def _corner_prefixes(name: str) -> Iterator[tuple[str, str]]:
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
