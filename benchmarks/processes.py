"""Time of a refinement of two threads, alone and beside another process, by the waiting of OpenMP's threads.

By default the threads spin while they wait, and two processes on the same cores hold each other up. The commands let
them spin briefly. Each process measures its own refinements.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from alpharefine.cli.command import THREAD_WAITING
from benchmarks.rows import Row

ENVIRONMENTS = {"spinning": {}, "brief": THREAD_WAITING, "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"}}
"""Environment by the waiting of the threads."""

PROGRAM = """
import sys, time, numpy as np, torch
from alpharefine import Refiner
torch.set_num_threads(2)
refiner = Refiner.from_checkpoint("ar18_cm", device="cpu")
frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
box_xywh = np.array([100.0, 100, 80, 60])
refiner.initialize(frame, box_xywh)
times, calls = [], int(sys.argv[1])
for _ in range(calls + 5):
    start = time.perf_counter()
    refiner.refine(frame, box_xywh)
    times.append(time.perf_counter() - start)
print(1000 * np.median(times[5:]))
"""


def measure(quick: bool) -> list[Row]:
    """Measure one process, and two at a time.

    Args:
        quick: Take a few calls of one process only.
    """
    calls, rounds, counts = (2, 1, (1,)) if quick else (40, 3, (1, 2))
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for waiting, environment in ENVIRONMENTS.items():
            for num_processes in counts:
                times.setdefault((waiting, num_processes), []).extend(_refinement_ms(environment, num_processes, calls))
    found = {key: median(each) for key, each in times.items()}
    rows = [
        Row(
            f"refine, AR18, 2 threads, processes: {n}, against {other} ones",
            "ms",
            found["brief", n],
            found[other, n],
            note,
        )
        for n in counts
        for other, note in (("spinning", "threads spin"), ("sleeping", "threads do not spin"))
    ]
    if 2 in counts:
        beside = (found["brief", 2], found["brief", 1])
        rows.append(Row("refine, AR18, 2 threads, processes: 2, against 1", "ms", *beside, "one process"))
    return rows


def _refinement_ms(environment: dict[str, str], num_processes: int, calls: int) -> list[float]:
    """Median time of a refinement in each of some processes that run at a time."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", PROGRAM, str(calls)]
    variables = inherited | environment
    started = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) for _ in range(num_processes)
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError("A process that measures has failed; see its message above.")
    return [float(output) for output in outputs]
