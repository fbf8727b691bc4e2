"""Functions recorded as CUDA graphs, which start all of their kernels at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_WARM_UP_CALLS = 2
"""Calls before the recording, in which libraries choose their algorithms and allocate memory."""


class GraphedFunction:
    """A function of tensors that runs as a CUDA graph. The first call with new shapes records it.

    A small network on a GPU takes longer to be started kernel by kernel than to be computed. On the CPU the function is
    called as it is.

    Args:
        function: Function of tensors that returns tensors on the same device, in a tuple of any nesting. Its kernels
            depend only on the shapes and types of its arguments: it reads no value on the host. Tensors that it reads
            besides its arguments, such as weights, must stay where they are.
        pads: The arguments are batches of one length. The length is rounded up to a power of two, so that few graphs
            are recorded. The rows that are added to the results are computed from arguments of earlier calls.
    """

    def __init__(self, function: Callable[..., Any], pads: bool = False) -> None:
        self._function, self._pads = function, pads
        self._graphs: dict[tuple[object, ...], _Graph] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which records its own graphs."""
        return {**vars(self), "_graphs": {}}

    def __call__(self, *inputs: Tensor, device: torch.device) -> Any:
        """Call the function. On a GPU, one thread at a time may do so.

        Args:
            inputs: Arguments, on the device or on the host. Pinned memory of the host is copied while the host goes on.
            device: Device to run on.

        Returns:
            Results of the function. Those on a GPU are valid until the next call.
        """
        if device.type != "cuda":
            return self._function(*inputs)
        shapes = [(self._padded(each.shape), each.dtype) for each in inputs]
        key = (device, *shapes)
        with torch.cuda.device(device):
            if key not in self._graphs:
                arguments = [torch.zeros(shape, dtype=dtype, device=device) for shape, dtype in shapes]
                self._graphs[key] = _Graph(self._function, arguments)
            return self._graphs[key](*inputs)

    def _padded(self, shape: torch.Size) -> tuple[int, ...]:
        """Return the shape of an argument in a graph."""
        return (1 << (shape[0] - 1).bit_length(), *shape[1:]) if self._pads else tuple(shape)


class _Graph:
    """Recording of a function.

    Args:
        function: Function to record.
        arguments: Its arguments, in whose memory those of each call are copied.
    """

    def __init__(self, function: Callable[..., Any], arguments: list[Tensor]) -> None:
        self._arguments = arguments
        self._graph = torch.cuda.CUDAGraph()
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_CALLS):
                function(*arguments)
        current.wait_stream(stream)
        # The default stream of a recording belongs to the device of the process's first one. Other threads may go on to
        # use the GPU.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._outputs = function(*arguments)

    def __call__(self, *inputs: Tensor) -> Any:
        """Compute the results of arguments with at most as many rows as those of the recording."""
        for mine, given in zip(self._arguments, inputs, strict=True):
            (mine if mine.shape == given.shape else mine[: len(given)]).copy_(given, non_blocking=True)
        self._graph.replay()
        return self._outputs


def side_by_side(first: Callable[[], Tensor], second: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Call two functions that do not depend on each other. In a CUDA graph, their kernels run at the same time.

    Args:
        first: Function of no arguments.
        second: Function of no arguments.

    Returns:
        Results of both.
    """
    # The compiler cannot trace `is_current_stream_capturing`.
    if torch.compiler.is_compiling() or not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
        return first(), second()
    stream, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(stream)
    with torch.cuda.stream(side):
        other = second()
    one = first()
    stream.wait_stream(side)
    return one, other
