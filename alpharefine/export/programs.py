"""Tracing of the two networks of an export, and their files."""

from __future__ import annotations

import hashlib
import warnings
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from alpharefine.crops import CROP_SIZE
from alpharefine.inference.exported import (
    CROPS,
    HEADER_KEY,
    KERNELS,
    TARGETS,
    ExportHeader,
    ExportPrecision,
    PartName,
    output_names,
)
from alpharefine.inference.networks import SearchNetwork, TemplateEncoder, set_precision
from alpharefine.inference.onnx_backend import seal
from alpharefine.models import AlphaRefineNet
from alpharefine.models.correlation import KERNEL_SIZE


class Program(NamedTuple):
    """Traced network.

    Attributes:
        part: Name of the network.
        exported: Program, on the CPU.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
    """

    part: PartName
    exported: ExportedProgram
    inputs: list[str]
    outputs: list[str]


def header_of(network: AlphaRefineNet, precision: ExportPrecision) -> ExportHeader:
    """Return the description of an export.

    Args:
        network: Network of the export.
        precision: Precision of its layers.
    """
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return ExportHeader(network.config, precision, digest.hexdigest())


def trace(network: AlphaRefineNet, precision: ExportPrecision, batch_size: int | None = None) -> list[Program]:
    """Trace the template encoder and the search network.

    Args:
        network: Network of the export, on the CPU.
        precision: Precision of its layers. 8 bits are traced in 32.
        batch_size: Fixed batch size. None leaves it free.
    """
    takes_targets, network = header_of(network, precision).takes_targets, deepcopy(network).eval()
    set_precision(network, "32" if precision == "8" else precision)
    num_crops = batch_size or 2  # the tracer takes an axis of one cell for one that always has one cell
    crops = torch.zeros(num_crops, CROP_SIZE, CROP_SIZE, 3, dtype=torch.uint8)
    targets_xyxy = torch.tensor([0.25, 0.25, 0.75, 0.75]).mul(CROP_SIZE).repeat(num_crops, 1)
    kernels = torch.zeros(num_crops, network.backbone.channels[-1], KERNEL_SIZE, KERNEL_SIZE)
    axes = {} if batch_size is not None else {0: Dim("batch")}

    def traced(part: PartName, module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> Program:
        with torch.no_grad():
            shapes = dict.fromkeys(inputs, axes)
            program = torch.export.export(module.eval(), (), inputs, dynamic_shapes=shapes)
        return Program(part, program, [*inputs], outputs)

    template_inputs = {CROPS: crops, TARGETS: targets_xyxy} if takes_targets else {CROPS: crops}
    search = SearchNetwork(network, network.heads)
    return [
        traced("template", TemplateEncoder(network), template_inputs, [KERNELS]),
        traced("search", search, {CROPS: crops, KERNELS: kernels}, output_names(network.heads)),
    ]


def write_onnx(program: Program, header: ExportHeader, path: Path) -> None:
    """Write a program as an ONNX file with the header among its metadata.

    Args:
        program: Program to write.
        header: Description of the export.
        path: Path of the new file.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of axes that are the same, and deprecations inside of the exporter
        written = torch.onnx.export(
            program.exported,
            input_names=program.inputs,
            output_names=program.outputs,
            dynamic_shapes={name: {0: "batch"} for name in program.inputs},  # names of the axes
            dynamo=True,
            verbose=False,
        )
    assert written is not None
    ClearMetadataAndDocStringPass()(written.model)  # paths and lines of the sources, for each layer
    written.model.metadata_props[HEADER_KEY] = header.to_json(program.part)
    written.save(path, external_data=False)
    seal(path)


def write_torch_export(program: Program, header: ExportHeader, path: Path) -> None:
    """Write a program for `torch.export.load`, with the header among its extra files.

    Args:
        program: Program to write.
        header: Description of the export.
        path: Path of the new file.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")  # convolutions in channels_last
        torch.export.save(program.exported, path, extra_files={HEADER_KEY: header.to_json(program.part)})
