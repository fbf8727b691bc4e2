"""Pixel-wise correlation of the template with the search region (Alpha-Refine, section 3.2)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

KERNEL_SIZE = 8
"""Side of the template kernel in feature cells: the target's half of a 16x16 map at a search factor of 2."""


def crop_kernel(features: Tensor) -> Tensor:
    """Cut the target, the centred half of each side, out of the template's feature map.

    Args:
        features: ``(B, C, n, n)``.

    Returns:
        ``(B, C, n/2, n/2)``.
    """
    side = features.shape[-1]
    cells = slice(side // 4, side * 3 // 4)
    return features[..., cells, cells]


def pixel_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """Dot product of every search cell with every kernel cell.

    Args:
        search: ``(B, C, H, W)``.
        kernel: ``(B, C, k, k)``.

    Returns:
        ``(B, k*k, H, W)``; channel ``k * row + column`` belongs to that kernel cell.
    """
    batch, _, height, width = search.shape
    products = kernel.flatten(2).transpose(1, 2) @ search.flatten(2)  # (B, k*k, H*W)
    return products.view(batch, -1, height, width)


class ChannelGate(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507): each channel scaled by a factor read off all channel means.

    Args:
        channels: in and out.
        reduction: the squeeze has ``channels / reduction`` channels.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``(B, C, H, W)``."""
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class PixelCorrelationNeck(nn.Module):
    """Correlation, three 1x1 layers, channel gate: ``(B, 256, 16, 16)`` and a kernel to ``(B, 64, 16, 16)``.

    Runs in float32 under autocast too: raw correlations reach 1e4 and more, where half precision is coarse or
    overflows.
    """

    out_channels = KERNEL_SIZE**2

    def __init__(self) -> None:
        super().__init__()
        channels = self.out_channels
        widths = (channels, 2 * channels, 2 * channels, channels)
        self.post_correlation = nn.Sequential(
            *(layer for c_in, c_out in pairwise(widths) for layer in conv_norm_relu(c_in, c_out, 1))
        )
        self.gate = ChannelGate(channels)

    def forward(self, search: Tensor, kernel: Tensor) -> Tensor:
        """Fuse the search map ``(B, 256, n, n)`` with the template's kernel ``(B, 256, 8, 8)``."""
        with torch.autocast(search.device.type, enabled=False):
            correlation = pixel_correlation(search.float(), kernel.float())
            fused: Tensor = self.gate(self.post_correlation(correlation))
        return fused


def conv_norm_relu(c_in: int, c_out: int, kernel_size: int) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    """A convolution that keeps the size, batch norm, ReLU."""
    return nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
