"""Necks: correlation of the features of template and search region (Alpha-Refine, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alpharefine.models.config import SLIDING_NECKS, NeckName, SpatialAttentionName
from alpharefine.models.precision import at_least_float32
from alpharefine.models.roi import precise_roi_pool

KERNEL_SIZE = 8
"""Side of the template kernel in feature cells: half of a 16x16 map, since the search factor is 2."""

STRIDE = 16
"""Crop pixels per cell of the feature map."""


def crop_kernel(features: Tensor) -> Tensor:
    """Cut the target out of the template's feature map: the middle half of each side.

    Args:
        features: Feature map of the template, ``(B, C, n, n)``.

    Returns:
        ``(B, C, n/2, n/2)``.
    """
    side = features.shape[-1]
    cells = slice(side // 4, side * 3 // 4)
    return features[..., cells, cells]


def pixel_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """Compute the dot product of every search cell with every kernel cell.

    Args:
        search: Feature map of the search region, ``(B, C, H, W)``.
        kernel: Kernel of the template, ``(B, C, k, k)``.

    Returns:
        ``(B, k*k, H, W)``; channel ``k * row + column`` belongs to the kernel cell at that row and column.
    """
    batch, _, height, width = search.shape
    products = kernel.flatten(2).transpose(1, 2) @ search.flatten(2)  # (B, k*k, H*W)
    return products.view(batch, -1, height, width)


def naive_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """Slide the kernel over the search map and sum over the channels (SiamFC, arXiv 1606.09549).

    Args:
        search: Feature map of the search region, ``(B, C, H, W)``.
        kernel: Kernel of the template, ``(B, C, k, k)``.

    Returns:
        ``(B, 1, H - k + 1, W - k + 1)``.
    """
    if torch.compiler.is_exporting():
        return _correlate_patches(search, kernel).sum(1, keepdim=True)
    batch = search.shape[0]
    return F.conv2d(search.flatten(0, 1)[None], kernel, groups=batch).transpose(0, 1)


def depthwise_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """Slide the kernel over the search map, each channel by itself (SiamRPN++, arXiv 1812.11703).

    Args:
        search: Feature map of the search region, ``(B, C, H, W)``.
        kernel: Kernel of the template, ``(B, C, k, k)``.

    Returns:
        ``(B, C, H - k + 1, W - k + 1)``.
    """
    if torch.compiler.is_exporting():
        return _correlate_patches(search, kernel)
    batch, channels = search.shape[:2]
    maps = F.conv2d(search.flatten(0, 1)[None], kernel.flatten(0, 1)[:, None], groups=batch * channels)
    return maps.view(batch, channels, *maps.shape[-2:])


def _correlate_patches(search: Tensor, kernel: Tensor) -> Tensor:
    """Compute `depthwise_correlation` by patches of the search map.

    Exported programs have no convolution whose number of groups depends on the batch size.
    """
    size = kernel.shape[-1]
    height, width = (side - size + 1 for side in search.shape[-2:])
    batch, channels = search.shape[:2]
    patches = F.unfold(search, size).view(batch, channels, size * size, height * width)
    return (patches * kernel.flatten(2)[..., None]).sum(2).view(batch, channels, height, width)


class ChannelGate(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507): scales each channel by a factor computed from all channel means.

    Args:
        channels: Input and output channels.
        reduction: Ratio of `channels` to the channels of the squeeze.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``(B, C, H, W)``."""
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class NonLocalBlock(nn.Module):
    """Self-attention over the positions of a map, added to the map (arXiv 1711.07971); initialized to the identity.

    Args:
        channels: Input and output channels; the attention uses half as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels // 2, 1) for _ in range(3))
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.project = nn.Sequential(nn.Conv2d(channels // 2, channels, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every position of ``(B, C, H, W)`` to the maxima of its 2x2 blocks."""
        query = self.query(x).flatten(2)  # (B, C/2, H*W)
        key, value = (F.max_pool2d(conv(x), 2).flatten(2) for conv in (self.key, self.value))  # (B, C/2, H*W/4)
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        attended = (weights @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[-2:])
        out: Tensor = self.project(attended) + x
        return out


