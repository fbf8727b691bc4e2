"""Loading of a network from a checkpoint: of training, exported, or of the authors' code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from torch import Tensor

from alpharefine.checkpoints.exported import is_safetensors, read_exported
from alpharefine.checkpoints.files import read_torch_file
from alpharefine.checkpoints.original import build_original, is_original
from alpharefine.checkpoints.shipped import resolve_shipped
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet, CornerHeadName, NeckName, NetworkConfig
from alpharefine.options import GeometryName

_PREFIX = "network."
_REASON_LENGTH = 200


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
            (.safetensors), or of a checkpoint of the authors' code (.pth.tar, in the zip or the legacy format of
            `torch.save`).
        geometry: Crop geometry in place of the recorded one.
        neck: Neck in place of the recorded one. It must have the same parameters.
        corner_head: Corner head in place of the recorded one. It must have the same parameters.
        option: Command-line option that gave the path, for messages.

    Raises:
        UserError: If the file is missing or damaged, does not hold a refinement network, or its weights do not fit the
            given neck or corner head.
    """
    path = resolve_shipped(path)
    place = f"`{option}`: {path}"
    if not path.is_file():
        raise UserError(f"`{option}`: no file {path}; give a checkpoint.")
    if is_safetensors(path):
        values, state = read_exported(path, option)
        loaded = LoadedCheckpoint(_build(values, state, place), "exported weights")
    else:
        content = read_torch_file(path, option)
        loaded = _from_original(content, place) if is_original(content) else _from_lightning(content, place)
    given = {"geometry": geometry, "neck": neck, "corner_head": corner_head}
    return _with_changes(loaded, {name: value for name, value in given.items() if value is not None}, place)


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


def _from_original(content: Mapping[Any, Any], place: str) -> LoadedCheckpoint:
    network, description, doubts = build_original(content, place)
    return LoadedCheckpoint(network, f"checkpoint of the authors' code: {description}", doubts)


def _from_lightning(content: Mapping[Any, Any], place: str) -> LoadedCheckpoint:
    hparams, state = content.get("hyper_parameters"), content.get("state_dict")
    if not isinstance(hparams, Mapping) or not isinstance(state, Mapping) or not {"backbone", "heads"} <= set(hparams):
        keys = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
        raise UserError(
            f"{place} is not a checkpoint of a refinement network (it holds {keys}); give a file written "
            "by the training command or by the authors' code."
        )
    weights = {key.removeprefix(_PREFIX): value for key, value in state.items() if str(key).startswith(_PREFIX)}
    values = {field.name: hparams[field.name] for field in fields(NetworkConfig) if field.name in hparams}
    return LoadedCheckpoint(_build(values, weights, place), f"checkpoint of train.py, epoch {content.get('epoch')}")


def _build(values: Mapping[str, object], state: Mapping[str, Tensor], place: str) -> AlphaRefineNet:
    try:
        config = NetworkConfig.from_mapping(values)
    except ValueError as error:
        raise UserError(f"{place}: unsupported network: {error} It may need a newer version.") from error
    network = AlphaRefineNet(config)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = shorten(str(error), _REASON_LENGTH)
        raise UserError(
            f"{place} does not hold the weights of the network that it describes ({reason}); copy it again."
        ) from error
    return network.eval()
