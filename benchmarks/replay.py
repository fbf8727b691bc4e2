"""Boxes per second of a replay, in batches and one by one: ``python benchmarks/replay.py DATA RESULTS [CKPT]``.

DATA is a folder of LaSOT sequences, RESULTS a folder of trackers' results. Without CKPT the network is AR18 with random
weights; the time does not depend on them. The sequences are the two shortest that all trackers have. Decoding is part
of the time. The two paths run once each, on the GPU where there is one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from alpharefine.checkpoints.exported import save_exported
from alpharefine.evaluation.config import DatasetConfig, EvaluationConfig, RefinerConfig, TrackerConfig
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.replay import BATCH_SIZE, ReplayJob, ReplayRunner
from alpharefine.evaluation.settings import resolve_runs
from alpharefine.models import AlphaRefineNet, NetworkConfig
from alpharefine.trackers.result_files import find_results

NUM_SEQUENCES = 2


def main() -> None:
    """Measure and print."""
    dataset_config, results_dir = DatasetConfig(root=Path(sys.argv[1])), Path(sys.argv[2])
    dataset = open_dataset(dataset_config)
    trackers = [tracker for tracker in find_results(results_dir, dataset.names) if len(tracker.files) > 1]
    shared = [name for name in dataset.names if all(name in tracker.files for tracker in trackers)]
    sequences = sorted(map(dataset.load, shared), key=len)[:NUM_SEQUENCES]
    jobs = [
        ReplayJob(s, {t.name: t.boxes_xywh(s.name, s.truth.boxes_xywh[0], len(s)) for t in trackers}) for s in sequences
    ]
    num_boxes = sum(len(job.sequence) for job in jobs) * len(trackers)
    with tempfile.TemporaryDirectory() as folder:
        ckpt = sys.argv[3] if len(sys.argv) > 3 else random_checkpoint(Path(folder) / "random.safetensors")
        tracker = TrackerConfig("replay", results_dir=results_dir)
        runs = resolve_runs(EvaluationConfig(tracker, dataset_config, RefinerConfig(ckpt=ckpt)))
        refinement = runs.settings["refined"].refinement
        assert refinement is not None
        speeds = []
        for batch_size in (BATCH_SIZE, 1):
            runner = ReplayRunner(refinement, checkpoint=runs.checkpoint, batch_size=batch_size)
            list(runner.run_all(jobs[:1]))
            start = perf_counter()
            list(runner.run_all(jobs))
            speeds.append(num_boxes / (perf_counter() - start))
    batched, one_by_one = speeds
    print(
        f"{len(trackers)} trackers, {len(jobs)} sequences, {num_boxes} boxes on {runner.refiner.backend.device}, "
        f"{torch.get_num_threads()} threads: {batched:.1f} boxes a second in batches, {one_by_one:.1f} one by one, "
        f"ratio {batched / one_by_one:.2f}"
    )


def random_checkpoint(path: Path) -> str:
    """Write exported random weights of AR18 and return the path.

    Args:
        path: Path of the file.
    """
    save_exported(AlphaRefineNet(NetworkConfig("resnet18")), path)
    return str(path)


if __name__ == "__main__":
    main()
