"""Filters over feature maps: their scores, the adjoint of that, and how the first one is made.

Features are ``(N, S, C, H, W)``: N pictures of each of S targets; filters ``(S, C, k, k)``. Score maps have the side
H of the features, and one more for even k. Source: DiMP (arXiv 1904.07220), section 3.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from alpharefine.models import precise_roi_pool

STRIDE = 16
"""Crop pixels a feature cell."""


def apply_filter(features: Tensor, filters: Tensor) -> Tensor:
    """Scores ``(N, S, h, w)`` of each target's filter on its pictures: correlation, zeros outside.

    Sums over the channels first, as one matrix product over all pictures, and over the taps after it: a convolution
    with a single output channel is several times slower.
    """
    num_pictures, num_targets, channels, height, width = features.shape
    size = filters.shape[-1]
    taps = filters.reshape(num_targets, channels, size * size).transpose(1, 2)  # (S, k*k, C)
    products = taps @ features.flatten(3)  # (N, S, k*k, H*W)
    # `fold` adds tap (a, b) of the cell (y, x) to (y + a, x + b); scores take it from (y + a - k // 2, x + b - k // 2).
    flipped = products.flip(2).flatten(0, 1)
    full = F.fold(flipped, (height + size - 1, width + size - 1), size)  # (N*S, 1, H+k-1, W+k-1)
    start = (size - 1) - size // 2
    scores = full[:, 0, start : start + _map_side(height, size), start : start + _map_side(width, size)]
    return scores.reshape(num_pictures, num_targets, *scores.shape[1:])


def filter_gradient(features: Tensor, residuals: Tensor, size: int) -> Tensor:
    """The adjoint of `apply_filter` with respect to the filters.

    Args:
        features: ``(N, S, C, H, W)``.
        residuals: ``(N, S, h, w)``, as `apply_filter` returns scores.
        size: k.

    Returns:
        ``(S, C, k, k)``, summed over the pictures.
    """
    num_pictures, num_targets, channels, height, width = features.shape
    before, pad = size - 1 - size // 2, size // 2
    padded = F.pad(residuals.flatten(0, 1)[:, None], (before, pad, before, pad))
    padded = padded[..., : height + size - 1, : width + size - 1]
    windows = F.unfold(padded, size).reshape(num_pictures, num_targets, size * size, height * width).flip(2)
    gradient = (windows @ features.flatten(3).transpose(2, 3)).sum(dim=0)  # (S, k*k, C)
    return gradient.transpose(1, 2).reshape(num_targets, channels, size, size)


def _map_side(feature_side: int, size: int) -> int:
    return feature_side + (size + 1) % 2


class InstanceL2Norm(nn.Module):
    """Scales each picture's features to the same energy, ``H * W / k**2`` in all.

    Args:
        channels: C.
        filter_size: k.
    """

    def __init__(self, channels: int, filter_size: int) -> None:
        super().__init__()
        self.scale = (channels * filter_size**2) ** -0.5

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, H, W)`` to the same."""
        energy = features.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-5
        normalized: Tensor = features * (self.scale * (features[0].numel() / energy).sqrt())
        return normalized


class FilterInitializer(nn.Module):
    """The first filter: the mean of what lies under the boxes.

    Args:
        channels: C.
        filter_size: k.
    """

    def __init__(self, channels: int, filter_size: int) -> None:
        super().__init__()
        self.filter_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.filter_size = filter_size

    def forward(self, features: Tensor, boxes_xywh: Tensor) -> Tensor:
        """One target's filter.

        Args:
            features: ``(N, C, H, W)``.
            boxes_xywh: ``(N, 4)`` crop pixels.

        Returns:
            ``(1, C, k, k)``.
        """
        boxes_xyxy = box_convert(boxes_xywh, "xywh", "xyxy")[:, None]
        pooled: Tensor = precise_roi_pool(self.filter_conv(features), boxes_xyxy, self.filter_size, 1 / STRIDE)
        return pooled.mean(dim=0)
