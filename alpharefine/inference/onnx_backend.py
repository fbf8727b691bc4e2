"""Inference with ONNX Runtime."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from onnx import ModelProto

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_REASON_LENGTH = 200

_DIGEST_KEY = "alpharefine_sha256"
"""Key of the digest in the metadata of a file."""


class OnnxBackend:
    """An `InferenceBackend` that runs the two files of `alpharefine export --format onnx` in ONNX Runtime.

    Args:
        path: Path of the search network. The template encoder lies beside it, see `template_path`.
        device: ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` selects the GPU if ONNX Runtime has its CUDA provider. Files
            in 8 bits run on the CPU alone.
        num_threads: Number of threads on the CPU. None takes the number of torch.

    Attributes:
        header: Description of the export.

    Raises:
        UserError: If a file is missing or damaged, is no exported network, or the files are of different exports; if a
            package of the extra ``onnx`` is missing, or ONNX Runtime does not have the device.
    """

    def __init__(self, path: str | Path, device: str = "auto", num_threads: int | None = None) -> None:
        path = Path(path)
        self._model, self.header = _read(path, "search")
        self._device, self._num_threads = _resolve_device(device, self.header), num_threads
        template, header = _read(template_path(path), "template")
        if header != self.header:
            raise UserError(f"{template_path(path)} and {path} are of different exports; export the checkpoint again.")
        self._template = self._open(template)
        self._search: dict[tuple[HeadName, ...], Any] = {}

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
        """Precision of the file."""
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
        return list(self._run(self._template, feeds)[KERNELS])

    def predict(
        self, crops: Sequence[np.ndarray], templates: Sequence[np.ndarray], heads: Sequence[HeadName]
    ) -> CropPredictions:
        """Find the targets in search crops.

        Args:
            crops: B search crops, ``(S, S, 3)`` uint8 RGB, with any strides.
            templates: B kernels from `encode_templates`.
            heads: Heads to run.
        """
        key = tuple(heads)
        if key not in self._search:
            self._search[key] = self._open(_with_outputs(self._model, output_names(heads)))
        return predictions_of(self._run(self._search[key], {CROPS: np.stack(crops), KERNELS: np.stack(templates)}))

    def _run(self, session: Any, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a network. If its batch size is fixed, the batch is divided, and its last part filled up."""
        names = [output.name for output in session.get_outputs()]
        size, num_crops = session.get_inputs()[0].shape[0], len(feeds[CROPS])
        if not isinstance(size, int):
            return dict(zip(names, session.run(names, feeds), strict=True))
        parts = []
        for start in range(0, num_crops, size):
            rows = np.arange(start, start + size).clip(max=num_crops - 1)
            part = session.run(names, {name: values[rows] for name, values in feeds.items()})
            parts.append([values[: num_crops - start] for values in part])
        return {name: np.concatenate(values) for name, *values in zip(names, *parts, strict=True)}

    def _open(self, model: ModelProto) -> Any:
        """Load a network onto the device."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads() if self._num_threads is None else self._num_threads
        kind, _, index = self._device.partition(":")
        # TF32 would round float32 to 10 bits of mantissa.
        cuda = (_CUDA, {"device_id": index or "0", "use_tf32": "0"})
        providers = [_CPU] if kind == "cpu" else [cuda, _CPU]
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        if kind == "cuda" and _CUDA not in session.get_providers():
            raise UserError(
                f"ONNX Runtime cannot use the device {self._device!r}: its CUDA provider does not load; install the "
                "CUDA and cuDNN libraries that it asks for, or run on the CPU: choose the device cpu, or set "
                "CUDA_VISIBLE_DEVICES to nothing."
            )
        return session


def read_header(path: Path) -> ExportHeader:
    """Read the header of a search network.

    Args:
        path: Path of the file.

    Raises:
        UserError: If the file is missing or damaged, is no exported network, or a package is missing.
    """
    return _read(path, "search")[1]


def seal(path: Path) -> None:
    """Write the digest of the weights into a file, by which `OnnxBackend` detects damage.

    Args:
        path: Path of an exported network.
    """
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {**_metadata(model), _DIGEST_KEY: _digest_of(model)})
    onnx.save(model, path)


def require_packages(*names: str) -> None:
    """Raise an error if a package of the extra ``onnx`` is missing.

    Args:
        names: Names of the modules.

    Raises:
        UserError: If a package is missing.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX files require {', '.join(missing)}; `pip install 'alpharefine[onnx]'`.")


def _resolve_device(device: str, header: ExportHeader) -> str:
    import onnxruntime

    has_cuda = header.precision != "8" and _CUDA in onnxruntime.get_available_providers()
    if device == "auto":
        return "cuda:0" if has_cuda else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise UserError(f"The device of an ONNX file must be auto, cpu, cuda or cuda:<number>, got {device!r}.")
    if kind == "cuda" and header.precision == "8":
        raise UserError(
            f"A file in 8 bits is for CPUs, got the device {device!r}; export the checkpoint again in 16 bits, or run "
            "on the CPU: choose the device cpu, or set CUDA_VISIBLE_DEVICES to nothing."
        )
    if kind == "cuda" and not has_cuda:
        raise UserError(
            f"The installed ONNX Runtime has no CUDA provider for the device {device!r}; install onnxruntime-gpu in "
            "its place, or run on the CPU: choose the device cpu, or set CUDA_VISIBLE_DEVICES to nothing."
        )
    return device


def _read(path: Path, part: PartName) -> tuple[ModelProto, ExportHeader]:
    """Read a network and its header."""
    require_packages("onnx", "onnxruntime")
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise UserError(f"No file {path}; an export consists of <name>.onnx and <name>_template.onnx in one folder.")
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = shorten(str(error), _REASON_LENGTH)
        raise UserError(f"{path} cannot be read as an ONNX network ({reason}); export the checkpoint again.") from error
    text = _metadata(model).get(HEADER_KEY)
    if text is None:
        raise UserError(f"{path} is no file of `alpharefine export`; export a checkpoint to ONNX, and give that file.")
    header = ExportHeader.from_json(text, part, str(path))
    if _metadata(model).get(_DIGEST_KEY) != _digest_of(model):
        raise UserError(f"{path} has other weights than it was exported with; copy it again, or export the checkpoint.")
    return model, header


def _metadata(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _digest_of(model: ModelProto) -> str:
    """Compute the SHA-256 digest of the tensors of a network."""
    from onnx.numpy_helper import to_array

    digest = hashlib.sha256()
    for tensor in model.graph.initializer:
        digest.update(tensor.name.encode())
        digest.update(np.ascontiguousarray(to_array(tensor)).data)
    return digest.hexdigest()


def _with_outputs(model: ModelProto, names: list[str]) -> ModelProto:
    """Return a network without the layers that the outputs do not need: ONNX Runtime computes all that it is given."""
    import onnx

    if names == [output.name for output in model.graph.output]:
        return model
    inputs = [each.name for each in model.graph.input]
    return onnx.utils.Extractor(model).extract_model(inputs, names)
