"""Precise RoI pooling (arXiv 1807.11590, section 3.3), in closed form."""

from __future__ import annotations

import torch
from torch import Tensor


def precise_roi_pool(features: Tensor, boxes_xyxy: Tensor, output_size: int, spatial_scale: float) -> Tensor:
    """Mean of the bilinearly interpolated feature map over each bin of each box, exactly.

    The integral of the interpolation over a rectangle separates into one of hat functions along each axis, so a box
    costs two small matrix products. Cell ``(i, j)`` of the map stands at y = i, x = j, without a half-pixel shift, and
    everything outside of the map is zero. Differentiable in the features and in the boxes.

    Args:
        features: ``(B, C, H, W)``.
        boxes_xyxy: ``(B, N, 4)``, N boxes of each map, in pixels of what the map is of.
        output_size: bins along each side, n.
        spatial_scale: cells of the map over pixels.

    Returns:
        ``(B, N, C, n, n)`` in the dtype of the features. A box without area gives zeros.
    """
    # Small bins are differences of nearly equal integrals: in float32 those cancel.
    box = boxes_xyxy.double() * spatial_scale
    rows = _reached(box[..., 1::2], features.shape[-2])
    columns = _reached(box[..., ::2], features.shape[-1])
    weights_y = _bin_weights(box[..., 1], box[..., 3], output_size, rows).to(features.dtype)
    weights_x = _bin_weights(box[..., 0], box[..., 2], output_size, columns).to(features.dtype)
    seen = features[..., rows.start : rows.stop, columns.start : columns.stop]
    return torch.einsum("bnpi,bcij,bnqj->bncpq", weights_y, seen, weights_x)


def _reached(edges: Tensor, num_cells: int) -> range:
    """The cells along one axis that any box ``(..., 2)`` reaches; all of them on a GPU, which would have to wait."""
    if edges.is_cuda or edges.numel() == 0:
        return range(num_cells)
    first, last = edges.detach()[..., 0].amin().nan_to_num(0), edges.detach()[..., 1].amax().nan_to_num(num_cells)
    start, stop = int(first.floor().clamp(0, num_cells)), int((last.ceil() + 1).clamp(0, num_cells))
    return range(start, max(start, stop))


def _bin_weights(first: Tensor, last: Tensor, num_bins: int, reached: range) -> Tensor:
    """What each cell ``(M,)`` adds to each bin ``(n,)`` along one axis, for edges ``(..., )``: ``(..., n, M)``."""
    size = (last - first).clamp(min=0) / num_bins
    steps = torch.arange(num_bins + 1, dtype=first.dtype, device=first.device)
    edges = first[..., None] + size[..., None] * steps
    cells = torch.arange(reached.start, reached.stop, dtype=first.dtype, device=first.device)
    integrals = _hat_integral(edges[..., None] - cells)  # (..., n + 1, M)
    empty = (size == 0)[..., None, None]
    means = integrals.diff(dim=-2) / size[..., None, None].where(~empty, 1)
    return means.where(~empty, 0)


def _hat_integral(x: Tensor) -> Tensor:
    """Integral of the hat function ``max(0, 1 - |t|)`` from minus infinity to x."""
    x = x.clamp(-1, 1)
    return 0.5 + x - 0.5 * x * x.abs()
