"""Weights that are not finite in ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from alpharefine.errors import UserError
from alpharefine.trackers import load_tracker
from alpharefine.trackers.onnx_weights import first_bad_tensor

from .onnx_files import save_nano, save_vit


def model(*initializers: TensorProto, nodes: list[onnx.NodeProto] | None = None) -> bytes:
    return helper.make_model(helper.make_graph(nodes or [], "g", [], [], list(initializers))).SerializeToString()


def array(name: str, *values: float, dtype: str = "f4") -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda value: array("bad", 1, value),
        lambda value: array("bad", 1, value, dtype="f2"),
        lambda value: array("bad", 1, value, dtype="f8"),
        lambda value: helper.make_tensor("bad", TensorProto.FLOAT, [2], [1, value]),
        lambda value: helper.make_tensor("bad", TensorProto.DOUBLE, [2], [1, value]),
    ],
)
def test_the_first_bad_tensor_is_named(make: Callable[[float], TensorProto], value: float) -> None:
    good = array("good", 1, 2)
    assert first_bad_tensor(model(good, make(value), array("later", np.nan))) == "bad"
    node = helper.make_node("Constant", [], ["constant"], value=make(value))
    assert first_bad_tensor(model(good, nodes=[node])) == "bad"


def test_bounds_and_integers_are_no_weights() -> None:
    assert first_bad_tensor(model(array("most", np.inf), array("indices", 2**31 - 1, -1, dtype="i4"))) is None
    assert first_bad_tensor(model(array("none", np.nan))) == "none"


@pytest.mark.parametrize("content", [b"\x3a\x7f", b"\xff" * 20, b"\x3b"])
def test_other_content_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"exceeds|no end"):
        first_bad_tensor(content)


def test_a_tracker_refuses_the_file_by_name(tmp_path: Path) -> None:
    paths = [*save_nano(tmp_path), save_vit(tmp_path)]
    for path in paths:
        network = onnx.load(path)
        weights = network.graph.initializer[-1]
        values = numpy_helper.to_array(weights).copy()
        values.flat[0] = np.nan
        weights.CopyFrom(numpy_helper.from_array(values, weights.name))
        onnx.save(network, path)
    for name, files in (("nano", paths[:2]), ("vit", paths[2:])):
        with pytest.raises(UserError, match=rf"{files[0].name}: values of `\w+` are not finite"):
            load_tracker(name, weights=files)
