"""The network of SiamRPN++ (arXiv 1812.11703): backbone, neck, and a region proposal head a level.

Parameter names are those of the authors' files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from alpharefine.models.correlation import depthwise_correlation
from alpharefine.trackers.siamrpnpp.backbones import BACKBONES, BackboneName

NUM_ANCHORS = 5
_FIRST_LEVEL = 2
_TEMPLATE_CELLS = 7
_WIDEST_TEMPLATE = 20
"""Maps narrower than this are cut to their middle: templates are, search maps never."""


class Proposals(NamedTuple):
    """What the head says of each anchor.

    Attributes:
        logits: ``(B, 2 * 5, S, S)``, background of all anchors first, then target.
        deltas: ``(B, 4 * 5, S, S)``, dx of all anchors, dy, dw, dh; see `alpharefine.trackers.siamese.AnchorGrid`.
    """

    logits: Tensor
    deltas: Tensor


class Adjustment(nn.Module):
    """One level of the neck: other channels, and of a template only the middle.

    Args:
        c_in: of the backbone.
        c_out: of the head.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, n, n)`` to ``(B, C', n, n)``, or of a template to ``(B, C', 7, 7)``."""
        if x.shape[-1] < _WIDEST_TEMPLATE:
            first = (x.shape[-1] - _TEMPLATE_CELLS) // 2
            cells = slice(first, first + _TEMPLATE_CELLS)
            x = x[..., cells, cells]
        adjusted: Tensor = self.downsample(x)
        return adjusted


class CorrelationBranch(nn.Module):
    """Template and search map, correlated channel by channel, to the outputs of one kind.

    Args:
        channels: of the maps.
        num_outputs: for each position.
    """

    def __init__(self, channels: int, num_outputs: int) -> None:
        super().__init__()
        self.conv_kernel = _conv_norm_relu(channels, 3)
        self.conv_search = _conv_norm_relu(channels, 3)
        self.head = nn.Sequential(*_conv_norm_relu(channels, 1), nn.Conv2d(channels, num_outputs, 1))

    def forward(self, search: Tensor, kernel: Tensor) -> Tensor:
        """Search map ``(B, C, n, n)`` and what `conv_kernel` made of the template to ``(B, outputs, S, S)``."""
        outputs: Tensor = self.head(depthwise_correlation(self.conv_search(search), kernel))
        return outputs


def _conv_norm_relu(channels: int, kernel_size: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, kernel_size, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class LevelHead(nn.Module):
    """The head of one level.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cls = CorrelationBranch(channels, 2 * NUM_ANCHORS)
        self.loc = CorrelationBranch(channels, 4 * NUM_ANCHORS)

    def kernels(self, template: Tensor) -> tuple[Tensor, Tensor]:
        """The template ``(B, C, n, n)`` as both branches look for it, ``(B, C, k, k)``."""
        return self.cls.conv_kernel(template), self.loc.conv_kernel(template)

    def forward(self, search: Tensor, kernels: tuple[Tensor, Tensor]) -> Proposals:
        """Look for the template in a search map ``(B, C, n, n)``."""
        return Proposals(self.cls(search, kernels[0]), self.loc(search, kernels[1]))


class MultiLevelHead(nn.Module):
    """The heads of several levels.

    Args:
        channels: of each level.
        weighted: whether levels have learned weights, as opposed to being averaged.
    """

    def __init__(self, channels: Sequence[int], weighted: bool) -> None:
        super().__init__()
        for level, width in enumerate(channels, start=_FIRST_LEVEL):
            self.add_module(f"rpn{level}", LevelHead(width))
        self.cls_weight = nn.Parameter(torch.ones(len(channels))) if weighted else None
        self.loc_weight = nn.Parameter(torch.ones(len(channels))) if weighted else None


class SiamRPNpp(nn.Module):
    """SiamRPN++. Crops are BGR, 0..255, not normalized; the network is used in evaluation mode alone.

    Args:
        backbone: its name.
        neck_channels: of each level; none for no neck.
        weighted: whether levels have learned weights.
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

    @property
    def heads(self) -> list[LevelHead]:
        """Of each level."""
        modules = [self.rpn_head] if isinstance(self.rpn_head, LevelHead) else self.rpn_head.children()
        return [module for module in modules if isinstance(module, LevelHead)]

    def features(self, crop: Tensor) -> list[Tensor]:
        """The maps of all levels, ``(B, C, n, n)`` each, of crops ``(B, 3, m, m)``."""
        maps: list[Tensor] = self.backbone(crop)
        if self.neck is None:
            return maps
        return [adjust(x) for adjust, x in zip(self.neck.values(), maps, strict=True)]

    def encode_template(self, crop: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Template crops ``(B, 3, 127, 127)`` to what `forward` looks for, at each level."""
        return [head.kernels(x) for head, x in zip(self.heads, self.features(crop), strict=True)]

    def forward(self, crop: Tensor, template: Sequence[tuple[Tensor, Tensor]]) -> Proposals:
        """Look for the templates in search crops ``(B, 3, m, m)``."""
        levels: list[Proposals] = [
            head(x, kernels) for head, x, kernels in zip(self.heads, self.features(crop), template, strict=True)
        ]
        if not isinstance(self.rpn_head, MultiLevelHead):
            return levels[0]
        logits, deltas = zip(*levels, strict=True)
        return Proposals(_combine(logits, self.rpn_head.cls_weight), _combine(deltas, self.rpn_head.loc_weight))


def _combine(levels: Sequence[Tensor], weight: Tensor | None) -> Tensor:
    stacked = torch.stack(list(levels))  # (L, B, C, S, S)
    return stacked.mean(0) if weight is None else torch.einsum("l...,l->...", stacked, weight.softmax(0))


def fold_batch_norms(module: nn.Module) -> None:
    """Make each batch norm a part of the convolution before it; the network computes the same in less time.

    Args:
        module: in evaluation mode; changed in place. Its batch norms come right after their convolutions.
    """
    previous: tuple[str, nn.Module] = ("", module)
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norms(child)
        previous = (name, child)
