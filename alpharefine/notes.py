"""Remarks of a command on stderr."""

from __future__ import annotations

import logging
import os
from multiprocessing import parent_process

_LOGGER = logging.getLogger(__name__)

_NOTED: set[str] = set()

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Variables in which torchrun, Lightning and SLURM give the number of a process."""


def note(message: str) -> None:
    """Print a remark on stderr, once. Only the first process of a command prints.

    Args:
        message: One line.
    """
    is_first = parent_process() is None and all(os.environ.get(name, "0") in ("", "0") for name in _RANKS)
    if message not in _NOTED and is_first:
        _NOTED.add(message)
        _LOGGER.warning("%s", message)
