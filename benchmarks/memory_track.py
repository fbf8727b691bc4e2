"""Memory of `alpharefine track` over a long video: resident memory in ten places, and its growth.

    python benchmarks/memory_track.py --minutes 10

A video of 1280 x 720 pixels at 30 frames a second is written and tracked, with a tracker that does not move and the
shipped weights on every tenth frame, since the memory of a pass of the network does not depend on the frame.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from pathlib import Path

import numpy as np

from alpharefine.cli import track
from alpharefine.evaluation import refined_tracker
from alpharefine.inference.refiner import Refinement
from alpharefine.trackers import Track, TrackState
from alpharefine.video.writer import VideoWriter

_RATE = 30
_REFINED_EVERY = 10


class Still:
    """Tracker that stays where it is put, and measures the memory."""

    memory_mib: list[float]
    num_frames = 0
    every = 1

    def initialize(self, _frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Store the box."""
        self.box_xywh = box_xywh

    def track(self, _frame: np.ndarray) -> Track:
        """Return the stored box."""
        Still.num_frames += 1
        if Still.num_frames % Still.every == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            Still.memory_mib.append(pages * 4096 / 2**20)
        return Track(self.box_xywh, 1.0, TrackState.NORMAL)

    def set_box(self, _box_xywh: np.ndarray) -> None:
        """Ignore the refined box."""


def _refine_some() -> None:
    """Replace most refinements by the last one."""
    refine = refined_tracker.RefinedTracker._refine
    last: dict[str, Refinement | None] = {}

    def refine_some(self: refined_tracker.RefinedTracker, frame: np.ndarray, found: Track) -> Refinement | None:
        if Still.num_frames % _REFINED_EVERY == 1:
            last["refinement"] = refine(self, frame, found)
        return last.get("refinement")

    refined_tracker.RefinedTracker._refine = refine_some  # type: ignore[method-assign, assignment]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="Length of the video.")
    num_frames = round(60 * _RATE * parser.parse_args().minutes)
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (720 // 8, 1280 // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Still.memory_mib, Still.every = [], num_frames // 10
    _refine_some()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "in.mp4"
        with VideoWriter(video) as writer:
            for index in range(num_frames):
                writer.write(np.roll(ground, index, axis=1), index / _RATE)
        track.main([str(video), "--box", "600,300,80,60", "--tracker", f"{__name__}:Still", "--output",
                    str(Path(folder) / "out.mp4")])  # fmt: skip
    numbers = " ".join(f"{value:.0f}" for value in Still.memory_mib)
    growth = Still.memory_mib[-1] - Still.memory_mib[0]
    sys.stdout.write(f"MiB after every {Still.every} frames: {numbers}; growth {growth:+.1f} MiB\n")


if __name__ == "__main__":
    main()
