"""Frames that are decoded ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np

from alpharefine.data.images import read_image


def decoded(paths: Iterable[Path], num_threads: int, num_ahead: int) -> Generator[tuple[np.ndarray, float], None, None]:
    """Yield frames in order; threads decode the next ones meanwhile.

    Args:
        paths: Paths of the frames.
        num_threads: Number of threads.
        num_ahead: Maximum number of frames that are decoded ahead.

    Yields:
        RGB image ``(H, W, 3)``, uint8, and the milliseconds of its decoding.

    Raises:
        UserError: If a frame cannot be decoded, in its turn.
    """
    ahead: deque[Future[tuple[np.ndarray, float]]] = deque()
    pool = ThreadPoolExecutor(num_threads)
    try:
        for path in paths:
            ahead.append(pool.submit(_timed_image, path))
            if len(ahead) > num_ahead:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _timed_image(path: Path) -> tuple[np.ndarray, float]:
    start = perf_counter()
    return read_image(path), 1e3 * (perf_counter() - start)
