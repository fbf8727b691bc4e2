"""Inputs, labels and upsampled scores of ATOM's classifier.

Source: ATOM (arXiv 1811.07628), section 3.2.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

_SMALLEST_ENERGY = 1e-10


def normalized(features: Tensor) -> Tensor:
    """Scale the features of each image to a mean square of 1.

    Args:
        features: Feature maps, ``(N, C, H, W)``.
    """
    energy = features.square().sum(dim=(1, 2, 3), keepdim=True) / features[0].numel()
    return features / (energy + _SMALLEST_ENERGY).sqrt()


def gaussian_labels(centers_yx: Tensor, num_cells: int, sigma: float) -> Tensor:
    """Return a Gaussian label map for each sample.

    Args:
        centers_yx: Centers of the targets, ``(N, 2)`` in cells from the middle of the map.
        num_cells: Side n of the maps in cells.
        sigma: Standard deviation in cells.

    Returns:
        Label maps, ``(N, n, n)`` with values in 0..1.
    """
    cells = torch.arange(num_cells, dtype=centers_yx.dtype, device=centers_yx.device) - (num_cells - 1) / 2
    dy, dx = ((cells - centers_yx[:, axis, None]).square() for axis in range(2))
    return torch.exp(-(dy[:, :, None] + dx[:, None, :]) / (2 * sigma**2))


def upsampled(scores: np.ndarray, size: int) -> np.ndarray:
    """Interpolate a score map by its Fourier series, in two small matrix products.

    Cell i of the map lies at ``i * size / n``. The highest frequency of a map with an even side counts twice, as in the
    authors' code.

    Args:
        scores: Periodic score map, ``(n, n)`` float32.
        size: Side of the result in cells.

    Returns:
        Score map, ``(size, size)`` float32.
    """
    kernel = _fourier_kernel(len(scores), size)
    larger: np.ndarray = kernel @ scores @ kernel.T
    return larger


@cache
def _fourier_kernel(num_cells: int, size: int) -> np.ndarray:
    """Return ``(size, n)``: the sum of all waves of up to ``n // 2`` periods, centered on each cell."""
    offset = np.arange(size)[:, None] / size - np.arange(num_cells) / num_cells
    frequencies = np.arange(1, num_cells // 2 + 1)
    waves = 1 + 2 * np.cos(2 * np.pi * frequencies * offset[..., None]).sum(axis=-1)
    kernel: np.ndarray = (waves / num_cells).astype(np.float32)
    return kernel
