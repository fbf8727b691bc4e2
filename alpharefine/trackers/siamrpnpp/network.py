"""Network of SiamRPN++ (arXiv 1812.11703): backbone, neck, and one region proposal head per level.

The parameter names are those of the authors' files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from alpharefine.models.correlation import depthwise_correlation
from alpharefine.models.cuda_graphs import GraphedFunction
from alpharefine.trackers.siamrpnpp.backbones import BACKBONES, BackboneName

NUM_ANCHORS = 5
_FIRST_LEVEL = 2
_TEMPLATE_CELLS = 7
_WIDEST_TEMPLATE = 20
"""Width below which a map is cropped to its middle: template maps are narrower, search maps are not."""


class Proposals(NamedTuple):
    """Output of the head for each anchor.

    Attributes:
        logits: Logits ``(B, 2 * 5, S, S)``: background of all anchors, then target of all anchors.
        deltas: Box deltas ``(B, 4 * 5, S, S)``: dx of all anchors, dy, dw, dh; see
            `alpharefine.trackers.siamese.AnchorGrid`.
    """

    logits: Tensor
    deltas: Tensor


class Adjustment(nn.Module):
    """One level of the neck: projects the channels, and crops a template to its middle.

    Args:
        c_in: Number of channels of the backbone.
        c_out: Number of channels of the head.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, n, n)`` to ``(B, C', n, n)``, or a template to ``(B, C', 7, 7)``."""
        if x.shape[-1] < _WIDEST_TEMPLATE:
            first = (x.shape[-1] - _TEMPLATE_CELLS) // 2
            cells = slice(first, first + _TEMPLATE_CELLS)
            x = x[..., cells, cells]
        adjusted: Tensor = self.downsample(x)
        return adjusted


class CorrelationBranch(nn.Module):
    """Depthwise correlation of template and search map, followed by the outputs of one kind.

    Args:
        channels: Number of channels of the maps.
        num_outputs: Number of outputs per position.
    """

    def __init__(self, channels: int, num_outputs: int) -> None:
        super().__init__()
        self.conv_kernel = _conv_norm_relu(channels, 3)
        self.conv_search = _conv_norm_relu(channels, 3)
        self.head = nn.Sequential(*_conv_norm_relu(channels, 1), nn.Conv2d(channels, num_outputs, 1))

    def forward(self, search: Tensor, kernel: Tensor) -> Tensor:
        """Return outputs ``(B, outputs, S, S)``.

        Args:
            search: Search map, ``(B, C, n, n)``.
            kernel: Template after `conv_kernel`, ``(B, C, k, k)``.
        """
        outputs: Tensor = self.head(depthwise_correlation(self.conv_search(search), kernel))
        return outputs


def _conv_norm_relu(channels: int, kernel_size: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, kernel_size, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class LevelHead(nn.Module):
    """Region proposal head of one level.

    Args:
        channels: Number of channels of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cls = CorrelationBranch(channels, 2 * NUM_ANCHORS)
        self.loc = CorrelationBranch(channels, 4 * NUM_ANCHORS)

    def kernels(self, template: Tensor) -> tuple[Tensor, Tensor]:
        """Return the correlation kernels of both branches, ``(B, C, k, k)`` each.

        Args:
            template: Template map, ``(B, C, n, n)``.
        """
        return self.cls.conv_kernel(template), self.loc.conv_kernel(template)

    def forward(self, search: Tensor, kernels: tuple[Tensor, Tensor]) -> Proposals:
        """Return the proposals for a search map.

        Args:
            search: Search map, ``(B, C, n, n)``.
            kernels: Result of `kernels` for the template.
        """
        return Proposals(self.cls(search, kernels[0]), self.loc(search, kernels[1]))


