"""Networks as .safetensors files: weights, with the configuration of the network in the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet

_KEY = "alpharefine"
_CONFIG_KEY = "parts"
_FORMAT = 1


def is_safetensors(path: Path) -> bool:
    """Return True if a file starts as .safetensors files do: the length of a header, then a JSON object.

    Args:
        path: Path of the file.
    """
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def save_exported(network: AlphaRefineNet, path: str | Path) -> None:
    """Write the weights and the configuration of a network.

    Args:
        network: Network to write.
        path: Path of the new file.
    """
    header = {"format": _FORMAT, _CONFIG_KEY: network.config.to_dict()}
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, path, {_KEY: json.dumps(header)}
    )


def read_exported(path: Path, option: str = "--ckpt") -> tuple[dict[str, object], dict[str, Any]]:
    """Read a file written by `save_exported`.

    Args:
        path: Path of the file.
        option: Command-line option that named the file, for messages.

    Returns:
        Values of the configuration, and the state dict.

    Raises:
        UserError: If the file is damaged, or holds no network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        header = json.loads(metadata.get(_KEY, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"`{option}`: {path} is a damaged .safetensors file ({error}); copy it again.") from error
    config = header.get(_CONFIG_KEY) if isinstance(header, dict) and header.get("format") == _FORMAT else None
    if not isinstance(config, dict):
        raise UserError(
            f"`{option}`: {path} holds tensors, but its header describes no refinement network of format {_FORMAT}; "
            "give a file written by `alpharefine convert`."
        )
    return config, state
