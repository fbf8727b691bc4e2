"""Networks as .safetensors files: the weights, and in the header what network they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet

_KEY = "alpharefine"
_FORMAT = 1


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as .safetensors files do: the length of a header, and a JSON object."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def save_exported(network: AlphaRefineNet, path: str | Path) -> None:
    """Write a network.

    Args:
        network: to be written.
        path: of the file to make.
    """
    header = {"format": _FORMAT, "parts": network.parts}
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, path, {_KEY: json.dumps(header)}
    )


def read_exported(path: Path) -> tuple[dict[str, object], dict[str, Any]]:
    """Read what `save_exported` has written.

    Returns:
        The arguments of the network, and its state dict.

    Raises:
        UserError: if the file is damaged, or holds no network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        header = json.loads(metadata.get(_KEY, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"`--ckpt`: {path} is a damaged .safetensors file ({error}); copy it anew.") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT or not isinstance(header.get("parts"), dict):
        raise UserError(
            f"`--ckpt`: {path} holds tensors, but its header names no refinement network of format {_FORMAT}; give a "
            "file written by `python -m alpharefine.checkpoints convert`."
        )
    return header["parts"], state
