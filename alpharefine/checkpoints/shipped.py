"""Weights that are part of the package."""

from __future__ import annotations

import os
from pathlib import Path

from alpharefine.errors import UserError
from alpharefine.options import WEIGHTS_VARIABLE

_FOLDER = Path(__file__).resolve().parents[1] / "weights"


def shipped_names() -> list[str]:
    """Return the names of the shipped weights."""
    return sorted(path.stem for path in _FOLDER.glob("*.safetensors"))


def resolve_shipped(path: str | Path) -> Path:
    """Return the path of shipped weights for their name, and any other path unchanged.

    Args:
        path: Path of a checkpoint, or name of shipped weights such as ``ar18_cm``.
    """
    return _FOLDER / f"{path}.safetensors" if str(path) in shipped_names() else Path(path)


def find_checkpoint(path: str | Path, option: str = "--ckpt") -> Path:
    """Return the path of a checkpoint.

    Args:
        path: Name of shipped weights, or path of a file, relative to the current folder or to
            `WEIGHTS_VARIABLE`.
        option: Command-line option that gave the path, for messages.

    Raises:
        UserError: If there is no such file.
    """
    folder = os.environ.get(WEIGHTS_VARIABLE)
    candidates = [Path(path), resolve_shipped(path), *([] if folder is None else [Path(folder) / path])]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise UserError(
            f"`{option}`: no file {path}; give a checkpoint, or the name of shipped weights: "
            f"{', '.join(shipped_names())}."
        )
    return found
