"""Search for weights that are not finite in ONNX files, which `cv2.dnn` does not show.

An ONNX file is a protocol-buffers message. Field numbers are those of `onnx.proto3`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_GRAPH = 7  # of a model
_NODE, _INITIALIZER = 1, 5  # of a graph
_OUTPUT, _ATTRIBUTE, _VALUE = 2, 5, 5  # of a node; the last of an attribute
_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 2, 4, 8, 9, 10  # of a tensor
_DTYPES = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}


def first_bad_tensor(model: bytes) -> str | None:
    """Return the name of the first tensor with values that are not finite; None if there is none.

    A single infinity is no weight but a bound, such as that of a clipping.

    Args:
        model: Content of an ONNX file.

    Raises:
        ValueError: If the content is not a protocol-buffers message.
    """
    for graph in _messages(memoryview(model), _GRAPH):
        tensors = [("", tensor) for tensor in _messages(graph, _INITIALIZER)]
        for node in _messages(graph, _NODE):
            outputs = [bytes(name).decode(errors="replace") for name in _messages(node, _OUTPUT)]
            for attribute in _messages(node, _ATTRIBUTE):
                tensors += [(", ".join(outputs), tensor) for tensor in _messages(attribute, _VALUE)]
        for owner, tensor in tensors:
            values = _values(tensor)
            if np.isnan(values).any() or (values.size > 1 and not np.isfinite(values).all()):
                return next((bytes(name).decode(errors="replace") for name in _messages(tensor, _NAME)), owner)
    return None


def _values(tensor: memoryview) -> np.ndarray:
    dtype = next((value for number, value in _fields(tensor) if number == _TYPE and isinstance(value, int)), 0)
    if dtype not in _DTYPES:
        return np.empty(0)
    kinds: dict[int, Any] = {_RAW: _DTYPES[dtype], _FLOATS: _DTYPES[1], _DOUBLES: _DTYPES[11]}
    values = [np.frombuffer(m, kind) for number, kind in kinds.items() for m in _messages(tensor, number)]
    return np.concatenate([np.empty(0), *values])


def _messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """Yield the submessages, strings and packed values with one field number."""
    for field, value in _fields(message):
        if field == number and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        length, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, len(message) + 1), at)
        if at + length > len(message):
            raise ValueError("A field exceeds its message.")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("A number has no end.")
