"""Arithmetic that does not depend on how many threads there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread of the CPU: torch rounds some sums and resized pixels otherwise in several.

    A process among several has fewer threads than one alone, and the box search and conjugate gradients can turn the
    last digit of a pixel into a box that differs by pixels.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
