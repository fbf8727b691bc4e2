"""Milliseconds a frame of the base trackers in PyTorch: ``python benchmarks/track.py [NAME ...]``.

Medians over single calls with random weights (the time does not depend on them), after a warm-up; the crop, the
transfer to the device and the way back are part of it. Runs on the graphics card where there is one.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch

from alpharefine.trackers.siamrpnpp import VARIANTS, SiamRPNppTracker, Variant
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp, fold_batch_norms

WARM_UP, CALLS = 2, 10


def main() -> None:
    """Measure and print."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in sys.argv[1:] or [name for name in VARIANTS if not name.endswith("-otb")]:
        variant = VARIANTS[name]
        report(name, variant, device)
        if variant.lost is not None:
            report(f"{name}, target lost", replace(variant, search_size=variant.lost.search_size), device)


def report(name: str, variant: Variant, device: str) -> None:
    """Measure one tracker about the same box again and again."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    box_xywh = np.array([600.0, 300.0, 120.0, 90.0])
    network = SiamRPNpp(variant.backbone, variant.neck_channels, variant.weighted).eval().requires_grad_(False)
    fold_batch_norms(network)
    tracker = SiamRPNppTracker(network.to(device), variant)
    tracker.initialize(frame, box_xywh)
    times = []
    for _ in range(WARM_UP + CALLS):
        start = perf_counter()
        tracker.track(frame)
        times.append(1e3 * (perf_counter() - start))
        tracker.set_box(box_xywh)
    median = statistics.median(times[WARM_UP:])
    print(f"{name:26} {median:8.1f} ms a frame on {device}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