class ResidualConvolutions(nn.Module):
    """Three 1x1 convolutions with batch norm and ReLU between them, added to their input.

    Args:
        channels: Input, hidden and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second, third = (conv_norm_relu(channels, channels, 1) for _ in range(3))
        self.layers = nn.Sequential(*first, *second, *third[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Add the output of the layers to their input ``(B, C, H, W)``."""
        out: Tensor = x + self.layers(x)
        return out


class CorrelationNeck(nn.Module):
    """Correlation of a search map with a template kernel, three 1x1 convolutions, and a channel gate.

    Runs in float32 even under autocast: raw correlations reach 1e4 and more, where half precision is coarse or
    overflows.

    Args:
        name: Kind of correlation. ``pixel`` is that of the paper; ``pixel_gate_first`` has the channel gate before the
            convolutions. ``naive`` and ``depthwise`` slide a kernel that is pooled from the target's box.
        in_channels: Channels of the feature maps.
        spatial_attention: Block after the gate: ``non_local``, ``convolutions`` (`ResidualConvolutions`) or ``none``.
    """

    out_channels = KERNEL_SIZE**2

    _correlations: ClassVar[dict[NeckName, Callable[[Tensor, Tensor], Tensor]]] = {
        "pixel": pixel_correlation,
        "pixel_gate_first": pixel_correlation,
        "naive": naive_correlation,
        "depthwise": depthwise_correlation,
    }

    _attentions: ClassVar[dict[SpatialAttentionName, Callable[[int], nn.Module]]] = {
        "non_local": NonLocalBlock,
        "convolutions": ResidualConvolutions,
    }

    def __init__(self, name: NeckName, in_channels: int, spatial_attention: SpatialAttentionName) -> None:
        super().__init__()
        self.name = name
        self.slides = name in SLIDING_NECKS
        self._correlate = self._correlations[name]
        channels = self.out_channels
        widths = (channels, 2 * channels, 2 * channels, channels)
        self.adjust = self.attention = None
        if self.slides:
            self.adjust = nn.Sequential(*conv_norm_relu(1 if name == "naive" else in_channels, channels, 3))
        if spatial_attention != "none":
            self.attention = self._attentions[spatial_attention](channels)
        self.post_correlation = nn.Sequential(
            *(layer for c_in, c_out in pairwise(widths) for layer in conv_norm_relu(c_in, c_out, 1))
        )
        self.gate = ChannelGate(channels)

    def kernel(self, template: Tensor, target_xyxy: Tensor | None = None) -> Tensor:
        """Extract the kernel of the target from the template's feature map.

        Args:
            template: Feature map of the template, ``(B, C, 16, 16)``.
            target_xyxy: ``(B, 4)``, target in pixels of the template crop, used by `SLIDING_NECKS`; the middle half of
                the crop by default.

        Returns:
            ``(B, C, 8, 8)``.
        """
        if not self.slides:
            return crop_kernel(template)
        if target_xyxy is None:
            quarter = template.shape[-1] * STRIDE / 4
            middle = torch.tensor([quarter, quarter, 3 * quarter, 3 * quarter], device=template.device)
            target_xyxy = middle.expand(template.shape[0], 4)
        with torch.autocast(template.device.type, enabled=False):
            return precise_roi_pool(at_least_float32(template), target_xyxy[:, None], KERNEL_SIZE, 1 / STRIDE)[:, 0]

    def forward(self, search: Tensor, kernel: Tensor) -> Tensor:
        """Fuse a search map with the template's kernel.

        Args:
            search: Feature map of the search region, ``(B, C, n, n)``.
            kernel: Kernel of the template, ``(B, C, 8, 8)``.

        Returns:
            ``(B, 64, n, n)``.
        """
        with torch.autocast(search.device.type, enabled=False):
            x = self._correlate(at_least_float32(search), at_least_float32(kernel))
            if self.adjust is not None:
                x = F.interpolate(self.adjust(x), search.shape[-2:], mode="bilinear", align_corners=False)
            if self.name == "pixel_gate_first":
                x = self.post_correlation(self.gate(x))
            else:
                x = self.gate(self.post_correlation(x))
            fused: Tensor = x if self.attention is None else self.attention(x)
        return fused


def conv_norm_relu(c_in: int, c_out: int, kernel_size: int) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    """Build a convolution that keeps the size, a batch norm and a ReLU.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Side of the convolution kernel, odd.
    """
    return nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
