"""What the commands share: finding configurations, and ending with one line where the user can mend the fault."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from alpharefine.errors import UserError

USER_ERROR_CODE = 2

INTERRUPTED_CODE = 130
"""What shells expect of a program that Ctrl-C has ended."""

_DISK_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.ENOTDIR: "give a folder, not a file",
    errno.EACCES: "give a place with the rights that this needs",
    errno.EROFS: "give a place that can be written to",
}


class UserErrorParser(argparse.ArgumentParser):
    """Raises a `UserError` where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise the error."""
        raise UserError(f"{message}; `--help` tells what can be given.")


def find_configs(arguments: list[str], folder: Path) -> list[str]:
    """Put configurations before everything else, and find the shipped ones by their bare names.

    What is given on the command line goes over what a file says, wherever it stands: the parser takes arguments in
    order, and would let a configuration that comes later silently undo them.

    Args:
        arguments: of a command; a configuration comes after ``--config`` or ``-c``.
        folder: of the shipped configurations, where a name is looked for that is not here.

    Returns:
        The arguments, with paths. Configurations keep their order, and later ones go over earlier ones.

    Raises:
        UserError: if a configuration is neither here nor there.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    try:
        chosen, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(
            f"`--config`: {error.message}; give the path of a file, or the name of a shipped one."
        ) from error
    return [f"--config={_find_config(name, folder)}" for name in chosen.config] + others


def _find_config(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / name):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.name for path in folder.glob("*.yaml")))
    raise UserError(f"`--config`: no file {name}, here or among the shipped ones ({shipped}).")


def run_command(main: Callable[[], None]) -> int:
    """Run a command; what the user can mend, or has ended by Ctrl-C, becomes one line on the error stream.

    Returns:
        The exit code.
    """
    try:
        main()
    except UserError as error:
        # From a data-loader worker the error comes with the worker's traceback before it.
        sys.stderr.write(f"error: {str(error).rpartition('UserError: ')[2].strip()}\n")
        return USER_ERROR_CODE
    except OSError as error:
        if error.errno not in _DISK_REMEDIES:
            raise
        sys.stderr.write(f"error: {error}; {_DISK_REMEDIES[error.errno]}.\n")
        return USER_ERROR_CODE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED_CODE
    return 0
