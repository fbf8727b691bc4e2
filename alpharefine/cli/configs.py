"""Configuration files on the command line, among them those shipped with the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from alpharefine.errors import UserError


def _shipped_folder() -> Path:
    """Folder of the shipped configurations: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


CONFIGS = _shipped_folder()
"""Folder of the shipped training configurations."""

EVALUATION_CONFIGS = CONFIGS / "evaluate"
"""Folder of the shipped evaluation configurations."""


def find_configs(arguments: list[str], folder: Path = CONFIGS) -> list[str]:
    """Move configurations to the front of the arguments, and find shipped ones by their bare names.

    The parser applies arguments in order. A configuration at the front cannot override values of the command line.

    Args:
        arguments: Arguments of a command; a configuration follows ``--config`` or ``-c``.
        folder: Folder of shipped configurations, searched for names that are not files.

    Returns:
        The arguments, with paths of the configurations. Later configurations override earlier ones.

    Raises:
        UserError: If a configuration does not exist.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    try:
        chosen, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(
            f"`--config`: {error.message}; give the path of a file, or the name of a shipped configuration."
        ) from error
    return [f"--config={_find_config(name, folder)}" for name in chosen.config] + others


def _find_config(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / name):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.name for path in folder.glob("*.yaml")))
    raise UserError(f"`--config`: no file {name}, and no shipped configuration of that name ({shipped}).")
