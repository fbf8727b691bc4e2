"""Networks as .safetensors files: weights, with the configuration of the network in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save

from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet

_KEY = "alpharefine"
_CONFIG_KEY = "parts"
_FORMAT = 1


def save_exported(network: AlphaRefineNet, path: str | Path) -> None:
    """Write the weights and the configuration of a network.

    Args:
        network: Network to write.
        path: Path of the new file.
    """
    header = {"format": _FORMAT, _CONFIG_KEY: network.config.to_dict()}
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    Path(path).write_bytes(save(state, {_KEY: json.dumps(header)}))  # `save_file` lets nobody else read the file


def exported_config(metadata: Mapping[str, str], place: str) -> dict[str, object] | None:
    """Return the values of the configuration in the header of a .safetensors file; None if it has none.

    Args:
        metadata: Header of the file.
        place: Option and path of the file, for messages.

    Raises:
        UserError: If the header describes a network in another way.
    """
    if _KEY not in metadata:
        return None
    try:
        header = json.loads(metadata[_KEY])
    except (ValueError, RecursionError):
        header = None
    config = header.get(_CONFIG_KEY) if isinstance(header, dict) and header.get("format") == _FORMAT else None
    if not isinstance(config, dict):
        raise UserError(
            f"{place} holds tensors, but its header describes no refinement network of format {_FORMAT}; give a file "
            "written by `alpharefine export`."
        )
    return config
