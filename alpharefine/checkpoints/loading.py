"""From a file to a network, whatever wrote it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple, get_args, get_type_hints

from torch import Tensor

from alpharefine.checkpoints.exported import is_safetensors, read_exported
from alpharefine.checkpoints.files import read_torch_file
from alpharefine.checkpoints.original import build_original, is_original
from alpharefine.crops import GeometryName
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet, CornerHeadName, HeadName, NeckName

_PREFIX = "network."
_REASON_LENGTH = 200
_PARTS = tuple(name for name in inspect.signature(AlphaRefineNet).parameters)


class LoadedCheckpoint(NamedTuple):
    """What was in a file.

    Attributes:
        network: on the CPU, in evaluation mode.
        description: the kind of the file, and what it says of its network.
        doubts: what the file does not tell of its network, and what was assumed; empty if it tells everything.
    """

    network: AlphaRefineNet
    description: str
    doubts: str = ""

    @property
    def parts(self) -> str:
        """The network in words."""
        told = {
            name: "+".join(value) if isinstance(value, tuple) else value for name, value in self.network.parts.items()
        }
        return ", ".join(f"{name} {value}" for name, value in told.items())


def load_checkpoint(
    path: str | Path,
    geometry: GeometryName | None = None,
    neck: NeckName | None = None,
    corner_head: CornerHeadName | None = None,
) -> LoadedCheckpoint:
    """Rebuild a network from a file alone, whose kind is told by its content.

    Args:
        path: of a checkpoint of `train.py`, of exported weights (.safetensors) or of a checkpoint of the authors' code
            (.pth.tar, in either of torch's containers).
        geometry: in place of the one that the weights were trained in.
        neck: in place of the one that the file tells; one with the same parameters.
        corner_head: likewise.

    Raises:
        UserError: if there is no such file, or it does not hold a refinement network, or not one with these parts.
    """
    path = Path(path)
    place = f"`--ckpt`: {path}"
    if not path.is_file():
        raise UserError(f"`--ckpt`: no file {path}; give a checkpoint.")
    if is_safetensors(path):
        parts, state = read_exported(path)
        loaded = LoadedCheckpoint(_build(parts, state, place), "exported weights")
    else:
        content = read_torch_file(path)
        loaded = _from_original(content, place) if is_original(content) else _from_lightning(content, place)
    given = {"geometry": geometry, "neck": neck, "corner_head": corner_head}
    return _with_parts(loaded, {name: part for name, part in given.items() if part is not None}, place)


def _with_parts(loaded: LoadedCheckpoint, given: Mapping[str, object], place: str) -> LoadedCheckpoint:
    """The same weights in a network of which some parts, without parameters of their own, are others."""
    changed = {name: part for name, part in given.items() if part != loaded.network.parts[name]}
    if not changed:
        return loaded
    network = AlphaRefineNet(**(loaded.network.parts | changed))  # type: ignore[arg-type]
    try:
        network.load_state_dict(loaded.network.state_dict())
    except RuntimeError as error:
        told = ", ".join(f"{name} {part}" for name, part in changed.items())
        raise UserError(
            f"{place} does not hold the weights of a network with {told}, but one with {loaded.parts}; leave it out."
        ) from error
    return loaded._replace(network=network.eval())


def _from_original(content: Mapping[Any, Any], place: str) -> LoadedCheckpoint:
    network, description, doubts = build_original(content, place)
    return LoadedCheckpoint(network, f"checkpoint of the authors' code: {description}", doubts)


def _from_lightning(content: Mapping[Any, Any], place: str) -> LoadedCheckpoint:
    hparams, state = content.get("hyper_parameters"), content.get("state_dict")
    if not isinstance(hparams, Mapping) or not isinstance(state, Mapping) or not {"backbone", "heads"} <= set(hparams):
        held = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
        raise UserError(
            f"{place} is a checkpoint of something else than a refinement network (it holds {held}); give a file "
            "written by train.py or by the authors' code."
        )
    weights = {key.removeprefix(_PREFIX): value for key, value in state.items() if str(key).startswith(_PREFIX)}
    parts = {name: hparams[name] for name in _PARTS if name in hparams}
    return LoadedCheckpoint(_build(parts, weights, place), f"checkpoint of train.py, epoch {content.get('epoch')}")


def _build(parts: Mapping[str, object], state: Mapping[str, Tensor], place: str) -> AlphaRefineNet:
    known = get_type_hints(AlphaRefineNet.__init__)
    heads = parts.get("heads")
    heads = list(heads) if isinstance(heads, list | tuple) else []
    wrong = [name for name, value in parts.items() if name != "heads" and value not in get_args(known.get(name))]
    if wrong or not heads or any(head not in get_args(HeadName) for head in heads):
        told = ", ".join(f"{name} {parts[name]!r}" for name in (*wrong, "heads") if name in parts)
        raise UserError(f"{place} is of a network that is not known here: {told}; it may need a newer version.")
    network = AlphaRefineNet(**(dict(parts) | {"heads": heads}))  # type: ignore[arg-type]
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = shorten(str(error), _REASON_LENGTH)
        raise UserError(
            f"{place} does not hold the weights of the network that it names ({reason}); copy it anew."
        ) from error
    return network.eval()
