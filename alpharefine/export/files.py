"""Export of a network: all files of a format, compared with PyTorch before they get their names."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from alpharefine.checkpoints.exported import save_exported
from alpharefine.errors import UserError, describe_exception
from alpharefine.export.comparison import Difference, Predict, predict_with, require_agreement
from alpharefine.export.programs import header_of, trace, write_onnx, write_torch_export
from alpharefine.export.quantization import quantize
from alpharefine.inference.backend import CropPredictions
from alpharefine.inference.exported import (
    CROPS,
    KERNELS,
    TARGETS,
    ExportHeader,
    ExportPrecision,
    output_names,
    predictions_of,
    template_path,
)
from alpharefine.inference.onnx_backend import OnnxBackend, require_packages
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.models import AlphaRefineNet, HeadName

ProgramFormat = Literal["onnx", "torch_export"]

_WRITERS = {"onnx": write_onnx, "torch_export": write_torch_export}


def with_heads(network: AlphaRefineNet, heads: Collection[HeadName]) -> AlphaRefineNet:
    """Return a network with some of the heads of another one.

    Args:
        network: Network to take the weights from.
        heads: Heads to keep.

    Raises:
        UserError: If the network does not have a head.
    """
    missing = sorted(set(heads) - set(network.heads))
    if missing:
        raise UserError(f"`--heads`: the network has the heads {list(network.heads)}, got {missing}; leave them out.")
    quality_head = network.config.quality_head if "corner" in heads else "none"
    smaller = AlphaRefineNet(replace(network.config, heads=tuple(heads), quality_head=quality_head))
    state = network.state_dict()
    smaller.load_state_dict({name: state[name] for name in smaller.state_dict()})
    return smaller.eval()


def save_weights(network: AlphaRefineNet, path: Path) -> None:
    """Write weights and configuration as a .safetensors file.

    Args:
        network: Network to write.
        path: Path of the new file.

    Raises:
        UserError: If the file exists or cannot be written.
    """
    require_free(path)
    part = path.with_name(f".{path.name}.part")
    try:
        save_exported(network, part)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); give another place.") from error
    finally:
        part.unlink(missing_ok=True)


def save_programs(
    network: AlphaRefineNet,
    path: Path,
    format_name: ProgramFormat,
    precision: ExportPrecision = "32",
    batch_size: int | None = None,
) -> Difference:
    """Write the search network and the template encoder, and return their largest difference from PyTorch.

    The files are complete, and have been read and compared, when they appear under their names.

    Args:
        network: Network to write, on the CPU.
        path: Path of the search network. The template encoder gets `template_path`.
        format_name: Format of the files.
        precision: Precision of the layers; 8 bits in ONNX only, see `quantize`.
        batch_size: Fixed batch size. None leaves it free.

    Raises:
        UserError: If a file exists or cannot be written, a package is missing, the format cannot express the network or
            the precision, or the predictions differ too much, see `alpharefine.export.comparison.TOLERANCES`.
    """
    if precision == "8" and format_name != "onnx":
        raise UserError(f"`--precision 8` is only possible with `--format onnx`, got {format_name}; export to ONNX.")
    for each in (path, template_path(path)):
        require_free(each)
    if format_name == "onnx":
        require_packages("onnx", "onnxscript", "onnxruntime")
    header = header_of(network, precision)
    try:
        with tempfile.TemporaryDirectory(prefix=".export", dir=path.parent) as folder:
            part = Path(folder) / path.name
            for program in trace(network, precision, batch_size):
                target = part if program.part == "search" else template_path(part)
                _WRITERS[format_name](program, header, target)
            if precision == "8":
                quantize(part, batch_size or 1)
            predict = predict_with(OnnxBackend(part, "cpu")) if format_name == "onnx" else _reloaded(part, header)
            reference = predict_with(TorchBackend(network, "cpu", "32"))
            difference = require_agreement(predict, reference, precision, batch_size)
            template_path(part).rename(template_path(path))
            part.rename(path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); give another place.") from error
    except Exception as error:  # the exporters raise errors of many types
        raise UserError(
            f"`--format {format_name}` cannot express the network {network.config} ({describe_exception(error)}); "
            "export it as .safetensors."
        ) from error
    return difference


def require_free(path: Path) -> None:
    """Raise an error if a new file cannot have a path.

    Args:
        path: Path of the new file.

    Raises:
        UserError: If the file exists, or its folder does not.
    """
    if path.exists():
        raise UserError(f"{path} exists, and is not overwritten; give another name.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path.parent} must be an existing folder; create it, or give another place.")


def _reloaded(path: Path, header: ExportHeader) -> Predict:
    """Read programs of `torch.export` again, and return a function that predicts with them."""
    encode, find = (torch.export.load(each).module() for each in (template_path(path), path))
    names = output_names(header.config.heads)

    @torch.inference_mode()
    def predict(crops: list[np.ndarray], targets_xyxy: np.ndarray) -> CropPredictions:
        images, targets = torch.from_numpy(np.stack(crops)), torch.from_numpy(targets_xyxy.astype(np.float32))
        kernels = encode(**{CROPS: images, **({TARGETS: targets} if header.takes_targets else {})})
        outputs = find(**{CROPS: images, KERNELS: kernels})
        return predictions_of({name: values.numpy() for name, values in zip(names, outputs, strict=True)})

    return predict
