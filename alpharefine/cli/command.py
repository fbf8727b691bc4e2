"""What the commands share: finding configurations, and ending with one line where the user can mend the fault."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable
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
