"""Batch norms folded into convolutions, and layers that cuDNN computes together, for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck

_WIDEST_KERNEL = 7
"""Side of the largest kernel that is fused. The 16 x 16 convolutions of `BoxHead` were not tried."""


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, which saves time; outputs differ by rounding only.

    Args:
        module: Module in evaluation mode, changed in place. Each `BatchNorm2d` listed after a `Conv2d` must take
            the output of this convolution.
    """
    previous: tuple[str, nn.Module] = ("", module)
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norms(child)
        previous = (name, child)


def fuse_activations(module: nn.Module) -> None:
    """Let cuDNN compute ReLUs and residual sums in the kernels of the convolutions before them.

    Args:
        module: Module on a CUDA device whose batch norms are folded, changed in place. Each `ReLU` listed after a
            convolution and a folded batch norm must take the output of this convolution. Layers in float32, and
            convolutions with groups or kernels wider than 7, stay as they are.
    """
    layers = list(module.named_children())
    for (name, layer), (_, norm), (last, activation) in zip(layers, layers[1:], layers[2:], strict=False):
        is_folded = isinstance(norm, nn.Identity) and isinstance(activation, nn.ReLU)
        if isinstance(layer, nn.Conv2d) and is_folded and _can_fuse(layer):
            setattr(module, name, FusedConvolution(layer))
            setattr(module, last, nn.Identity())
    for name, child in module.named_children():
        if isinstance(child, BasicBlock | Bottleneck):
            setattr(module, name, FusedBlock(child))
        else:
            fuse_activations(child)


def _can_fuse(conv: nn.Conv2d) -> bool:
    return conv.groups == 1 and max(conv.kernel_size) <= _WIDEST_KERNEL and conv.weight.dtype != torch.float32


class FusedConvolution(nn.Module):
    """A convolution with ReLU in one kernel of cuDNN.

    Args:
        conv: Convolution with a bias.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return ``relu(conv(x) + residual)``.

        Args:
            x: Input, ``(B, C, H, W)``.
            residual: Summand of the shape of the output. None for none.
        """
        conv = self.conv
        geometry: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
        if residual is None:
            return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *geometry)
        return torch.cudnn_convolution_add_relu(x, conv.weight, residual, 1.0, conv.bias, *geometry)


class FusedBlock(nn.Module):
    """A residual block of torchvision whose convolutions include ReLU and sum.

    Args:
        block: Block with folded batch norms.
    """

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        convs = [child for child in block.children() if isinstance(child, nn.Conv2d)]
        self.convs = nn.ModuleList(FusedConvolution(conv) for conv in convs)
        self.downsample = block.downsample

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block from ``(B, C, H, W)``."""
        residual = x if self.downsample is None else self.downsample(x)
        *firsts, last = self.convs
        for conv in firsts:
            x = conv(x)
        out: Tensor = last(x, residual)
        return out
