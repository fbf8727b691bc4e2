"""Parser and exit codes shared by the commands."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from alpharefine.errors import UserError

USER_ERROR_CODE = 2

INTERRUPTED_CODE = 130
"""Exit code of a program that Ctrl-C ended, by the convention of shells."""

THREAD_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Environment in which threads of OpenMP spin for some microseconds and then sleep.

Threads that spin longer, as by default, hold up other processes on the same cores; threads that do not spin at all are
slower where a process has the cores to itself (`benchmarks/processes.py`). GNU's library alone reads the second
variable.
"""

_DISK_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENOTDIR: "give a folder, not a file",
    errno.EACCES: "change the permissions, or give another place",
    errno.EROFS: "give a writable place",
    errno.ENAMETOOLONG: "give a shorter name",
}


class UserErrorParser(argparse.ArgumentParser):
    """Parser that raises a `UserError` instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError`.

        Args:
            message: Message of argparse.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message}; `--help` lists the options.")


def run_command(main: Callable[[], None]) -> int:
    """Run a command. Print errors that the user can correct, and an interruption by Ctrl-C, as one line on stderr.

    Threads of OpenMP, which PyTorch uses, wait as `THREAD_WAITING` says unless `OMP_WAIT_POLICY` is set.

    Args:
        main: Function that runs the command.

    Returns:
        Exit code: 0, 2 for an error of the user, 130 for an interruption.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in THREAD_WAITING.items():
            os.environ.setdefault(name, value)  # read when torch is imported
    try:
        main()
    except UserError as error:
        # An error of a data-loader worker is preceded by the traceback of the worker.
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
