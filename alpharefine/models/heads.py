"""The two heads: corners by soft-argmax, and a mask (Alpha-Refine, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alpharefine.models.backbone import Taps
from alpharefine.models.correlation import conv_norm_relu


class Corners(NamedTuple):
    """Output of the corner head.

    Attributes:
        crop_xyxy: ``(B, 4)`` float32, pixels of the crop, corners not ordered.
        scores: ``(B, 2, n, n)`` float32, the score maps of the top-left and the bottom-right corner before the softmax.
    """

    crop_xyxy: Tensor
    scores: Tensor

    @property
    def heat(self) -> Tensor:
        """``(B, 2, n, n)``, the softmax of each score map: non-negative, sum 1."""
        return self.scores.flatten(2).softmax(-1).view_as(self.scores)

    @property
    def peak(self) -> Tensor:
        """``(B,)``, the highest cell of the heat of the less certain of the two corners, in 0..1."""
        return self.scores.flatten(2).softmax(-1).amax(-1).amin(-1)


def soft_argmax(scores: Tensor, crop_size: int) -> Tensor:
    """Expected position under the softmax of a score map.

    Cell ``i`` of ``n`` stands at ``crop_size * i / (n - 1)``, so the first and the last cell lie on the borders of the
    crop and every position in it can be reached. Deviation: the original's grid ends one cell earlier (at 240 of 256).

    Args:
        scores: ``(..., n, n)``.
        crop_size: side of the crop in pixels.

    Returns:
        ``(..., 2)``, x and y in crop pixels, in the dtype of `scores`, under autocast too.
    """
    grid = torch.linspace(0, crop_size, scores.shape[-1], device=scores.device, dtype=scores.dtype)
    prob = scores.flatten(-2).softmax(-1).view_as(scores)
    # Not a matrix product: autocast would run that in half precision, which is coarse by up to a pixel.
    return torch.stack([(prob.sum(-2) * grid).sum(-1), (prob.sum(-1) * grid).sum(-1)], dim=-1)


class CornerHead(nn.Module):
    """Two towers of convolutions, one a corner, each ending in a score map.

    Args:
        in_channels: of the fused map.
        crop_size: side of the crop in pixels.
    """

    widths = (256, 128, 64, 32)

    def __init__(self, in_channels: int = 64, crop_size: int = 256) -> None:
        super().__init__()
        self.crop_size = crop_size
        self.top_left = self._tower(in_channels)
        self.bottom_right = self._tower(in_channels)

    def _tower(self, in_channels: int) -> nn.Sequential:
        widths = (in_channels, *self.widths)
        layers = [nn.Sequential(*conv_norm_relu(a, b, 3)) for a, b in zip(widths, self.widths, strict=False)]
        return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, fused: Tensor) -> Corners:
        """Predict the two corners from ``(B, 64, n, n)``."""
        scores = torch.cat([self.top_left(fused), self.bottom_right(fused)], dim=1).float()
        return Corners(soft_argmax(scores, self.crop_size).flatten(1), scores)


class MaskHead(nn.Module):
    """A top-down path from the fused map through ``layer2``, ``layer1`` and ``conv1`` to a mask of the crop."""

    def __init__(self, in_channels: int = 64) -> None:
        super().__init__()
        self.adjust_conv1 = nn.Sequential(*conv_norm_relu(64, 64, 1))
        self.adjust_layer1 = nn.Sequential(*conv_norm_relu(64, 256, 1))
        self.adjust_layer2 = nn.Sequential(*conv_norm_relu(128, 512, 1))
        self.top2 = _two_convs(in_channels, 32, 32)
        self.side2 = _two_convs(512, 128, 32)
        self.merge2 = nn.Conv2d(32, 16, 3, padding=1)
        self.top1 = _two_convs(16, 16, 16)
        self.side1 = _two_convs(256, 64, 16)
        self.merge1 = nn.Conv2d(16, 4, 3, padding=1)
        self.top0 = _two_convs(4, 4, 4)
        self.side0 = _two_convs(64, 16, 4)
        self.merge0 = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, fused: Tensor, taps: Taps) -> Tensor:
        """Predict the logits ``(B, S/2, S/2)`` of the mask from the fused map ``(B, 64, S/16, S/16)`` and the taps."""
        x = _upsample_to(self.top2(fused), taps.layer2) + self.side2(self.adjust_layer2(taps.layer2))
        x = self.merge2(x)  # (B, 16, S/8, S/8)
        x = _upsample_to(self.top1(x), taps.layer1) + self.side1(self.adjust_layer1(taps.layer1))
        x = self.merge1(x)  # (B, 4, S/4, S/4)
        x = _upsample_to(self.top0(x), taps.conv1) + self.side0(self.adjust_conv1(taps.conv1))
        logits: Tensor = self.merge0(x).squeeze(1)  # (B, S/2, S/2)
        return logits


def _two_convs(c_in: int, c_mid: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_mid, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_mid, c_out, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _upsample_to(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
