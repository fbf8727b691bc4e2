"""Time of a refinement of two threads, alone and beside another process that refines, by OpenMP's wait policy.

Threads of OpenMP spin while they wait, unless ``OMP_WAIT_POLICY`` is ``PASSIVE``, which the commands set. Two processes
on the same cores then hold each other up. Each process measures its own refinements.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from benchmarks.rows import Row

POLICIES = {"spinning": None, "passive": "PASSIVE"}

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
        for policy in POLICIES:
            for num_processes in counts:
                times.setdefault((policy, num_processes), []).extend(_refinement_ms(policy, num_processes, calls))
    found = {key: median(each) for key, each in times.items()}
    rows = [
        Row(f"refine, AR18, 2 threads, {n} processes", "ms", found["passive", n], found["spinning", n], "threads spin")
        for n in counts
    ]
    if 2 in counts:
        beside = (found["passive", 2], found["passive", 1])
        rows.append(Row("refine, AR18, 2 threads, 2 processes", "ms", *beside, "one process"))
    return rows


def _refinement_ms(policy: str, num_processes: int, calls: int) -> list[float]:
    """Median time of a refinement in each of some processes that run at a time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    if POLICIES[policy] is not None:
        environment["OMP_WAIT_POLICY"] = str(POLICIES[policy])
    command = [sys.executable, "-c", PROGRAM, str(calls)]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(num_processes)
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError("A process that measures has failed; see its message above.")
    return [float(output) for output in outputs]
