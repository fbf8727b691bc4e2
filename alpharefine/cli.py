"""What the commands share: finding configurations, and ending with one line where the user can mend the fault."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from alpharefine.errors import UserError

USER_ERROR_CODE = 2


class UserErrorParser(argparse.ArgumentParser):
    """Raises a `UserError` where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise the error."""
        raise UserError(f"{message}; `--help` tells what can be given.")


def find_configs(arguments: list[str], folder: Path) -> list[str]:
    """Replace the bare names after ``--config`` or ``-c`` by files in a folder, where there is none of that name here.

    Args:
        arguments: of a command.
        folder: of the shipped configurations.

    Returns:
        The arguments, with paths.

    Raises:
        UserError: if a configuration is neither here nor there.
    """
    found = list(arguments)
    for i, argument in enumerate(arguments):
        if argument.startswith("--config="):
            found[i] = f"--config={_find_config(argument.removeprefix('--config='), folder)}"
        elif argument in ("--config", "-c") and i + 1 < len(arguments):
            found[i + 1] = str(_find_config(arguments[i + 1], folder))
    return found


def _find_config(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / name):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.name for path in folder.glob("*.yaml")))
    raise UserError(f"`--config`: no file {name}, here or among the shipped ones ({shipped}).")


def run_command(main: Callable[[], None]) -> int:
    """Run a command; a user's mistake becomes one line on the error stream.

    Returns:
        The exit code.
    """
    try:
        main()
    except UserError as error:
        # From a data-loader worker the error comes with the worker's traceback before it.
        sys.stderr.write(f"error: {str(error).rpartition('UserError: ')[2].strip()}\n")
        return USER_ERROR_CODE
    return 0
