"""Filters over feature maps: their scores, the adjoint, and the initial filter.

Features are ``(N, S, C, H, W)`` for N images of each of S targets; filters are ``(S, C, k, k)``. Score maps have the
side H of the features, plus one for an even k.

Source: DiMP (arXiv 1904.07220), section 3.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from alpharefine.models import precise_roi_pool

STRIDE = 16
"""Crop pixels per feature cell."""


def apply_filter(features: Tensor, filters: Tensor) -> Tensor:
    """Correlate each target's filter with its images, with zeros outside the maps.

    The channels are summed first, in one matrix product over all images, and the positions of the filter afterwards. A
    convolution with a single output channel is several times slower.

    Args:
        features: Feature maps, ``(N, S, C, H, W)``.
        filters: Filters, ``(S, C, k, k)``.

    Returns:
        Scores, ``(N, S, h, w)``.
    """
    num_images, num_targets, channels, height, width = features.shape
    size = filters.shape[-1]
    taps = filters.reshape(num_targets, channels, size * size).transpose(1, 2)  # (S, k*k, C)
    products = taps @ features.flatten(3)  # (N, S, k*k, H*W)
    # `fold` adds position (a, b) of the filter at cell (y, x) to (y + a, x + b); the score of (y, x) needs the value of
    # cell (y + a - k // 2, x + b - k // 2), hence the flip.
    flipped = products.flip(2).flatten(0, 1)
    full = F.fold(flipped, (height + size - 1, width + size - 1), size)  # (N*S, 1, H+k-1, W+k-1)
    start = (size - 1) - size // 2
    scores = full[:, 0, start : start + _map_side(height, size), start : start + _map_side(width, size)]
    return scores.reshape(num_images, num_targets, *scores.shape[1:])


def filter_gradient(features: Tensor, residuals: Tensor, size: int) -> Tensor:
    """Apply the adjoint of `apply_filter` with respect to the filters.

    Args:
        features: Feature maps, ``(N, S, C, H, W)``.
        residuals: Residuals of the scores, ``(N, S, h, w)``.
        size: Side k of the filters.

    Returns:
        Gradient summed over the images, ``(S, C, k, k)``.
    """
    num_images, num_targets, channels, height, width = features.shape
    before, pad = size - 1 - size // 2, size // 2
    padded = F.pad(residuals.flatten(0, 1)[:, None], (before, pad, before, pad))
    padded = padded[..., : height + size - 1, : width + size - 1]
    windows = F.unfold(padded, size).reshape(num_images, num_targets, size * size, height * width).flip(2)
    gradient = (windows @ features.flatten(3).transpose(2, 3)).sum(dim=0)  # (S, k*k, C)
    return gradient.transpose(1, 2).reshape(num_targets, channels, size, size)


def _map_side(feature_side: int, size: int) -> int:
    return feature_side + (size + 1) % 2


class InstanceL2Norm(nn.Module):
    """Scales the features of each image to the same energy, ``H * W / k**2`` in total.

    Args:
        channels: Number of channels C.
        filter_size: Side k of the filter.
    """

    def __init__(self, channels: int, filter_size: int) -> None:
        super().__init__()
        self.scale = (channels * filter_size**2) ** -0.5

    def forward(self, features: Tensor) -> Tensor:
        """Normalize features ``(N, C, H, W)``."""
        energy = features.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-5
        normalized: Tensor = features * (self.scale * (features[0].numel() / energy).sqrt())
        return normalized


class FilterInitializer(nn.Module):
    """Computes the initial filter as the mean of the features inside the boxes.

    Args:
        channels: Number of channels C.
        filter_size: Side k of the filter.
    """

    def __init__(self, channels: int, filter_size: int) -> None:
        super().__init__()
        self.filter_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.filter_size = filter_size

    def forward(self, features: Tensor, boxes_xywh: Tensor) -> Tensor:
        """Return the filter of one target.

        Args:
            features: Feature maps, ``(N, C, H, W)``.
            boxes_xywh: Boxes of the target, ``(N, 4)`` in crop pixels.

        Returns:
            Filter, ``(1, C, k, k)``.
        """
        boxes_xyxy = box_convert(boxes_xywh, "xywh", "xyxy")[:, None]
        pooled: Tensor = precise_roi_pool(self.filter_conv(features), boxes_xyxy, self.filter_size, 1 / STRIDE)
        return pooled.mean(dim=0)
