"""What ATOM's classifier looks at, what it should answer, and where in its answer a peak is looked for.

Source: ATOM (arXiv 1811.07628), section 3.2.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

_SMALLEST_ENERGY = 1e-10


def normalized(features: Tensor) -> Tensor:
    """Features ``(N, C, H, W)`` of each picture scaled to a mean square of 1."""
    energy = features.square().sum(dim=(1, 2, 3), keepdim=True) / features[0].numel()
    return features / (energy + _SMALLEST_ENERGY).sqrt()


def gaussian_labels(centers_yx: Tensor, num_cells: int, sigma: float) -> Tensor:
    """What the scores of samples should be.

    Args:
        centers_yx: ``(N, 2)`` of the targets, in cells from the middle of the map.
        num_cells: side n of the maps.
        sigma: width in cells.

    Returns:
        ``(N, n, n)``, 1 at most.
    """
    cells = torch.arange(num_cells, dtype=centers_yx.dtype, device=centers_yx.device) - (num_cells - 1) / 2
    dy, dx = ((cells - centers_yx[:, axis, None]).square() for axis in range(2))
    return torch.exp(-(dy[:, :, None] + dx[:, None, :]) / (2 * sigma**2))


def upsampled(scores: np.ndarray, size: int) -> np.ndarray:
    """A map interpolated by its Fourier series: two small matrix products.

    Cell i of the map stands at ``i * size / n``. The highest frequency of an even map counts twice, as in the authors'
    code.

    Args:
        scores: ``(n, n)`` float32, periodic.
        size: side of the larger map.

    Returns:
        ``(size, size)`` float32.
    """
    kernel = _fourier_kernel(len(scores), size)
    larger: np.ndarray = kernel @ scores @ kernel.T
    return larger


@cache
def _fourier_kernel(num_cells: int, size: int) -> np.ndarray:
    """``(size, n)``: the sum of all waves up to ``n // 2`` periods, about each cell."""
    offset = np.arange(size)[:, None] / size - np.arange(num_cells) / num_cells
    frequencies = np.arange(1, num_cells // 2 + 1)
    waves = 1 + 2 * np.cos(2 * np.pi * frequencies * offset[..., None]).sum(axis=-1)
    kernel: np.ndarray = (waves / num_cells).astype(np.float32)
    return kernel
