"""Loading of a network from a checkpoint: of training, exported, of the authors' code, or a state dict alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from torch import Tensor

from alpharefine.checkpoints.exported import exported_config
from alpharefine.checkpoints.files import WeightFile, read_weight_file
from alpharefine.checkpoints.fit import require_finite
from alpharefine.checkpoints.original import build_original, is_original
from alpharefine.checkpoints.recognition import is_network, recognize
from alpharefine.checkpoints.shipped import find_checkpoint
from alpharefine.checkpoints.state_dicts import find_state, names_of
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet, CornerHeadName, NeckName, NetworkConfig
from alpharefine.options import GeometryName

_REASON_LENGTH = 200
_VALUE_LENGTH = 40


class LoadedCheckpoint(NamedTuple):
    """Content of a checkpoint.

    Attributes:
        network: Network on the CPU, in evaluation mode.
        description: Format of the file, and the training epoch if it is recorded.
        doubts: Assumptions about properties of the network that the file does not determine. Empty if there are none.
    """

    network: AlphaRefineNet
    description: str
    doubts: str = ""


def load_checkpoint(
    path: str | Path,
    geometry: GeometryName | None = None,
    neck: NeckName | None = None,
    corner_head: CornerHeadName | None = None,
    option: str = "--ckpt",
) -> LoadedCheckpoint:
    """Rebuild a network from a checkpoint. The format is detected from the content.

    Args:
        path: Name of shipped weights (``ar18_cm``), or path of a training checkpoint (.ckpt), of exported weights
            (.safetensors), of a checkpoint of the authors' code (.pth.tar, in the zip or the legacy format of
            `torch.save`), or of a file with a state dict of a network of either code.
        geometry: Crop geometry in place of the recorded one.
        neck: Neck in place of the recorded one. It must have the same parameters.
        corner_head: Corner head in place of the recorded one. It must have the same parameters.
        option: Command-line option that gave the path, for messages.

    Raises:
        UserError: If the file is missing or damaged, does not hold a refinement network, its weights do not fit the
            given neck or corner head, or a weight is not finite.
    """
    path = find_checkpoint(path, option)
    if path.suffix in (".onnx", ".pt2"):
        raise UserError(f"`{option}`: {path} is an export; give the checkpoint that it was made from.")
    place = f"`{option}`: {path}"
    network, description, assumptions = _build(read_weight_file(path, option), place)
    require_finite(network.state_dict(), place)
    given = {"geometry": geometry, "neck": neck, "corner_head": corner_head}
    given = {name: value for name, value in given.items() if value is not None}
    doubts = "; ".join(text for name, text in assumptions.items() if name not in given)
    loaded = LoadedCheckpoint(network, description, f"Ambiguous checkpoint: {doubts}." if doubts else "")
    return _with_changes(loaded, given, place)


def _build(file: WeightFile, place: str) -> tuple[AlphaRefineNet, str, dict[str, str]]:
    """Return the network in a file, a description, and the assumptions by the options that override them."""
    content = file.content
    exported = None if file.metadata is None else exported_config(file.metadata, place)
    if exported is not None:
        return _fill(exported, content, place), "exported weights", {}
    state = find_state(content, place)
    if is_original(content, state):
        network, description, assumptions = build_original(content, state, place)
        return network, f"checkpoint of the authors' code: {description}", assumptions
    hparams = content.get("hyper_parameters")
    if isinstance(hparams, Mapping) and {"backbone", "heads"} <= set(hparams):
        values = {field.name: hparams[field.name] for field in fields(NetworkConfig) if field.name in hparams}
        epoch = shorten(str(content.get("epoch")), _VALUE_LENGTH)
        return _fill(values, state, place), f"checkpoint of train.py, epoch {epoch}", {}
    if not is_network(state):
        raise UserError(
            f"{place} is not a checkpoint of a refinement network (it holds {names_of(state)}); give a file written "
            "by the training command or by the authors' code."
        )
    config, others = recognize(state, place)
    assumptions = {
        name: f"assuming {name}={getattr(config, name)} (`--{name} {'|'.join(values)}` overrides it)"
        for name, values in others.items()
    }
    return _fill(config.to_dict(), state, place), "state dict, network from its parameter names", assumptions


def _with_changes(loaded: LoadedCheckpoint, given: Mapping[str, Any], place: str) -> LoadedCheckpoint:
    """Load the weights into a network with another configuration, whose parameters must be the same."""
    old = loaded.network.config
    try:
        config = replace(old, **given)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error
    if config == old:
        return loaded
    network = AlphaRefineNet(config)
    try:
        network.load_state_dict(loaded.network.state_dict())
    except RuntimeError as error:
        requested = ", ".join(f"{name} {value}" for name, value in given.items())
        raise UserError(
            f"{place} does not hold the weights of a network with {requested}, but of one with {old}; leave the "
            "option out."
        ) from error
    return loaded._replace(network=network.eval())


def _fill(values: Mapping[str, object], state: Mapping[str, Tensor], place: str) -> AlphaRefineNet:
    try:
        config = NetworkConfig.from_mapping(values)
    except ValueError as error:
        reason = shorten(str(error), _REASON_LENGTH)
        raise UserError(f"{place}: unsupported network: {reason} It may need a newer version.") from error
    network = AlphaRefineNet(config)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = shorten(str(error), _REASON_LENGTH)
        raise UserError(
            f"{place} does not hold the weights of the network that it describes ({reason}); copy it again."
        ) from error
    return network.eval()
