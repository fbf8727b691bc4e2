"""Boxes per second of a replay: the boxes of three trackers refined in batches, and one by one.

Generated video of 1280 x 720 pixels in LaSOT's layout, true boxes with noise, shipped weights. Decoding is part of the
time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from alpharefine.evaluation.config import DatasetConfig, EvaluationConfig, RefinerConfig, TrackerConfig
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.replay import BATCH_SIZE, ReplayJob, ReplayRunner
from alpharefine.evaluation.settings import resolve_runs
from alpharefine.synthetic import write_lasot
from benchmarks.rows import Row, alternate, medians

FRAME_SIZE = (720, 1280)
NUM_TRACKERS = 3


def measure(quick: bool) -> list[Row]:
    """Measure both ways.

    Args:
        quick: Refine two frames only.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_lasot(root / "lasot", num_train=0, num_test=1, num_frames=3 if quick else 60, frame_size=FRAME_SIZE)
        dataset_config = DatasetConfig(root=root / "lasot")
        dataset = open_dataset(dataset_config)
        jobs = [_job(dataset.load(name)) for name in dataset.names]
        tracker = TrackerConfig("replay", results_dir=root)
        runs = resolve_runs(EvaluationConfig(tracker, dataset_config, RefinerConfig(ckpt="ar18_cm")))
        refinement = runs.settings["refined"].refinement
        assert refinement is not None
        runners = {
            name: ReplayRunner(refinement, checkpoint=runs.checkpoint, batch_size=batch_size)
            for name, batch_size in (("batches", BATCH_SIZE), ("one by one", 1))
        }
        paths = {name: lambda runner=runner: list(runner.run_all(jobs)) for name, runner in runners.items()}
        seconds = medians(alternate(paths, 1 if quick else 3, warm_up=0 if quick else 1))
    num_boxes = NUM_TRACKERS * sum(len(job.sequence) for job in jobs)
    batched, single = (num_boxes / seconds[name] for name in ("batches", "one by one"))
    device = torch.device(runners["batches"].refiner.backend.device).type
    what = f"replay of {NUM_TRACKERS} trackers in batches of {BATCH_SIZE}, on {device}"
    return [Row(what, "boxes/s", batched, single, "one by one")]


def _job(sequence: EvaluationSequence) -> ReplayJob:
    """Return true boxes with noise for each tracker."""
    true_xywh, rng = sequence.truth.boxes_xywh, np.random.default_rng(0)
    noise = 0.05 * np.tile(true_xywh[:, 2:], 2) * rng.standard_normal((NUM_TRACKERS, *true_xywh.shape))
    return ReplayJob(sequence, {f"tracker {i}": true_xywh + noise[i] for i in range(NUM_TRACKERS)})
