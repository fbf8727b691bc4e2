"""Weights that are part of the package."""

from __future__ import annotations

from pathlib import Path

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
