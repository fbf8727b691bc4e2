"""Arithmetic that does not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one CPU thread, because torch rounds some sums and resized pixels differently with several threads.

    A worker process has fewer threads than a single process. Box search and conjugate gradients can amplify the last
    digit of a pixel to a difference of pixels.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
