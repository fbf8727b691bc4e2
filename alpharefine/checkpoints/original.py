"""The checkpoints of the authors' code: which network they hold, and its weights under our names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from alpharefine.checkpoints.files import Record
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet

_RECIPES: dict[str, dict[str, object]] = {
    "SEcm_r34": {},
    "SEcm_r34_ARmask": {},
    "SEcm_r34_debug": {},
    "SEc_r34": {"heads": ("corner",)},
    "SEc_r34_got10k": {"heads": ("corner",)},
    "SEm_r34": {"heads": ("mask",)},
    "SEcm_r34_Att": {"neck": "pixel_gate_first"},
    "SEcm_r34_naive": {"neck": "naive"},
    "SEcm_r34_dwcorr": {"neck": "depthwise"},
    "SEex_r34": {"corner_head": "extreme"},
    "SErpnm_r34": {"corner_head": "rpn"},
}
"""What the modules of the constructors that are known build, beside the default."""

_DEFAULT: dict[str, object] = {
    "heads": ("corner", "mask"),
    "neck": "pixel",
    "corner_head": "towers",
    "mask_head": "pyramid",
}

_NEVER_RUN = ("feature_extractor.layer4.", "feature_extractor.fc.")


class OriginalNetwork(NamedTuple):
    """A network of the authors' code.

    Attributes:
        network: with the weights, on the CPU.
        description: what the file says it is.
    """

    network: AlphaRefineNet
    description: str


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
    module, function = _constructor(content["constructor"])
    parts = _parts_of(state, place)
    recipe = _RECIPES.get(module)
    if recipe is not None:
        expected = _DEFAULT | recipe
        if parts["neck"] == "pixel" and expected["neck"] == "pixel_gate_first":  # no name tells the two apart
            parts["neck"] = "pixel_gate_first"
        wrong = [name for name in _relevant(expected) if parts.get(name) != expected[name]]
        if wrong:
            raise UserError(
                f"{place}: its constructor {module} builds a network with {wrong[0]} {expected[wrong[0]]!r}, its "
                f"parameters are of one with {parts.get(wrong[0])!r}: some are missing or added; fetch the file again."
            )
    network = AlphaRefineNet(geometry="original", **parts)  # type: ignore[arg-type]
    renamed = from_original_names(state, parts, place)
    try:
        network.load_state_dict(renamed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{place}: its parameters are not those of the network that it names ({reason}).") from error
    told_by = "constructor" if recipe is not None else "parameters' names, as of an unknown constructor"
    description = f"{content['net_type']}, epoch {content.get('epoch')}, told by its {told_by} {module}:{function}"
    return OriginalNetwork(network.eval(), description)


def _relevant(parts: Mapping[str, object]) -> list[str]:
    heads = parts["heads"]
    assert isinstance(heads, tuple)
    return ["heads", "neck", *(f"{head}_head" for head in heads)]


def _constructor(record: object) -> tuple[str, str]:
    """Last part of the module's name, and the function's name."""
    attributes = vars(record) if isinstance(record, Record) else {}
    return str(attributes.get("fun_module")).rpartition(".")[2], str(attributes.get("fun_name"))


def _parts_of(state: Mapping[str, Tensor], place: str) -> dict[str, object]:
    """The parts of a network, as far as the names and shapes of its parameters tell them."""

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in state)

    if has("neck.spatial_attention.0."):
        raise UserError(
            f"{place}: its neck ends in three 1x1 convolutions (neck.spatial_attention.0), a form that the authors' "
            "recipes do not have and that is not known here."
        )
    slides = has("neck.adjust_layer.")
    if has("neck.spatial_attention.") and not slides:
        raise UserError(
            f"{place}: its pixel-wise correlation ends in a non-local block (neck.spatial_attention.theta), a form "
            "that the authors' recipes do not have and that is not known here."
        )
    parts: dict[str, object] = {"backbone": _backbone(has), "neck": "pixel"}
    if slides:
        parts["neck"] = "naive" if _channels(state, "neck.adjust_layer.0.weight", 1) == 1 else "depthwise"
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
        parts: of the network, as its arguments.
        place: of the file, for messages.

    Raises:
        UserError: if a name is not one of such a network.
    """
    table = dict(_prefixes(parts))
    renamed = {}
    for name, value in state.items():
        prefix = next((p for p in table if name.startswith(p)), None)
        if prefix is None:
            raise UserError(f"{place}: `{name}` is no parameter of the network that it holds; fetch the file again.")
        if table[prefix] is not None:
            ours = f"{table[prefix]}{name.removeprefix(prefix)}"
            if ours in renamed:
                raise UserError(f"{place}: `{name}` stands there under another name too; fetch the file again.")
            renamed[ours] = value
    return renamed


def _prefixes(parts: Mapping[str, object]) -> Iterator[tuple[str, str | None]]:
    """Beginnings of the original's names with ours, None for what is not run."""
    yield from ((name, None) for name in _NEVER_RUN)
    yield "feature_extractor.", "backbone."
    yield "neck.post_corr.", "neck.post_correlation."
    yield "neck.channel_attention.fc1.", "neck.gate.squeeze."
    yield "neck.channel_attention.fc2.", "neck.gate.excite."
    if parts["neck"] in ("naive", "depthwise"):
        yield "neck.adjust_layer.", "neck.adjust."
        for theirs, ours in (("theta", "query"), ("phi.0", "key"), ("g.0", "value"), ("W", "project")):
            yield f"neck.spatial_attention.{theirs}.", f"neck.non_local.{ours}."
    if "corner" in parts["heads"]:  # type: ignore[operator]
        yield from _corner_prefixes(str(parts["corner_head"]))
    has_pyramid = "mask" in parts["heads"] and parts["mask_head"] == "pyramid"  # type: ignore[operator]
    for i, tap in enumerate(("conv1", "layer1", "layer2")):
        yield f"feat_adjust.{i}.", f"mask_head.adjust_{tap}." if has_pyramid else None
    if has_pyramid:
        for i in range(3):
            yield f"mask_head.v{i}.", f"mask_head.side{i}."
            yield f"mask_head.h{i}.", f"mask_head.top{i}."
            # The original counts the merging layers from the top of the pyramid, we count by the level they write to.
            yield f"mask_head.post{i}.", f"mask_head.merge{2 - i}."
    else:
        yield "mask_head.conv4.0.", "mask_head.layers.3."
        for i in range(3):
            yield f"mask_head.conv{i + 1}.", f"mask_head.layers.{i}."


def _corner_prefixes(name: str) -> Iterator[tuple[str, str | None]]:
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