class MultiLevelHead(nn.Module):
    """Region proposal heads of several levels.

    Args:
        channels: Number of channels of each level.
        weighted: Combines the levels with trained weights; otherwise they are averaged.
    """

    def __init__(self, channels: Sequence[int], weighted: bool) -> None:
        super().__init__()
        for level, width in enumerate(channels, start=_FIRST_LEVEL):
            self.add_module(f"rpn{level}", LevelHead(width))
        self.cls_weight = nn.Parameter(torch.ones(len(channels))) if weighted else None
        self.loc_weight = nn.Parameter(torch.ones(len(channels))) if weighted else None


class SiamRPNpp(nn.Module):
    """SiamRPN++ for inference. Crops are BGR in 0..255, without normalization.

    Args:
        backbone: Name of the backbone.
        neck_channels: Number of channels of each level of the neck; empty for no neck.
        weighted: Combines the levels with trained weights; otherwise they are averaged.
    """

    def __init__(self, backbone: BackboneName, neck_channels: tuple[int, ...] = (), weighted: bool = False) -> None:
        super().__init__()
        self.backbone = BACKBONES[backbone]()
        self.neck = None
        if neck_channels:
            self.neck = nn.ModuleDict(
                {
                    f"downsample{level}": Adjustment(c_in, c_out)
                    for level, (c_in, c_out) in enumerate(
                        zip(self.backbone.out_channels, neck_channels, strict=True), start=_FIRST_LEVEL
                    )
                }
            )
        channels = neck_channels or self.backbone.out_channels
        self.rpn_head = MultiLevelHead(channels, weighted) if len(channels) > 1 else LevelHead(channels[0])
        self._search = GraphedFunction(self._maps)

    @property
    def heads(self) -> list[LevelHead]:
        """Region proposal head of each level."""
        modules = [self.rpn_head] if isinstance(self.rpn_head, LevelHead) else self.rpn_head.children()
        return [module for module in modules if isinstance(module, LevelHead)]

    def features(self, crop: Tensor) -> list[Tensor]:
        """Return the maps of all levels, ``(B, C, n, n)`` each.

        Args:
            crop: Crops, ``(B, 3, m, m)``.
        """
        maps: list[Tensor] = self.backbone(crop)
        if self.neck is None:
            return maps
        return [adjust(x) for adjust, x in zip(self.neck.values(), maps, strict=True)]

    def encode_template(self, crop: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the correlation kernels of each level.

        Args:
            crop: Template crops, ``(B, 3, 127, 127)``.
        """
        return [head.kernels(x) for head, x in zip(self.heads, self.features(crop), strict=True)]

    def forward(self, crop: Tensor, template: Sequence[tuple[Tensor, Tensor]]) -> Proposals:
        """Return the proposals for search crops.

        Args:
            crop: Search crops, ``(B, 3, m, m)``.
            template: Result of `encode_template`.
        """
        levels: list[Proposals] = [
            head(x, kernels) for head, x, kernels in zip(self.heads, self.features(crop), template, strict=True)
        ]
        if not isinstance(self.rpn_head, MultiLevelHead):
            return levels[0]
        logits, deltas = zip(*levels, strict=True)
        return Proposals(_combine(logits, self.rpn_head.cls_weight), _combine(deltas, self.rpn_head.loc_weight))

    def search(self, crop: Tensor, template: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the proposals for search crops. On a GPU they are valid until the next call.

        Args:
            crop: Search crops, ``(B, 3, m, m)``.
            template: Result of `encode_template`.

        Returns:
            Logits and deltas, ``(B, 2 * 5 + 4 * 5, S, S)``.
        """
        maps: Tensor = self._search(crop, *(kernel for level in template for kernel in level), device=crop.device)
        return maps

    def _maps(self, crop: Tensor, *kernels: Tensor) -> Tensor:
        return torch.cat(self(crop, list(zip(kernels[::2], kernels[1::2], strict=True))), dim=1)


def _combine(levels: Sequence[Tensor], weight: Tensor | None) -> Tensor:
    stacked = torch.stack(list(levels))  # (L, B, C, S, S)
    return stacked.mean(0) if weight is None else torch.einsum("l...,l->...", stacked, weight.softmax(0))
