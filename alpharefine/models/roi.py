"""Precise RoI pooling (arXiv 1807.11590, section 3.3), in closed form."""

from __future__ import annotations

import torch
from torch import Tensor


def precise_roi_pool(features: Tensor, boxes_xyxy: Tensor, output_size: int, spatial_scale: float) -> Tensor:
    """Exact mean of the bilinearly interpolated feature map over each bin of each box.

    The integral of the interpolation over a rectangle separates into integrals of hat functions along each axis, so a
    box costs two small matrix products. Cell ``(i, j)`` of the map lies at y = i, x = j, without a half-pixel shift.
    The map is zero outside of its borders. Differentiable in the features and in the boxes.

    Args:
        features: Feature maps, ``(B, C, H, W)``.
        boxes_xyxy: N boxes for each map, ``(B, N, 4)`` in image pixels.
        output_size: Number n of bins along each side.
        spatial_scale: Ratio of cells of the map to image pixels.

    Returns:
        ``(B, N, C, n, n)`` in the dtype of the features. A box without area gives zeros.
    """
    # Small bins are differences of nearly equal integrals, which cancel in float32.
    box = boxes_xyxy.double() * spatial_scale
    rows = _covered_cells(box[..., 1::2], features.shape[-2])
    columns = _covered_cells(box[..., ::2], features.shape[-1])
    weights_y = _bin_weights(box[..., 1], box[..., 3], output_size, rows).to(features.dtype)
    weights_x = _bin_weights(box[..., 0], box[..., 2], output_size, columns).to(features.dtype)
    seen = features[..., rows.start : rows.stop, columns.start : columns.stop]
    return torch.einsum("bnpi,bcij,bnqj->bncpq", weights_y, seen, weights_x)


def _covered_cells(edges: Tensor, num_cells: int) -> range:
    """Cells along one axis that any box ``(..., 2)`` reaches.

    All cells on a GPU, to avoid a synchronization, and in exported programs, whose shapes cannot depend on values.
    """
    if edges.is_cuda or torch.compiler.is_exporting() or edges.numel() == 0:
        return range(num_cells)
    first, last = edges.detach()[..., 0].amin().nan_to_num(0), edges.detach()[..., 1].amax().nan_to_num(num_cells)
    start, stop = int(first.floor().clamp(0, num_cells)), int((last.ceil() + 1).clamp(0, num_cells))
    return range(start, max(start, stop))


def _bin_weights(first: Tensor, last: Tensor, num_bins: int, cells: range) -> Tensor:
    """Weights ``(..., n, M)`` of the M cells in the mean of each of n bins along one axis, for edges ``(...)``."""
    size = (last - first).clamp(min=0) / num_bins
    steps = torch.arange(num_bins + 1, dtype=first.dtype, device=first.device)
    edges = first[..., None] + size[..., None] * steps
    positions = torch.arange(cells.start, cells.stop, dtype=first.dtype, device=first.device)
    integrals = _hat_integral(edges[..., None] - positions)  # (..., n + 1, M)
    empty = (size == 0)[..., None, None]
    means = integrals.diff(dim=-2) / size[..., None, None].where(~empty, 1)
    return means.where(~empty, 0)


def _hat_integral(x: Tensor) -> Tensor:
    """Integral of the hat function ``max(0, 1 - |t|)`` from minus infinity to x."""
    x = x.clamp(-1, 1)
    return 0.5 + x - 0.5 * x * x.abs()
