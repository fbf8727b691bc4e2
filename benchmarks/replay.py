"""Frames a second of a replay, in batches against one by one: ``python benchmarks/replay.py DATA RESULTS [CKPT]``.

DATA is a folder of LaSOT sequences, RESULTS one of trackers' results; without CKPT the network is AR18 with random
weights (the time does not depend on them). The sequences are the two shortest that all trackers have. Every tracker's
box in a frame counts as a frame; decoding is part of the time. One run each, on the graphics card where there is one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from alpharefine.evaluation.sequences import SequenceSet

from alpharefine.evaluation.replay import Replay, ReplayJob
from alpharefine.evaluation.run import Pipeline, RunSettings
from alpharefine.trackers.result_files import find_results
from alpharefine.training.task import RefineTask

NUM_SEQUENCES = 2


def main() -> None:
    """Measure and print."""
    data, results_dir = Path(sys.argv[1]), Path(sys.argv[2])
    sequence_set = SequenceSet(data, None)
    trackers = [tracker for tracker in find_results(results_dir, sequence_set.names) if len(tracker.files) > 1]
    shared = [name for name in sequence_set.names if all(name in tracker.files for tracker in trackers)]
    sequences = sorted(map(sequence_set.load, shared), key=lambda sequence: len(sequence.truth.boxes_xywh))[
        :NUM_SEQUENCES
    ]
    with tempfile.TemporaryDirectory() as folder:
        ckpt = sys.argv[3] if len(sys.argv) > 3 else random_checkpoint(Path(folder) / "random.ckpt")
        settings = RunSettings("replay", ckpt=ckpt)
        jobs = [
            ReplayJob(
                sequence,
                {
                    tracker.name: tracker.boxes_xywh(
                        sequence.name, sequence.truth.boxes_xywh[0], len(sequence.truth.boxes_xywh)
                    )
                    for tracker in trackers
                },
            )
            for sequence in sequences
        ]
        num_frames = sum(len(job.sequence.truth.boxes_xywh) for job in jobs) * len(trackers)
        replay = Replay(settings)
        pipelines = [Pipeline(RunSettings("replay", ckpt=ckpt, results_dir=tracker.place)) for tracker in trackers]
        list(replay.run_all(jobs[:1]))
        start = perf_counter()
        list(replay.run_all(jobs))
        batched = num_frames / (perf_counter() - start)
        start = perf_counter()
        for pipeline in pipelines:
            list(pipeline.run_all(sequences))
        one_by_one = num_frames / (perf_counter() - start)
    print(
        f"{len(trackers)} trackers, {len(jobs)} sequences, {num_frames} boxes on {replay.refiner.backend.device}, "
        f"{torch.get_num_threads()} threads: {batched:.1f} frames a second in batches, {one_by_one:.1f} one by one, "
        f"ratio {batched / one_by_one:.2f}"
    )


def random_checkpoint(path: Path) -> str:
    """What `train.py` would write, with random weights."""
    task = RefineTask(backbone="resnet18", backbone_weights=None)
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}, path)
    return str(path)


if __name__ == "__main__":
    main()
