"""Inference with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch

from alpharefine.errors import UserError
from alpharefine.inference.backend import CropPredictions
from alpharefine.inference.exported import (
    CROPS,
    HEADER_KEY,
    KERNELS,
    TARGETS,
    ExportHeader,
    PartName,
    output_names,
    predictions_of,
    template_path,
)
from alpharefine.models import HeadName
from alpharefine.options import GeometryName

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_REASON_LENGTH = 200


class OnnxBackend:
    """An `InferenceBackend` that runs the two files of `alpharefine export --format onnx` in ONNX Runtime.

    Args:
        path: Path of the search network. The template encoder lies beside it, see `template_path`.
        device: ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` selects the GPU if ONNX Runtime has its CUDA provider.
        num_threads: Number of threads on the CPU. None takes the number of torch.

    Attributes:
        header: Description of the export.

    Raises:
        UserError: If a file is missing or damaged, is no exported network, or the files are of different exports; if
            ONNX Runtime is missing or does not have the device.
    """

    def __init__(self, path: str | Path, device: str = "auto", num_threads: int | None = None) -> None:
        path = Path(path)
        self._device = _resolve_device(device)
        threads = torch.get_num_threads() if num_threads is None else num_threads
        self._search = _open(path, self._device, threads)
        self._template = _open(template_path(path), self._device, threads)
        self.header = _header_of(self._search, path, "search")
        if _header_of(self._template, template_path(path), "template") != self.header:
            raise UserError(f"{template_path(path)} and {path} are of different exports; export the checkpoint again.")
        # Without this, ONNX Runtime also computes the heads that are not requested.
        self._options = _runtime().RunOptions()
        self._options.only_execute_path_to_fetches = True

    @property
    def geometry(self) -> GeometryName:
        """Crop geometry of the weights."""
        return self.header.config.geometry

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """Exported heads."""
        return self.header.config.heads

    @property
    def device(self) -> str:
        """Name of the device."""
        return self._device

    @property
    def precision(self) -> str:
        """Floating-point precision of the file."""
        return self.header.precision

    def encode_templates(self, crops: Sequence[np.ndarray], targets_xyxy: np.ndarray) -> list[np.ndarray]:
        """Encode targets.

        Args:
            crops: B template crops, ``(S, S, 3)`` uint8 RGB.
            targets_xyxy: ``(B, 4)``, targets in crop pixels.

        Returns:
            B kernels ``(C, 8, 8)``.
        """
        feeds = {CROPS: np.stack(crops)}
        if self.header.takes_targets:
            feeds[TARGETS] = targets_xyxy.astype(np.float32)
        (kernels,) = self._run(self._template, [KERNELS], feeds)
        return list(kernels)

    def predict(
        self, crops: Sequence[np.ndarray], templates: Sequence[np.ndarray], heads: Sequence[HeadName]
    ) -> CropPredictions:
        """Find the targets in search crops.

        Args:
            crops: B search crops, ``(S, S, 3)`` uint8 RGB, with any strides.
            templates: B kernels from `encode_templates`.
            heads: Heads to run.
        """
        names = output_names(tuple(heads))
        values = self._run(self._search, names, {CROPS: np.stack(crops), KERNELS: np.stack(templates)})
        return predictions_of(dict(zip(names, values, strict=True)))

    def _run(self, session: Any, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run a network. If its batch size is fixed, the batch is divided, and its last part filled up."""
        size, num_crops = session.get_inputs()[0].shape[0], len(feeds[CROPS])
        if not isinstance(size, int):
            outputs: list[np.ndarray] = session.run(names, feeds, self._options)
            return outputs
        parts = []
        for start in range(0, num_crops, size):
            rows = np.arange(start, start + size).clip(max=num_crops - 1)
            part = session.run(names, {name: values[rows] for name, values in feeds.items()}, self._options)
            parts.append([values[: num_crops - start] for values in part])
        return [np.concatenate(values) for values in zip(*parts, strict=True)]


def read_header(path: Path) -> ExportHeader:
    """Read the header of a search network.

    Args:
        path: Path of the file.

    Raises:
        UserError: If the file is missing or damaged, is no exported network, or ONNX Runtime is missing.
    """
    return _header_of(_open(path, "cpu", 1, optimize=False), path, "search")


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "ONNX files require ONNX Runtime, which is not installed; `pip install onnxruntime` (on a GPU "
            "onnxruntime-gpu), or give a checkpoint."
        ) from error
    return onnxruntime


def _resolve_device(device: str) -> str:
    has_cuda = _CUDA in _runtime().get_available_providers()
    if device == "auto":
        return "cuda:0" if has_cuda else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise UserError(f"The device of an ONNX file must be auto, cpu, cuda or cuda:<number>, got {device!r}.")
    if kind == "cuda" and not has_cuda:
        raise UserError(
            f"The installed ONNX Runtime has no CUDA provider for the device {device!r}; install onnxruntime-gpu in "
            "its place, or choose the device cpu."
        )
    return device


def _open(path: Path, device: str, num_threads: int, optimize: bool = True) -> Any:
    """Load a network."""
    runtime = _runtime()
    if not path.is_file():
        raise UserError(f"No file {path}; an export consists of <name>.onnx and <name>_template.onnx in one folder.")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = num_threads, 3
    if not optimize:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    kind, _, index = device.partition(":")
    # TF32 would round float32 to 10 bits of mantissa.
    cuda = (_CUDA, {"device_id": index or "0", "use_tf32": "0"})
    try:
        session = runtime.InferenceSession(path, options, providers=[_CPU] if kind == "cpu" else [cuda, _CPU])
    except Exception as error:  # ONNX Runtime has a type for every status, without a common base
        raise UserError(f"{path} cannot be read as an ONNX network ({shorten(str(error), _REASON_LENGTH)}).") from error
    if kind == "cuda" and _CUDA not in session.get_providers():
        raise UserError(
            f"ONNX Runtime cannot use the device {device!r}: its CUDA provider does not load; install the CUDA and "
            "cuDNN libraries that it asks for, or choose the device cpu."
        )
    return session


def _header_of(session: Any, path: Path, part: PartName) -> ExportHeader:
    text = session.get_modelmeta().custom_metadata_map.get(HEADER_KEY)
    if text is None:
        raise UserError(f"{path} is no file of `alpharefine export`; export a checkpoint to ONNX, and give that file.")
    return ExportHeader.from_json(text, part, str(path))
