"""Work of the host in threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Generic, TypeVar, overload

import torch

Result = TypeVar("Result")


class InThreads(Sequence[Result], Generic[Result]):
    """Results of a function, which threads compute while the first ones are used.

    As many threads as torch has work on it, and none if this is one.

    Args:
        function: Function that leaves the interpreter free most of the time, as those of OpenCV do.
        calls: Arguments of each call.
        group: Number of calls of one task. With no more calls than this, no thread is used.
    """

    def __init__(self, function: Callable[..., Result], calls: Sequence[tuple[object, ...]], group: int = 1) -> None:
        self._group, self._num_calls = group, len(calls)
        groups = [calls[start : start + group] for start in range(0, len(calls), group)]

        def run(some: Sequence[tuple[object, ...]]) -> list[Result]:
            return [function(*call) for call in some]

        self._done: list[list[Result] | Future[list[Result]]]
        if len(groups) > 1 and torch.get_num_threads() > 1:
            self._done = [_threads(torch.get_num_threads()).submit(run, each) for each in groups]
        else:
            self._done = [run(each) for each in groups]

    def __len__(self) -> int:
        return self._num_calls

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...

    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        """Return results, and wait for them if necessary."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        done = self._done[number // self._group]
        return (done.result() if isinstance(done, Future) else done)[number % self._group]


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="refiner")
