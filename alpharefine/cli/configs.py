"""Shipped configurations, and their place on a command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from alpharefine.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]

TRAINING_CONFIGS = next(
    (folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()), _PACKAGE / "configs"
)
"""Folder of the training configurations: inside the installed package, or beside it in a checkout."""

EVALUATION_CONFIGS = TRAINING_CONFIGS / "evaluate"
"""Folder of the evaluation configurations."""


def find_configs(arguments: list[str], folder: Path) -> list[str]:
    """Move configurations to the front of the arguments, and find shipped ones by their bare names.

    A parser applies arguments in order; a configuration after a flag would silently override it.

    Args:
        arguments: Arguments of a command; a configuration follows ``--config`` or ``-c``.
        folder: Folder of the shipped configurations.

    Returns:
        Arguments with paths. Configurations keep their order, and later ones override earlier ones.

    Raises:
        UserError: If a configuration is neither a file nor a shipped one.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    try:
        chosen, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"`--config`: {error.message}; give the path of a file, or a shipped name.") from error
    return [f"--config={_find_config(name, folder)}" for name in chosen.config] + others


def _find_config(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / name):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.name for path in folder.glob("*.yaml")))
    raise UserError(f"`--config`: no file {name}, and no shipped configuration of that name ({shipped}).")
