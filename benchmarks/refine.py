"""Milliseconds a frame of the refiner, by network, output and batch: ``python benchmarks/refine.py``.

Medians over single calls with random weights (the time does not depend on them), after a warm-up; the crop, the
transfer to the device and the way back are part of it. Runs on the graphics card where there is one.
"""

from __future__ import annotations

import statistics
from time import perf_counter

import numpy as np
import torch

from alpharefine import Refiner
from alpharefine.models import AlphaRefineNet, BackboneName, NetworkConfig

WARM_UP, CALLS = 5, 30


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    box_xywh = np.array([600.0, 300.0, 120.0, 90.0])
    backbones: tuple[BackboneName, ...] = ("resnet18", "resnet34")
    for backbone in backbones:
        refiner = Refiner.from_network(AlphaRefineNet(NetworkConfig(backbone)))
        template = refiner.encode_template(frame, box_xywh)
        for mask in (False, True):
            for batch in (1, 8):
                times = []
                for _ in range(WARM_UP + CALLS):
                    start = perf_counter()
                    refiner.refine_many([frame] * batch, [box_xywh] * batch, [template] * batch, mask)
                    times.append(1e3 * (perf_counter() - start) / batch)
                output = "box + mask" if mask else "box"
                median = statistics.median(times[WARM_UP:])
                print(
                    f"{backbone:9} {output:10} batch {batch}: {median:7.2f} ms a frame on {refiner.backend.device}, "
                    f"{torch.get_num_threads()} threads"
                )


if __name__ == "__main__":
    main()
