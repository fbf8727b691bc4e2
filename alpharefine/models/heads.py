"""Corner heads and mask heads (Alpha-Refine, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alpharefine.crops import CROP_SIZE
from alpharefine.models.backbone import FeaturePyramid
from alpharefine.models.config import CornerHeadName, MaskHeadName, QualityHeadName
from alpharefine.models.correlation import conv_norm_relu
from alpharefine.models.cuda_graphs import side_by_side
from alpharefine.models.precision import at_least_float32

_MIN_CELLS = 0.01
"""Smallest area by which a mean over a box is divided, in cells."""

_MIN_PROB = 1e-6
"""Probabilities are clamped to at least this, and at most one minus this, before the logit."""


class Corners(NamedTuple):
    """Output of a corner head.

    Attributes:
        crop_xyxy: ``(B, 4)``, boxes in crop pixels; the corners may be out of order.
        scores: ``(B, K, n, n)``, score maps before the softmax: K = 2 for the top-left and the bottom-right
            corner, 4 for the four edges, 1 for the whole box, 0 for a head without score maps.
    """

    crop_xyxy: Tensor
    scores: Tensor

    @property
    def heat(self) -> Tensor:
        """Softmax of each score map, ``(B, K, n, n)``."""
        return self.scores.flatten(2).softmax(-1).view_as(self.scores)

    @property
    def peak(self) -> Tensor:
        """Lowest of the maxima of the heat maps, ``(B,)`` in 0..1; 1 for a head without score maps."""
        if not self.scores.shape[1]:
            return self.scores.new_ones(self.scores.shape[0])
        return self.scores.flatten(2).softmax(-1).amax(-1).amin(-1)


class Grid(NamedTuple):
    """Positions of the cells of a score map along either side of the crop.

    Attributes:
        crop_size: Side of the crop in pixels.
        reaches_end: True if the first and the last cell lie on the borders of the crop, so that every position in it
            can be predicted. In the geometry ``original`` the grid ends one cell earlier (at 240 of 256).
    """

    crop_size: int
    reaches_end: bool = True

    def positions(self, like: Tensor) -> Tensor:
        """Positions ``(n,)`` in crop pixels for a map ``(..., n, n)``, with the type and device of the map."""
        n = like.shape[-1]
        last = self.crop_size if self.reaches_end else self.crop_size * (n - 1) / n
        return torch.linspace(0, last, n, device=like.device, dtype=like.dtype)


def soft_argmax(scores: Tensor, grid: Grid) -> Tensor:
    """Expected position under the softmax of a score map.

    Args:
        scores: Score maps, ``(..., n, n)``.
        grid: Positions of the cells.

    Returns:
        ``(..., 2)``, x and y in crop pixels, in the dtype of `scores` even under autocast.
    """
    positions = grid.positions(scores)
    prob = scores.flatten(-2).softmax(-1).view_as(scores)
    # A matrix product would run in half precision under autocast, with errors of up to a pixel.
    return torch.stack([(prob.sum(-2) * positions).sum(-1), (prob.sum(-1) * positions).sum(-1)], dim=-1)


class TowersHead(nn.Module):
    """One tower of convolutions per corner, each ending in a score map (the paper's head).

    Args:
        in_channels: Channels of the fused map.
        grid: Positions of the cells of the score maps.
        fine: Double the size of the map after each of the four layers, for score maps of 256 cells a side.
    """

    widths = (256, 128, 64, 32)

    def __init__(self, in_channels: int, grid: Grid, fine: bool = False) -> None:
        super().__init__()
        self.grid, self.fine = grid, fine
        self.top_left = _tower(in_channels, self.widths, 1)
        self.bottom_right = _tower(in_channels, self.widths, 1)

    def forward(self, fused: Tensor) -> Corners:
        """Predict the two corners from ``(B, C, n, n)``."""
        towers = (partial(self._scores, tower, fused) for tower in (self.top_left, self.bottom_right))
        scores = at_least_float32(torch.cat(side_by_side(*towers), dim=1))
        return Corners(soft_argmax(scores, self.grid).flatten(1), scores)

    def _scores(self, tower: nn.Sequential, x: Tensor) -> Tensor:
        *layers, last = tower
        for layer in layers:
            x = layer(x)
            if self.fine:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        scores: Tensor = last(x)
        return scores


class SharedTowerHead(nn.Module):
    """One tower of convolutions for both corners, with one score map per corner.

    Args:
        in_channels: Channels of the fused map.
        grid: Positions of the cells of the score maps.
    """

    def __init__(self, in_channels: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        widths = (in_channels, *(128,) * 4)
        self.tower = nn.Sequential(*(nn.Sequential(*conv_norm_relu(a, b, 3)) for a, b in pairwise(widths)))
        self.top_left, self.bottom_right = nn.Conv2d(128, 1, 1), nn.Conv2d(128, 1, 1)

    def forward(self, fused: Tensor) -> Corners:
        """Predict the two corners from ``(B, C, n, n)``."""
        x = self.tower(fused)
        scores = at_least_float32(torch.cat([self.top_left(x), self.bottom_right(x)], dim=1))
        return Corners(soft_argmax(scores, self.grid).flatten(1), scores)


class ExtremeHead(nn.Module):
    """One tower of convolutions, with a score map and a map of offsets for each of the four edges.

    Args:
        in_channels: Channels of the fused map.
        grid: Positions of the cells of the score maps.
    """

    def __init__(self, in_channels: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.tower = _tower(in_channels, (256, 256, 256, 512), 8)

    def forward(self, fused: Tensor) -> Corners:
        """Predict x1, y1, x2, y2 from ``(B, C, n, n)``."""
        scores, offsets = at_least_float32(self.tower(fused)).chunk(2, dim=1)  # (B, 4, n, n) each
        columns = self.grid.positions(scores).expand_as(scores)
        positions = torch.where(_is_x(scores), columns, columns.transpose(-2, -1)) + offsets
        prob = scores.flatten(2).softmax(-1)
        return Corners((prob * positions.flatten(2)).sum(-1), scores)


class RPNHead(nn.Module):
    """A box and a confidence at every cell; the prediction is the box of the most confident cell.

    Args:
        in_channels: Channels of the fused map.
        grid: Positions of the cells of both maps.
    """

    widths = (256,) * 4

    def __init__(self, in_channels: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.boxes = _tower(in_channels, self.widths, 4)
        self.confidence = _tower(in_channels, self.widths, 1)

    def forward(self, fused: Tensor) -> Corners:
        """Predict x1, y1, x2, y2 from ``(B, C, n, n)``."""
        offsets, scores = at_least_float32(self.boxes(fused)), at_least_float32(self.confidence(fused))
        x1, x2, y1, y2 = offsets.unbind(1)
        offsets = torch.stack([x1, y1, x2, y2], dim=1)
        columns = self.grid.positions(offsets).expand_as(offsets)
        positions = torch.where(_is_x(offsets), columns, columns.transpose(-2, -1)) + offsets
        best = scores.flatten(1).argmax(-1)[:, None, None].expand(-1, 4, -1)  # (B, 4, 1)
        return Corners(positions.flatten(2).gather(2, best)[..., 0], scores)


class BoxHead(nn.Module):
    """One box per crop, relative to the middle box with half of the crop's sides.

    Args:
        in_channels: Channels of the fused map.
        grid: Grid with the size of the crop.
        name: Kind of the last layers. ``box`` averages the map; ``box_relu`` also clamps the output to non-negative
            values, so that a box can only grow (the original's oldest version); ``box_conv`` and ``box_conv_narrow``
            end in a 16x16 convolution.
    """

    def __init__(self, in_channels: int, grid: Grid, name: CornerHeadName = "box") -> None:
        super().__init__()
        self.grid = grid
        self.layers: nn.Module
        if name in ("box", "box_relu"):
            widths: tuple[int, ...] = (64, 64)
            kernel_size, c_mid = 1, 64
            pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)]
        else:
            widths = (128,) * 4 if name == "box_conv_narrow" else (512, 256, 128, 64)
            kernel_size, c_mid = 3, 256
            pool = [nn.Conv2d(widths[-1], c_mid, 16), nn.BatchNorm2d(c_mid), nn.ReLU(inplace=True)]
        layers = [nn.Sequential(*conv_norm_relu(a, b, kernel_size)) for a, b in pairwise((in_channels, *widths))]
        self.layers = nn.Sequential(*layers)
        self.pool = nn.Sequential(*pool)
        self.linear = nn.Linear(c_mid, 4)
        self.only_grows = name == "box_relu"

    def forward(self, fused: Tensor) -> Corners:
        """Predict x1, y1, x2, y2 from ``(B, C, 16, 16)``."""
        deltas = self.deltas(fused)
        half, quarter = self.grid.crop_size / 2, self.grid.crop_size / 4
        center, half_size = half + half * deltas[:, :2], quarter * deltas[:, 2:].exp()
        crop_xyxy = torch.cat([center - half_size, center + half_size], dim=1)
        return Corners(crop_xyxy, deltas.new_empty(deltas.shape[0], 0, 1, 1))

    def deltas(self, fused: Tensor) -> Tensor:
        """Shift of the center over the sides of the middle box, and logarithm of the ratio of the sides, ``(B, 4)``."""
        deltas = at_least_float32(self.linear(self.pool(self.layers(fused)).flatten(1)))
        return torch.relu(deltas) if self.only_grows else deltas


class PyramidMaskHead(nn.Module):
    """A top-down path from the fused map through ``layer2``, ``layer1`` and ``conv1`` to a mask of the crop.

    Args:
        in_channels: Channels of the fused map.
        low_channels: Channels of ``conv1``, ``layer1`` and ``layer2``.
    """

    def __init__(self, in_channels: int, low_channels: tuple[int, int, int]) -> None:
        super().__init__()
        conv1, layer1, layer2 = low_channels
        self.adjust_conv1 = nn.Sequential(*conv_norm_relu(conv1, 64, 1))
        self.adjust_layer1 = nn.Sequential(*conv_norm_relu(layer1, 256, 1))
        self.adjust_layer2 = nn.Sequential(*conv_norm_relu(layer2, 512, 1))
        self.top2 = _two_convs(in_channels, 32, 32)
        self.side2 = _two_convs(512, 128, 32)
        self.merge2 = nn.Conv2d(32, 16, 3, padding=1)
        self.top1 = _two_convs(16, 16, 16)
        self.side1 = _two_convs(256, 64, 16)
        self.merge1 = nn.Conv2d(16, 4, 3, padding=1)
        self.top0 = _two_convs(4, 4, 4)
        self.side0 = _two_convs(64, 16, 4)
        self.merge0 = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, fused: Tensor, features: FeaturePyramid) -> Tensor:
        """Predict the logits of the mask at half of the crop's resolution.

        Args:
            fused: Fused map, ``(B, C, S/16, S/16)``.
            features: Feature maps of the search region.

        Returns:
            ``(B, S/2, S/2)``.
        """
        x = _upsample_to(self.top2(fused), features.layer2) + self.side2(self.adjust_layer2(features.layer2))
        x = self.merge2(x)  # (B, 16, S/8, S/8)
        x = _upsample_to(self.top1(x), features.layer1) + self.side1(self.adjust_layer1(features.layer1))
        x = self.merge1(x)  # (B, 4, S/4, S/4)
        x = _upsample_to(self.top0(x), features.conv1) + self.side0(self.adjust_conv1(features.conv1))
        logits: Tensor = self.merge0(x).squeeze(1)  # (B, S/2, S/2)
        return logits

    def enlarge(self, logits: Tensor, size: torch.Size) -> Tensor:
        """Resize logits to the size of the crop.

        Args:
            logits: ``(B, h, w)``.
            size: Height and width of the crop.

        Returns:
            ``(B, S, S)``.
        """
        return F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


class SimpleMaskHead(nn.Module):
    """Four convolutions on the fused map, to a mask of its resolution.

    Args:
        in_channels: Channels of the fused map.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        widths = (in_channels, 256, 256, 256)
        layers = [nn.Sequential(*conv_norm_relu(a, b, 3)) for a, b in pairwise(widths)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, fused: Tensor, features: FeaturePyramid) -> Tensor:  # noqa: ARG002 - shared signature
        """Predict the logits of the mask at the resolution of the fused map.

        Args:
            fused: Fused map, ``(B, C, S/16, S/16)``.
            features: Feature maps of the search region; unused.

        Returns:
            ``(B, S/16, S/16)``.
        """
        logits: Tensor = self.layers(fused).squeeze(1)
        return logits

    def enlarge(self, logits: Tensor, size: torch.Size) -> Tensor:
        """Resize the probabilities to the size of the crop, as the original does, and return their logits.

        Args:
            logits: ``(B, h, w)``.
            size: Height and width of the crop.

        Returns:
            ``(B, S, S)``.
        """
        prob = F.interpolate(logits.sigmoid()[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        return torch.logit(prob, eps=_MIN_PROB)


class QualityHead(nn.Module):
    """Predicts the IoU of the corner head's box with the target, so that a box can be trusted or not.

    The inputs are the fused map, the mean heat map and a map of the box. Their features are averaged inside the box and
    over the crop. The position of the box and the spread of the heat maps are further inputs.

    Args:
        in_channels: Channels of the fused map.
        crop_size: Side of the crop in pixels.
    """

    width = 64
    _num_scalars = 6

    def __init__(self, in_channels: int, crop_size: int) -> None:
        super().__init__()
        self.crop_size = crop_size
        widths = (in_channels + 2, self.width, self.width)
        self.layers = nn.Sequential(*(nn.Sequential(*conv_norm_relu(a, b, 3)) for a, b in pairwise(widths)))
        self.linear = nn.Sequential(
            nn.Linear(2 * self.width + self._num_scalars, self.width), nn.ReLU(inplace=True), nn.Linear(self.width, 1)
        )

    def forward(self, fused: Tensor, corners: Corners) -> Tensor:
        """Predict the logits of the IoU. No gradient reaches the arguments.

        Args:
            fused: Fused map, ``(B, C, n, n)``.
            corners: Boxes of the corner head, with score maps of any resolution or none.

        Returns:
            ``(B,)`` float32.
        """
        fused, corners = fused.detach(), Corners(*(each.detach() for each in corners))
        n = fused.shape[-1]
        inside = self._box_map(corners.crop_xyxy, n)
        heat, entropy = _heat_and_entropy(corners)
        maps = [fused, F.adaptive_avg_pool2d(heat, n), inside]
        x = at_least_float32(self.layers(torch.cat([each.to(fused.dtype) for each in maps], dim=1)))
        in_box = (x * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=_MIN_CELLS)
        position = 2 * corners.crop_xyxy / self.crop_size - 1
        numbers = [position, corners.peak[:, None], entropy[:, None]]
        logits: Tensor = self.linear(torch.cat([in_box, x.mean((2, 3)), *numbers], dim=1))
        return at_least_float32(logits)[:, 0]

    def _box_map(self, box_xyxy: Tensor, n: int) -> Tensor:
        """Return how far each of ``n x n`` cells lies in the box, ``(B, 1, n, n)`` in 0..1 with soft edges."""
        cell = self.crop_size / n
        centers = (torch.arange(n, device=box_xyxy.device, dtype=box_xyxy.dtype) + 0.5) * cell
        low, high = box_xyxy[:, :2, None], box_xyxy[:, 2:, None]
        inside = torch.sigmoid((centers - low) * 2 / cell) * torch.sigmoid((high - centers) * 2 / cell)  # (B, 2, n)
        return (inside[:, 1, :, None] * inside[:, 0, None, :])[:, None]


def build_corner_head(name: CornerHeadName, in_channels: int, grid: Grid) -> nn.Module:
    """Build a head that predicts `Corners` from the fused map.

    Args:
        name: Kind of the head.
        in_channels: Channels of the fused map.
        grid: Positions of the cells of the score maps.
    """
    if name.startswith("box"):
        return BoxHead(in_channels, grid, name)
    heads: dict[str, Callable[[], nn.Module]] = {
        "towers": lambda: TowersHead(in_channels, grid),
        "towers_256": lambda: TowersHead(in_channels, grid, fine=True),
        "shared_tower": lambda: SharedTowerHead(in_channels, grid),
        "extreme": lambda: ExtremeHead(in_channels, grid),
        "rpn": lambda: RPNHead(in_channels, grid),
    }
    return heads[name]()


def build_mask_head(
    name: MaskHeadName, in_channels: int, low_channels: tuple[int, int, int]
) -> PyramidMaskHead | SimpleMaskHead:
    """Build a head that predicts the logits of a mask from the fused map and the low feature maps.

    Args:
        name: Kind of the head.
        in_channels: Channels of the fused map.
        low_channels: Channels of ``conv1``, ``layer1`` and ``layer2``.
    """
    return PyramidMaskHead(in_channels, low_channels) if name == "pyramid" else SimpleMaskHead(in_channels)


def build_quality_head(name: QualityHeadName, in_channels: int) -> QualityHead | None:
    """Build a head that predicts the quality of the corner head's box.

    Args:
        name: Kind of the head. ``none`` builds none.
        in_channels: Channels of the fused map.
    """
    return None if name == "none" else QualityHead(in_channels, CROP_SIZE)


def _heat_and_entropy(corners: Corners) -> tuple[Tensor, Tensor]:
    """Return the mean heat map on a logarithmic scale, ``(B, 1, n, n)``, and the mean entropy, ``(B,)`` in 0..1.

    Both are 0 for a corner head without score maps.
    """
    heat = corners.heat
    if not heat.shape[1]:
        return heat.new_zeros(heat.shape[0], 1, *heat.shape[2:]), heat.new_zeros(heat.shape[0])
    cells = heat.shape[-2] * heat.shape[-1]
    entropy = -torch.special.xlogy(heat, heat).sum((2, 3)).mean(1) / math.log(cells)
    return (heat.mean(1, keepdim=True) * cells).log1p(), entropy


def _tower(in_channels: int, widths: tuple[int, ...], out_channels: int) -> nn.Sequential:
    layers = [nn.Sequential(*conv_norm_relu(a, b, 3)) for a, b in pairwise((in_channels, *widths))]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], out_channels, 1))


def _is_x(maps: Tensor) -> Tensor:
    """Mask ``(4, 1, 1)`` of the x coordinates among x1, y1, x2, y2."""
    return (torch.arange(4, device=maps.device) % 2 == 0)[:, None, None]


def _two_convs(c_in: int, c_mid: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_mid, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_mid, c_out, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _upsample_to(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
