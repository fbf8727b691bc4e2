"""Small training runs on generated data."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from alpharefine.data.pairs import PairBatch
from alpharefine.models import Corners, Prediction
from alpharefine.training.task import RefineTask

PROJECT = Path(__file__).parents[1]
SMALL = Path(__file__).parent / "conf" / "small.yaml"
TIMES = ("train/pairs_per_s", "train/loader_wait")


def arguments(data_root: Path, output_dir: Path, *flags: str, **changed: object) -> list[str]:
    """Command line of a small training; a double underscore in a name stands for a dot."""
    options = {"config": SMALL, "data.root": data_root, "output_dir": output_dir}
    options |= {name.replace("__", "."): value for name, value in changed.items()}
    return [f"--{name}={value}" for name, value in options.items()] + list(flags)


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in another process."""
    env = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def quick_forward(task: RefineTask, batch: PairBatch) -> Prediction:
    """Prediction that depends on the pixels and on one bias, without the network."""
    bias = cast("Tensor", task.network.corner_head.top_left[-1].bias)  # type: ignore[union-attr,index]
    brightness = (batch.search.float().mean((1, 2, 3)) - batch.template.float().mean((1, 2, 3)))[:, None]
    crop_xyxy = torch.tensor([[64.0, 64, 192, 192]]) + bias * (1 + brightness / 256)
    return Prediction(Corners(crop_xyxy, torch.zeros(len(batch.search), 2, 16, 16)), None)


def read_checkpoint(run_dir: Path, name: str = "last") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return checkpoint


def read_metrics(run_dir: Path, version: int = 0, skipped: Collection[str] = TIMES) -> list[dict[str, float]]:
    """Read the log of a run, by default without what depends on the time that the machine takes."""
    with (run_dir / "logs" / f"version_{version}" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if value and name not in skipped} for row in rows]


def assert_equal_states(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
