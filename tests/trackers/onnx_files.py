"""Small random ONNX files with the inputs and outputs that OpenCV's trackers ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = list[int | str]


def save_vit(folder: Path, score_bias: float = 0.0) -> Path:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["template", "patches"], ["z"], strides=[16, 16], kernel_shape=[16, 16]),
        helper.make_node("GlobalAveragePool", ["z"], ["pooled"]),
        helper.make_node("Conv", ["search", "patches"], ["x"], strides=[16, 16], kernel_shape=[16, 16]),
        helper.make_node("Mul", ["x", "pooled"], ["product"]),
    ]
    constants = [_constant(rng, "patches", 8, 3, 16, 16, scale=0.03)]
    for index, (channels, gain) in enumerate(((1, 1.0), (2, 0.02), (2, 1.0)), start=1):
        nodes.append(helper.make_node("Conv", ["product", f"w{index}", f"b{index}"], [f"l{index}"]))
        nodes.append(helper.make_node("Sigmoid", [f"l{index}"], [f"output{index}"]))
        bias = np.full(channels, (score_bias, -1.0, 0.0)[index - 1], dtype=np.float32)  # boxes of a quarter of the crop
        constants += [
            _constant(rng, f"w{index}", channels, 8, 1, 1, scale=gain),
            numpy_helper.from_array(bias, f"b{index}"),
        ]
    inputs: list[tuple[str, Shape]] = [("template", [1, 3, 128, 128]), ("search", [1, 3, 256, 256])]
    outputs: list[tuple[str, Shape]] = [(f"output{i + 1}", [1, n, 16, 16]) for i, n in enumerate((1, 2, 2))]
    return _save(folder / "vit.onnx", nodes, inputs, outputs, constants)


def save_dasiamrpn(folder: Path) -> list[Path]:
    """The three files; tensors have the names of the published ones, by which OpenCV finds the template's place."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["0", "stem"], ["61"], strides=[8, 8], kernel_shape=[15, 15]),
        helper.make_node("Relu", ["61"], ["62"]),
        helper.make_node("AveragePool", ["62"], ["63"], kernel_shape=[10, 10], strides=[1, 1]),
        helper.make_node("Conv", ["63", "box_search"], ["64"], group=256, kernel_shape=[3, 3]),
        helper.make_node("Conv", ["64", "box_kernel"], ["65"], kernel_shape=[4, 4]),
        helper.make_node("Conv", ["65", "adjust"], ["66"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["63", "score_search"], ["67"], group=256, kernel_shape=[3, 3]),
        helper.make_node("Conv", ["67", "score_kernel"], ["68"], kernel_shape=[4, 4]),
    ]
    constants = [
        _constant(rng, "stem", 256, 3, 15, 15, scale=0.0002),
        _constant(rng, "box_search", 256, 1, 3, 3, scale=0.1),
        _constant(rng, "box_kernel", 20, 256, 4, 4),
        _constant(rng, "adjust", 20, 20, 1, 1, scale=0.1),
        _constant(rng, "score_search", 256, 1, 3, 3, scale=0.05),
        _constant(rng, "score_kernel", 10, 256, 4, 4),
    ]
    outputs: list[tuple[str, Shape]] = [("66", [1, 20, "a", "b"]), ("68", [1, 10, "a", "b"])]
    paths = [_save(folder / "model.onnx", nodes, [("0", [1, 3, "h", "w"])], outputs, constants)]
    for name, channels in (("kernel_cls1", 2560), ("kernel_r1", 5120)):
        node = helper.make_node("Conv", ["x", "w"], ["y"], group=256, kernel_shape=[3, 3])
        weight = _constant(rng, "w", channels, 1, 3, 3, scale=0.2)
        paths.append(
            _save(folder / f"{name}.onnx", [node], [("x", [1, 256, 6, 6])], [("y", [1, channels, 4, 4])], [weight])
        )
    return paths


def save_nano(folder: Path, grid: int = 16) -> list[Path]:
    """Backbone and head; the head's maps have 16 cells a side in v2, 15 in v3."""
    rng = np.random.default_rng(0)
    kernel = 17 - grid
    stem = helper.make_node("Conv", ["x", "stem"], ["y"], strides=[16, 16], kernel_shape=[16, 16], pads=[0, 0, 1, 1])
    backbone = _save(
        folder / "backbone.onnx",
        [stem],
        [("x", [1, 3, "h", "w"])],
        [("y", [1, 8, "a", "b"])],
        [_constant(rng, "stem", 8, 3, 16, 16, scale=0.0005)],
    )
    nodes = [
        helper.make_node("GlobalAveragePool", ["input1"], ["pooled"]),
        helper.make_node("Mul", ["input2", "pooled"], ["product"]),
        helper.make_node("Conv", ["product", "score"], ["output1"], kernel_shape=[kernel, kernel]),
        helper.make_node("Conv", ["product", "sides"], ["logits"], kernel_shape=[kernel, kernel]),
        helper.make_node("Sigmoid", ["logits"], ["probs"]),
        helper.make_node("Mul", ["probs", "reach"], ["output2"]),
    ]
    constants = [
        _constant(rng, "score", 2, 8, kernel, kernel),
        _constant(rng, "sides", 4, 8, kernel, kernel, scale=0.3),
        numpy_helper.from_array(np.array([120.0], dtype=np.float32), "reach"),
    ]
    inputs: list[tuple[str, Shape]] = [("input1", [1, 8, 8, 8]), ("input2", [1, 8, 16, 16])]
    outputs: list[tuple[str, Shape]] = [("output1", [1, 2, grid, grid]), ("output2", [1, 4, grid, grid])]
    return [backbone, _save(folder / "head.onnx", nodes, inputs, outputs, constants)]


def _constant(rng: np.random.Generator, name: str, *shape: int, scale: float = 1.0) -> onnx.TensorProto:
    return numpy_helper.from_array((scale * rng.standard_normal(shape)).astype(np.float32), name)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, Shape]],
    outputs: list[tuple[str, Shape]],
    constants: list[onnx.TensorProto],
) -> Path:
    described = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values]
        for values in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "network", *described, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), path)
    return path
