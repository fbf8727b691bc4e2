"""Time of a refinement with spinning and with passive threads: ``python benchmarks/wait_policy.py``.

Both run alternately, alone and beside a process that keeps one core busy. Prints the medians and the ratios.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

ROUNDS = 3
POLICIES = ("spinning", "passive")
PROGRAM = """
import time, numpy as np
from alpharefine import Refiner
refiner = Refiner.from_checkpoint("ar18_cm", device="cpu")
frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
box_xywh = np.array([100.0, 100, 80, 60])
refiner.initialize(frame, box_xywh)
times = []
for _ in range(40):
    start = time.perf_counter()
    refiner.refine(frame, box_xywh)
    times.append(time.perf_counter() - start)
print(1000 * np.median(times[5:]))
"""


def main() -> None:
    """Measure and print."""
    for busy in (False, True):
        load = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        try:
            times: dict[str, list[float]] = {policy: [] for policy in POLICIES}
            for _ in range(ROUNDS):
                for policy in POLICIES:
                    times[policy].append(_refinement_ms(policy))
        finally:
            if load is not None:
                load.kill()
        spinning, passive = (median(times[policy]) for policy in POLICIES)
        place = "beside one busy process" if busy else "alone"
        print(f"{place}: spinning {spinning:.0f} ms, passive {passive:.0f} ms, ratio {spinning / passive:.2f}")


def _refinement_ms(policy: str) -> float:
    """Median time of a refinement in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if policy == "passive":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return float(subprocess.check_output([sys.executable, "-c", PROGRAM], env=environment))


if __name__ == "__main__":
    main()
