"""Number of processor cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from alpharefine.notes import note

QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
"""Quota of processor time of a container, or `max`, and its period, both in microseconds."""


def available_cores() -> int:
    """Return the number of cores that this process may use: at least 1, at most those of the machine.

    The affinity of the process and the quota of its container (control groups, version 2) count. `os.cpu_count` ignores
    both.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA_FILE.read_text().split()
        return cores if quota == "max" else max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        return cores


def remark_shared_cores(num_processes: int, num_threads: int) -> None:
    """Print a remark on stderr if there are more computing threads than cores.

    Args:
        num_processes: Number of processes of this command.
        num_threads: Number of computing threads of each process.
    """
    cores = available_cores()
    if num_processes * num_threads > cores:
        cure = "a lower `OMP_NUM_THREADS`" if num_threads > 1 else "fewer processes"
        note(
            f"{num_processes * num_threads} computing threads share {cores} core{'s' if cores > 1 else ''} and "
            f"slow each other down; use {cure}."
        )
