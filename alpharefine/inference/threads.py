"""Work of the host in threads, which goes on while its first results are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch

from alpharefine.crops import CROP_SIZE, Window

_CROPS_PER_TASK = 4


class Crops(Sequence[np.ndarray]):
    """Crops of windows, ``(256, 256, 3)`` uint8 RGB each, adjacent in memory.

    With more than a few windows, threads cut them, as many as torch has.

    Args:
        windows: N windows.
        frames: N frames ``(H, W, 3)`` uint8 RGB.
        pinned: Memory that a GPU can copy from while the host goes on.
    """

    def __init__(self, windows: Sequence[Window], frames: Sequence[np.ndarray], pinned: bool) -> None:
        shape = (len(windows), CROP_SIZE, CROP_SIZE, 3)
        self._pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned).numpy()

        def cut(i: int) -> None:
            windows[i].cut(frames[i], out=self._pixels[i])

        self._tasks = in_threads(cut, len(windows), _CROPS_PER_TASK)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: Any) -> np.ndarray:  # type: ignore[override] # some crops as one array
        """Return crops, and wait for them if necessary.

        Args:
            index: Number of a crop, or a slice.

        Returns:
            Crop ``(256, 256, 3)``, or crops ``(B, 256, 256, 3)``.
        """
        wanted = range(len(self))[index]
        for i in [wanted] if isinstance(wanted, int) else wanted:
            if self._tasks:
                self._tasks[i // _CROPS_PER_TASK].result()
        pixels: np.ndarray = self._pixels[index]
        return pixels


def in_threads(function: Callable[[int], None], num_calls: int, group: int = 1) -> list[Future[None]]:
    """Call a function with 0, 1 and so on in threads, as many as torch has, and return one task for each group.

    Args:
        function: Function that leaves the interpreter free most of the time, as those of OpenCV do.
        num_calls: Number of calls.
        group: Number of calls of one task. With no more calls than this, or one thread, all calls are done at once, and
            there are no tasks.
    """

    def run(some: range) -> None:
        for i in some:
            function(i)

    num_threads = torch.get_num_threads()
    if num_calls <= group or num_threads < 2:
        run(range(num_calls))
        return []
    starts = range(0, num_calls, group)
    return [_threads(num_threads).submit(run, range(start, min(start + group, num_calls))) for start in starts]


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="refiner")


os.register_at_fork(after_in_child=_threads.cache_clear)  # a forked process has no threads
