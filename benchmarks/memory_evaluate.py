"""Memory of the evaluation of one long sequence: resident memory in ten places, and its growth.

    python benchmarks/memory_evaluate.py --num_frames 20000

A cheap tracker and a small network run over frames of 64 x 48 pixels, in the closed loop and over published boxes.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from alpharefine.evaluation import replay, run
from alpharefine.evaluation.config import DatasetConfig, TrackerConfig
from alpharefine.evaluation.datasets.base import EvaluationSequence, GroundTruth
from alpharefine.evaluation.settings import RefinementSettings, RunSettings
from alpharefine.inference.refiner import Refiner
from alpharefine.models import AlphaRefineNet, Corners, Prediction
from alpharefine.trackers import Track, TrackState

_NUM_FILES = 50


class Still:
    """Tracker that stays where it is put, and draws on its frames."""

    def initialize(self, _frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Store the box."""
        self.box_xywh = box_xywh

    def track(self, frame: np.ndarray) -> Track:
        """Return the stored box."""
        frame[:4] = 0
        return Track(self.box_xywh, 1.0, TrackState.NORMAL)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Store the box."""
        self.box_xywh = box_xywh


class _Tiny(nn.Module):
    """Network of one convolution that finds the target where it was."""

    geometry = "exact"
    heads = ("corner",)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 16, stride=16)

    def encode_template(self, templates: Tensor, _target_xyxy: Tensor) -> Tensor:
        features: Tensor = self.features(templates.float())
        return features.mean(dim=(2, 3))

    def forward(self, search: Tensor, kernel: Tensor, _heads: Sequence[str]) -> Prediction:
        maps = (self.features(search.float()) * kernel[:, :, None, None]).mean(dim=1)
        corners = torch.tensor([64.0, 64, 192, 192]) + 0.01 * maps.mean(dim=(1, 2)).clamp(-1, 1)[:, None]
        return Prediction(Corners(corners, torch.stack([maps, maps], dim=1)), None)


class _Paths(Sequence[Path]):
    """Paths of frames that measures the memory after every tenth of them."""

    def __init__(self, files: list[Path], num_frames: int) -> None:
        self._files, self._num_frames = files, num_frames
        self.memory_mib: list[float] = []

    def __len__(self) -> int:
        return self._num_frames

    def __getitem__(self, index: int) -> Path:  # type: ignore[override]
        return self._files[index % len(self._files)]

    def __iter__(self) -> Iterator[Path]:
        for index in range(self._num_frames):
            if (index + 1) % (self._num_frames // 10) == 0:
                gc.collect()
                self.memory_mib.append(_resident_mib())
            yield self[index]


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _write_frames(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{index:08d}.jpg" for index in range(_NUM_FILES)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    return paths


def _measure(name: str, num_frames: int, files: list[Path], execute: Callable[[EvaluationSequence], object]) -> None:
    paths = _Paths(files, num_frames)
    truth = GroundTruth(np.tile([20.0, 12.0, 24.0, 20.0], (num_frames, 1)), np.zeros(num_frames, bool))
    execute(EvaluationSequence("long", truth, paths))
    numbers = " ".join(f"{value:.0f}" for value in paths.memory_mib)
    growth = paths.memory_mib[-1] - paths.memory_mib[0]
    sys.stdout.write(f"{name}: MiB after every {num_frames // 10} frames: {numbers}; growth {growth:+.1f} MiB\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_frames", type=int, default=20_000, help="Number of frames.")
    num_frames = parser.parse_args().num_frames
    torch.manual_seed(0)
    refiner = Refiner.from_network(cast("AlphaRefineNet", _Tiny()), "cpu", "32")
    for module in (run, replay):
        module.load_refiner = lambda *_: refiner  # type: ignore[attr-defined]
    refinement = RefinementSettings(
        "", "exact", "32", "corner", 0.5, flip_test=False, save_masks=False, feedback=True, min_feedback_score=0.0,
        when_lost="refine", min_score=None,
    )  # fmt: skip
    settings = RunSettings(DatasetConfig(), TrackerConfig(f"{__name__}:Still"), refinement)
    with tempfile.TemporaryDirectory() as folder:
        files = _write_frames(Path(folder))
        tracker = run.TrackerRunner({"refined": settings})
        _measure("closed loop", num_frames, files, lambda sequence: tracker("refined", sequence))
        runner = replay.ReplayRunner(refinement)
        _measure(
            "published boxes",
            num_frames,
            files,
            lambda sequence: list(
                runner.run_all([replay.ReplayJob(sequence, {"mil": sequence.truth.boxes_xywh.copy()})])
            ),
        )


if __name__ == "__main__":
    main()
