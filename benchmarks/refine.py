"""Time of a refinement and of refinements in batches, by network, on the GPU if there is one.

On the CPU one thread is used. On a GPU, as many threads as torch has cut the crops of batches, those of the reference,
too, and OpenCV has one: more make the cut of a single crop slower. The reference is the plain network in float32,
without TF32 and with its batch norms. Crop, transfer to the device and the way back are part of the time. The weights
are random; the time does not depend on them. The limit is the time of the network's floating-point operations at the
rate of a large matrix product in the same precision, which convolutions can exceed. There is none for 8 bits.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from alpharefine import Refiner
from alpharefine.crops import CROP_SIZE
from alpharefine.export.files import save_programs
from alpharefine.inference.backend import CropPredictions, InferenceBackend
from alpharefine.inference.exported import ExportPrecision
from alpharefine.inference.onnx_backend import OnnxBackend
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.models import AlphaRefineNet, BackboneName, HeadName, NetworkConfig
from alpharefine.models.precision import full_float32
from benchmarks.rows import Row, alternate

NETWORKS: dict[str, tuple[BackboneName, tuple[HeadName, ...]]] = {
    "AR34, corner": ("resnet34", ("corner",)),
    "AR18, corner + mask": ("resnet18", ("corner", "mask")),
}

FRAME_SIZE = (720, 1280)
BOX_XYWH = np.array([600.0, 300.0, 120.0, 90.0])
NUM_THREADS = 1
DTYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
NOTE = "plain float32"


class PlainBackend:
    """The network as it was trained, in float32, called layer by layer."""

    precision = "32"

    def __init__(self, network: AlphaRefineNet, device: str) -> None:
        self._network, self.device = copy.deepcopy(network).eval().to(device), device
        self.geometry, self.heads = network.geometry, network.heads

    def encode_templates(self, crops: Sequence[np.ndarray], targets_xyxy: np.ndarray) -> list[Tensor]:  # noqa: ARG002 - middle of the crop
        """Encode targets, see `InferenceBackend`."""
        with torch.inference_mode(), full_float32():
            return list(self._network.encode_template(self._images(crops)))

    def predict(
        self, crops: Sequence[np.ndarray], templates: Sequence[Tensor], heads: Sequence[HeadName]
    ) -> CropPredictions:
        """Find the targets in search crops, see `InferenceBackend`."""
        with torch.inference_mode(), full_float32():
            prediction = self._network(self._images(crops), torch.stack(list(templates)), heads)
            masks = None if prediction.mask_logits is None else prediction.mask_logits.sigmoid().cpu().numpy()
            return CropPredictions(prediction.corners.crop_xyxy.cpu().numpy(), prediction.score.cpu().numpy(), masks)

    def _images(self, crops: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2)


def measure(quick: bool) -> list[Row]:
    """Measure one thread of the CPU, or the GPU.

    Args:
        quick: Take a few calls of the smaller network only.
    """
    before = torch.get_num_threads(), cv2.getNumThreads()
    if not torch.cuda.is_available():
        torch.set_num_threads(NUM_THREADS)
    cv2.setNumThreads(NUM_THREADS)
    try:
        names = list(NETWORKS)[-1:] if quick else NETWORKS
        return [row for name in names for row in _measure_network(name, quick)]
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _measure_network(name: str, quick: bool) -> list[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone, heads = NETWORKS[name]
    network = AlphaRefineNet(NetworkConfig(backbone, heads)).eval()
    with torch.no_grad():
        for tower in (network.corner_head.top_left, network.corner_head.bottom_right):  # type: ignore[union-attr]
            tower[-1].weight.mul_(1e-3)  # type: ignore[index,union-attr] # or rounding would move the peaks
    with tempfile.TemporaryDirectory() as folder:
        backends: dict[str, InferenceBackend] = {
            "plain": PlainBackend(network, device),
            "default": TorchBackend(network, device),
        }
        if device == "cpu":
            precisions: tuple[ExportPrecision, ...] = ("32", "8")
            for precision in precisions:
                path = Path(folder) / f"{precision}.onnx"
                save_programs(network.float(), path, "onnx", precision)
                backends[f"ONNX Runtime, {precision}"] = OnnxBackend(path, device)
        rows = []
        for batch in (1,) if quick else (1, 8) if device == "cpu" else (1, 128):
            calls = 1 if quick else (30 if batch == 1 else 8) * (1 if device == "cpu" else 5)
            paths = {each: _refinement(Refiner(backend), batch, "mask" in heads) for each, backend in backends.items()}
            times = alternate(paths, calls, warm_up=0 if quick else 3)
            operations = batch * _count_operations(network, heads)
            limits_s = {
                each: operations / _operations_per_s(backend.precision, device)
                for each, backend in backends.items()
                if backend.precision in DTYPES
            }
            rows += _rows(f"refine, {name}", batch, times, backends, limits_s)
    return rows


def _count_operations(network: AlphaRefineNet, heads: tuple[HeadName, ...]) -> int:
    """Return the number of floating-point operations of one search crop."""
    crop = torch.zeros(1, 3, CROP_SIZE, CROP_SIZE, device=network.mean.device)
    with torch.inference_mode():
        kernel = network.encode_template(crop)
        with FlopCounterMode(display=False) as counter:
            network(crop, kernel, heads)
    return int(counter.get_total_flops())


@cache
def _operations_per_s(precision: str, device: str) -> float:
    """Return the best rate of a large matrix product."""
    size = 8192 if device == "cuda" else 2048
    factor = torch.rand(size, size, device=device, dtype=DTYPES[precision])
    # The sum waits for the device.
    times = alternate({"product": lambda: (factor @ factor).sum().item()}, rounds=5)
    return 2 * size**3 / min(times["product"])


def _refinement(refiner: Refiner, batch: int, mask: bool) -> Callable[[], object]:
    frame = np.random.default_rng(0).integers(0, 256, (*FRAME_SIZE, 3), dtype=np.uint8)
    templates = [refiner.encode_template(frame, BOX_XYWH)] * batch
    return lambda: refiner.refine_many([frame] * batch, [BOX_XYWH] * batch, templates, mask)


def _rows(
    what: str, batch: int, times: dict[str, list[float]], backends: dict[str, Any], limits_s: dict[str, float]
) -> list[Row]:
    plain = np.array(times.pop("plain"))
    rows = []
    for name, each in times.items():
        path = f"{name.partition(',')[0]}, {backends[name].precision} on {torch.device(backends[name].device).type}"
        limit_s = limits_s.get(name)
        note = NOTE if limit_s is None else f"{NOTE}; limit: operations"
        if batch == 1:
            for quantile, label in ((0.5, "p50"), (0.99, "p99")):
                value, reference = (1e3 * float(np.quantile(seconds, quantile)) for seconds in (each, plain))
                limit = None if limit_s is None else 1e3 * limit_s
                rows.append(Row(f"{what}, {path}, {label}", "ms", value, reference, note, limit))
        else:
            value, reference = (batch / float(np.median(seconds)) for seconds in (each, plain))
            limit = None if limit_s is None else batch / limit_s
            rows.append(Row(f"{what}, {path}, batches of {batch}", "boxes/s", value, reference, note, limit))
    return rows
