"""Loading the checkpoints that `train.py` writes, executing nothing that is in them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet

_PREFIX = "network."


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
        raise UserError(
            f"`--ckpt`: {path} is a checkpoint of something else than a refinement network (it holds "
            f"{sorted(checkpoint)[:8]}); give a .ckpt file written by train.py."
        )
    network = AlphaRefineNet(hparams["backbone"], hparams["heads"])
    weights = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"`--ckpt`: {path} does not hold the network that it names: {error}") from error
    return network.eval()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"`--ckpt`: no file {path}; give a .ckpt file written by train.py.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"`--ckpt`: {path} is not a readable checkpoint ({reason}); it may be cut short.") from error
    if not isinstance(content, dict):
        raise UserError(f"`--ckpt`: {path} holds a {type(content).__name__}, not a checkpoint written by train.py.")
    return content
