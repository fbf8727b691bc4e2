"""Milliseconds a frame of the base trackers in PyTorch, on the GPU if there is one.

Medians over single calls on a generated video, after a warm-up, with random weights. The state of a tracker depends on
its weights, so it is set: ATOM and the DiMP family see their target in every frame, or a distractor, which triggers an
update; SiamRPN++ is put back on its target. Crops and transfers are included.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from alpharefine.models.folding import fold_batch_norms
from alpharefine.trackers import Tracker, TrackState
from alpharefine.trackers.dimp.atom import ATOMTracker
from alpharefine.trackers.dimp.loading import NETWORKS
from alpharefine.trackers.dimp.network import BoxNet, DiMPNet
from alpharefine.trackers.dimp.parameters import read_atom_parameters, read_parameters
from alpharefine.trackers.dimp.tracker import DiMPTracker
from alpharefine.trackers.siamrpnpp import VARIANTS, SiamRPNppTracker, Variant
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp
from benchmarks.rows import Row

Network = TypeVar("Network", bound=BoxNet)

SIZE = (720, 1280)
BOX = (600.0, 300.0, 120.0, 90.0)
NAMES = ("dimp50", "super_dimp", "atom", "siamrpnpp")


def measure(quick: bool) -> list[Row]:
    """Measure trackers with random weights.

    Args:
        quick: Measure a single frame of one tracker only.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for name in ("atom",) if quick else NAMES:
        if name in VARIANTS:
            rows += measure_siamrpnpp(name, VARIANTS[name], device, quick)
        else:
            rows += measure_online(name, device, quick)
    return rows


def frame_at(index: int) -> np.ndarray:
    """Return a frame ``(H, W, 3)`` of a video of moving noise."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
    moved: np.ndarray = np.roll(cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC), 2 * index, axis=1)
    return moved


def row(what: str, device: str, call: Callable[[np.ndarray], object], quick: bool) -> Row:
    """Measure the median time of a call over frames."""
    times = []
    warm_up, calls = (0, 1) if quick else (2, 10)
    for index in range(1, 1 + warm_up + calls):
        frame = frame_at(index)
        start = perf_counter()
        call(frame)
        times.append(1e3 * (perf_counter() - start))
    return Row(f"track, {what}, on {device}", "ms", statistics.median(times[warm_up:]))


def about_the_same_box(tracker: Tracker) -> Callable[[np.ndarray], None]:
    """Return a call that tracks one frame with a search region of constant size."""

    def call(frame: np.ndarray) -> None:
        tracker.track(frame)
        tracker.set_box(np.array(BOX))

    return call


def measure_siamrpnpp(name: str, variant: Variant, device: str, quick: bool) -> list[Row]:
    """Measure SiamRPN++ with the target seen, and lost where that widens the search."""
    network = SiamRPNpp(variant.backbone, variant.neck_channels, variant.weighted).eval().requires_grad_(False)
    fold_batch_norms(network)
    variants = {name: variant}
    if variant.lost is not None:
        variants[f"{name}, target lost"] = replace(variant, search_size=variant.lost.search_size)
    rows = []
    for what, searched in variants.items():
        tracker = SiamRPNppTracker(network.to(device), searched)
        tracker.initialize(frame_at(0), np.array(BOX))
        rows.append(row(what, device, about_the_same_box(tracker), quick))
    return rows


def measure_online(name: str, device: str, quick: bool) -> list[Row]:
    """Measure ATOM or a tracker of the DiMP family: its first frame, and others with and without an update."""
    tracker: Any = online_tracker(name, device)
    start = perf_counter()
    tracker.initialize(frame_at(0), np.array(BOX))
    rows = [Row(f"track, {name}, first frame, on {device}", "ms", 1e3 * (perf_counter() - start))]
    localize = tracker._localize
    for what, state in ((name, TrackState.NORMAL), (f"{name}, with an update", TrackState.HARD_NEGATIVE)):

        def in_state(*arguments: object, state: TrackState = state) -> Any:
            return localize(*arguments)._replace(state=state)

        tracker._localize = in_state
        rows.append(row(what, device, about_the_same_box(tracker), quick))
    return rows


def online_tracker(name: str, device: str) -> ATOMTracker | DiMPTracker:
    """Build a tracker with random weights whose box search moves no box and takes its usual time."""

    def ready(network: Network) -> Network:
        torch.nn.init.zeros_(network.bb_regressor.iou_predictor.weight)
        return network.requires_grad_(False).eval().to(device)

    if name == "atom":
        return ATOMTracker(ready(BoxNet("resnet18")), read_atom_parameters())
    backbone, optimizer = NETWORKS[name]
    return DiMPTracker(ready(DiMPNet(backbone, optimizer())), read_parameters(name))
