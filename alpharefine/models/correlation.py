"""Necks: how the template's features meet those of the search region (Alpha-Refine, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alpharefine.models.precision import at_least_float32
from alpharefine.models.roi import precise_roi_pool

NeckName = Literal["pixel", "pixel_gate_first", "naive", "depthwise"]
SpatialAttentionName = Literal["auto", "none", "non_local", "convolutions"]

KERNEL_SIZE = 8
"""Side of the template kernel in feature cells: the target's half of a 16x16 map at a search factor of 2."""

STRIDE = 16
"""Pixels of the crop for a cell of the map."""


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


def naive_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """Slide the whole kernel over the search map (SiamFC): ``(B, C, H, W)`` to ``(B, 1, H - k + 1, W - k + 1)``."""
    batch = len(search)
    return F.conv2d(search.flatten(0, 1)[None], kernel, groups=batch).transpose(0, 1)


def depthwise_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """The same channel by channel (SiamRPN++): ``(B, C, H, W)`` to ``(B, C, H - k + 1, W - k + 1)``."""
    batch, channels = search.shape[:2]
    maps = F.conv2d(search.flatten(0, 1)[None], kernel.flatten(0, 1)[:, None], groups=batch * channels)
    return maps.view(batch, channels, *maps.shape[-2:])


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


class NonLocalBlock(nn.Module):
    """Self-attention over the positions of a map, added to it (arXiv 1711.07971); starts as the identity.

    Args:
        channels: in and out; the attention runs on half as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels // 2, 1) for _ in range(3))
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.project = nn.Sequential(nn.Conv2d(channels // 2, channels, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every position of ``(B, C, H, W)`` to its 2x2 blocks."""
        query = self.query(x).flatten(2)  # (B, C/2, H*W)
        key, value = (F.max_pool2d(conv(x), 2).flatten(2) for conv in (self.key, self.value))  # (B, C/2, H*W/4)
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        attended = (weights @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[-2:])
        out: Tensor = self.project(attended) + x
        return out


class ResidualConvolutions(nn.Module):
    """Three 1x1 convolutions with batch norm, ReLU between them, added to their input.

    Args:
        channels: in and out, and between.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second, third = (conv_norm_relu(channels, channels, 1) for _ in range(3))
        self.layers = nn.Sequential(*first, *second, *third[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Add what the layers make of ``(B, C, H, W)``."""
        out: Tensor = x + self.layers(x)
        return out


class CorrelationNeck(nn.Module):
    """Correlation, three 1x1 layers and a channel gate: a search map and a template's kernel to ``(B, 64, 16, 16)``.

    Runs in float32 under autocast too: raw correlations reach 1e4 and more, where half precision is coarse or
    overflows.

    Args:
        name: ``pixel`` is the paper's; ``pixel_gate_first`` gates the raw correlation. ``naive`` and ``depthwise``
            slide the kernel, pooled from the target's box, over the search map.
        in_channels: of the maps.
        spatial_attention: what follows the gate: ``non_local``, a non-local block; ``convolutions``, three 1x1
            convolutions added to their input; or ``none``. ``auto`` is ``non_local`` where the kernel slides, else
            ``none``.

    Attributes:
        spatial_attention: the same, ``auto`` resolved.
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

    def __init__(
        self, name: NeckName = "pixel", in_channels: int = 256, spatial_attention: SpatialAttentionName = "auto"
    ) -> None:
        super().__init__()
        self.name = name
        self.spatial_attention: SpatialAttentionName = spatial_attention
        if spatial_attention == "auto":
            self.spatial_attention = "non_local" if self.slides else "none"
        self._correlate = self._correlations[name]
        channels = self.out_channels
        widths = (channels, 2 * channels, 2 * channels, channels)
        self.adjust = self.attention = None
        if self.slides:
            self.adjust = nn.Sequential(*conv_norm_relu(1 if name == "naive" else in_channels, channels, 3))
        if self.spatial_attention != "none":
            self.attention = self._attentions[self.spatial_attention](channels)
        self.post_correlation = nn.Sequential(
            *(layer for c_in, c_out in pairwise(widths) for layer in conv_norm_relu(c_in, c_out, 1))
        )
        self.gate = ChannelGate(channels)

    @property
    def slides(self) -> bool:
        """Whether the kernel is slid over the map, as opposed to compared cell by cell."""
        return self.name in ("naive", "depthwise")

    def kernel(self, template: Tensor, target_xyxy: Tensor | None = None) -> Tensor:
        """Take the target out of the template's map.

        Args:
            template: ``(B, C, 16, 16)``.
            target_xyxy: ``(B, 4)``, the target in pixels of the template crop, looked at where the kernel slides; the
                middle half of the crop by default.

        Returns:
            ``(B, C, 8, 8)``.
        """
        if not self.slides:
            return crop_kernel(template)
        if target_xyxy is None:
            quarter = template.shape[-1] * STRIDE / 4
            middle = torch.tensor([quarter, quarter, 3 * quarter, 3 * quarter], device=template.device)
            target_xyxy = middle.expand(len(template), 4)
        with torch.autocast(template.device.type, enabled=False):
            return precise_roi_pool(at_least_float32(template), target_xyxy[:, None], KERNEL_SIZE, 1 / STRIDE)[:, 0]

    def forward(self, search: Tensor, kernel: Tensor) -> Tensor:
        """Fuse the search map ``(B, C, n, n)`` with the template's kernel ``(B, C, 8, 8)``."""
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
    """A convolution that keeps the size, batch norm, ReLU."""
    return nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
