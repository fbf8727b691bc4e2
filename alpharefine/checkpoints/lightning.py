"""Loading the checkpoints that `train.py` writes, executing nothing that is in them."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import torch

from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet, BackboneName, HeadName

_PREFIX = "network."
_REASON_LENGTH = 200
_REMEDY = "give a .ckpt file written by train.py."


def load_network(path: str | Path) -> AlphaRefineNet:
    """Rebuild a network from a checkpoint alone.

    Args:
        path: of a checkpoint written by `train.py`.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        UserError: if there is no such file, or it is not a checkpoint of a refinement network.
    """
    path = Path(path)
    checkpoint = _read(path)
    hparams, state = checkpoint.get("hyper_parameters"), checkpoint.get("state_dict")
    if not isinstance(hparams, Mapping) or not isinstance(state, Mapping) or not {"backbone", "heads"} <= set(hparams):
        held = ", ".join(str(key) for key in list(checkpoint)[:8]) or "nothing"
        raise UserError(
            f"`--ckpt`: {path} is a checkpoint of something else than a refinement network (it holds {held}); {_REMEDY}"
        )
    network = _build(path, hparams["backbone"], hparams["heads"])
    weights = {key.removeprefix(_PREFIX): value for key, value in state.items() if str(key).startswith(_PREFIX)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:_REASON_LENGTH]
        raise UserError(
            f"`--ckpt`: {path} does not hold the weights of the network that it names ({reason}...); {_REMEDY}"
        ) from error
    return network.eval()


def _build(path: Path, backbone: object, heads: object) -> AlphaRefineNet:
    heads = heads if isinstance(heads, list | tuple) else []
    if backbone not in get_args(BackboneName) or not heads or any(head not in get_args(HeadName) for head in heads):
        raise UserError(
            f"`--ckpt`: {path} is of a network that is not known here: backbone {backbone!r}, heads {heads!r}; "
            f"{_REMEDY}"
        )
    return AlphaRefineNet(cast(BackboneName, backbone), heads)


def _read(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        raise UserError(f"`--ckpt`: no file {path}; {_REMEDY}")
    _require_whole(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"`--ckpt`: {path} holds something else than weights and plain values; {_REMEDY}") from error
    if not isinstance(content, dict):
        raise UserError(f"`--ckpt`: {path} holds a {type(content).__name__}, no checkpoint; {_REMEDY}")
    return content


def _require_whole(path: Path) -> None:
    """Checkpoints are zip archives, whose check sums tell a damaged file before anything in it is looked at."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"`--ckpt`: {path} is cut short or no checkpoint at all, which is a zip archive ({error}); {_REMEDY}"
        ) from error
    if damaged is not None:
        raise UserError(f"`--ckpt`: {path} is damaged (at {damaged}); copy it anew.")
