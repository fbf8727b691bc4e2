"""Quantization of an exported search network to integers of 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.crops import GEOMETRIES
from alpharefine.inference.exported import CROPS, KERNELS
from alpharefine.inference.onnx_backend import OnnxBackend, seal
from alpharefine.synthetic.scenes import generate_sequence

_NUM_VIDEOS, _NUM_FRAMES, _FRAME_SIZE = 16, 4, (360, 480)

_JITTER = 0.08
"""Standard deviation of the shift of a side of a rough box, relative to the box."""


def quantize(path: Path, batch_size: int = 1) -> None:
    """Quantize the convolutions of an exported search network, in place.

    Weights are rounded to integers of 7 bits for each channel, and activations to 8 bits for each tensor: on processors
    without instructions for neural networks, sums of two products of 8 bits could overflow. The ranges of the
    activations are those on videos made of photographs. The first convolution, whose error reaches all others, stays in
    float32.

    Args:
        path: Path of the ONNX file. The template encoder lies beside it.
        batch_size: Batch size of the network.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inputs = _batches(calibration_inputs(OnnxBackend(path, "cpu")), batch_size)
    prepared, quantized = path.with_name("prepared.onnx"), path.with_name("quantized.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    first = next(node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv")
    quantize_static(
        prepared,
        quantized,
        SimpleNamespace(get_next=lambda: next(inputs, None)),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[first],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    quantized.replace(path)
    seal(path)


def calibration_inputs(backend: OnnxBackend) -> dict[str, np.ndarray]:
    """Return inputs of the search network: objects cut out of photographs, which move over other photographs.

    Args:
        backend: Backend that encodes the targets.
    """
    crops, kernels = [], []
    window, rng = GEOMETRIES[backend.geometry].window, np.random.default_rng(0)
    for index in range(_NUM_VIDEOS):
        video = generate_sequence(0, index, _NUM_FRAMES, _FRAME_SIZE, "photos")
        place = window.around(video.boxes_xywh[0])
        target_xyxy = place.to_crop(xywh_to_xyxy(video.boxes_xywh[:1]))
        (kernel,) = backend.encode_templates([place.cut(video.frames[0])], target_xyxy)
        for frame, box_xywh in zip(video.frames[1:], video.boxes_xywh[1:], strict=True):
            rough_xywh = box_xywh + _JITTER * np.tile(box_xywh[2:], 2) * rng.standard_normal(4)
            crops.append(window.around(rough_xywh).cut(frame))
            kernels.append(kernel)
    return {CROPS: np.stack(crops), KERNELS: np.stack(kernels)}


def _batches(inputs: dict[str, np.ndarray], batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches; the last row fills up the last one."""
    num_rows = len(inputs[CROPS])
    for start in range(0, num_rows, batch_size):
        rows = np.arange(start, start + batch_size).clip(max=num_rows - 1)
        yield {name: values[rows] for name, values in inputs.items()}
