"""Milliseconds a crop of the network in PyTorch and in ONNX Runtime: ``python benchmarks/onnx_runtime.py``.

Exports the shipped weights, then calls the two alternately, so that both see the same load of the machine. Medians of
the processor time of single calls on one thread, after a warm-up.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from time import process_time

import numpy as np
import torch

from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.export.comparison import sample_crops
from alpharefine.export.files import save_programs
from alpharefine.inference.backend import InferenceBackend
from alpharefine.inference.onnx_backend import OnnxBackend
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.models import HeadName

WARM_UP, CALLS = 3, 40


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    network = load_checkpoint("ar18_cm").network
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ar18.onnx"
        print(f"difference from PyTorch: {save_programs(network, path, 'onnx')}")
        backends: dict[str, InferenceBackend] = {
            "PyTorch": TorchBackend(network, "cpu", "32"),
            "ONNX Runtime": OnnxBackend(path, "cpu"),
        }
        heads: dict[str, list[HeadName]] = {"template": [], "box": ["corner"], "box + mask": ["corner", "mask"]}
        for output, wanted in heads.items():
            for batch in (1, 8):
                report(f"{output:10} batch {batch}", backends, wanted, batch)


def report(what: str, backends: dict[str, InferenceBackend], heads: list[HeadName], batch: int) -> None:
    """Print the medians of the backends, and that of the ratios of calls that follow each other."""
    crops, targets_xyxy = sample_crops(batch)
    times: dict[str, list[float]] = {name: [] for name in backends}
    templates = {name: backend.encode_templates(crops, targets_xyxy) for name, backend in backends.items()}
    for _ in range(WARM_UP + CALLS):
        for name, backend in backends.items():
            start = process_time()
            if heads:
                backend.predict(crops, templates[name], heads)
            else:
                backend.encode_templates(crops, targets_xyxy)
            times[name].append(1e3 * (process_time() - start) / batch)
    medians = {name: statistics.median(each[WARM_UP:]) for name, each in times.items()}
    first, second = (np.array(each[WARM_UP:]) for each in times.values())
    texts = [f"{name} {median:6.1f}" for name, median in medians.items()]
    print(f"{what}: {', '.join(texts)} ms a crop, ratio {np.median(first / second):.2f}", flush=True)


if __name__ == "__main__":
    main()
