"""Backbones of SiamRPN++ (arXiv 1812.11703, section 3): total stride 8, no padding in strided convolutions.

The parameter names are those of the authors' files.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

BackboneName = Literal["resnet50", "alexnet", "mobilenet_v2"]


class ResNet50(nn.Module):
    """ResNet-50 with dilation in place of strides in its last two stages."""

    out_channels = (512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _resnet_stage(64, 64, num_blocks=3, stride=1, dilation=1)
        self.layer2 = _resnet_stage(256, 128, num_blocks=4, stride=2, dilation=1)
        self.layer3 = _resnet_stage(512, 256, num_blocks=6, stride=1, dilation=2)
        self.layer4 = _resnet_stage(1024, 512, num_blocks=3, stride=1, dilation=4)

    def forward(self, crop: Tensor) -> list[Tensor]:
        """Map a crop ``(B, 3, m, m)`` to the outputs of the last three stages, ``(B, C, n, n)`` each."""
        x = F.relu(self.bn1(self.conv1(crop)), inplace=True)
        x = self.layer1(F.max_pool2d(x, 3, stride=2, padding=1))
        level2 = self.layer2(x)
        level3 = self.layer3(level2)
        return [level2, level3, self.layer4(level3)]


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut. The first block of a stage has a convolution in its shortcut.

    Args:
        c_in: Number of input channels.
        planes: Number of inner channels; the output has four times as many.
        stride: Stride of the 3x3 convolution and of the shortcut.
        dilation: Dilation of the 3x3 convolution and of the shortcut.
        shortcut_size: Kernel size of the shortcut's convolution; None for an identity shortcut.
    """

    def __init__(self, c_in: int, planes: int, stride: int, dilation: int, shortcut_size: int | None = None) -> None:
        super().__init__()
        c_out = 4 * planes
        self.conv1 = nn.Conv2d(c_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3, stride, dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if shortcut_size is not None:
            self.downsample = nn.Sequential(_conv(c_in, c_out, shortcut_size, stride, dilation), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, n, n)`` to ``(B, C', n', n')``."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out, inplace=True)


def _conv(c_in: int, c_out: int, kernel_size: int, stride: int, dilation: int) -> nn.Conv2d:
    """Return a convolution that keeps the size for a stride of 1 and has no padding otherwise."""
    padding = dilation * (kernel_size // 2) if stride == 1 else 0
    return nn.Conv2d(c_in, c_out, kernel_size, stride, padding, dilation, bias=False)


def _resnet_stage(c_in: int, planes: int, *, num_blocks: int, stride: int, dilation: int) -> nn.Sequential:
    # The first block has half of the stage's dilation; without stride and dilation its shortcut is 1x1.
    shortcut_size = 1 if stride == dilation == 1 else 3
    first = Bottleneck(c_in, planes, stride, max(dilation // 2, 1), shortcut_size)
    return nn.Sequential(first, *(Bottleneck(4 * planes, planes, 1, dilation) for _ in range(num_blocks - 1)))


class AlexNet(nn.Module):
    """Five convolutions without padding."""

    out_channels = (256,)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=2),
            nn.BatchNorm2d(96),
            nn.MaxPool2d(3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(96, 256, 5),
            nn.BatchNorm2d(256),
            nn.MaxPool2d(3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 384, 3),
            nn.BatchNorm2d(384),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3),
            nn.BatchNorm2d(384),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3),
            nn.BatchNorm2d(256),
        )

    def forward(self, crop: Tensor) -> list[Tensor]:
        """Map a crop ``(B, 3, m, m)`` to one output ``(B, 256, n, n)``."""
        return [self.features(crop)]


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.4, with dilation in place of strides from the fourth stage on."""

    out_channels = (44, 134, 448)

    def __init__(self) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(
            nn.Conv2d(3, 44, 3, stride=2, bias=False), nn.BatchNorm2d(44), nn.ReLU6(inplace=True)
        )
        self.layer1 = _mobilenet_stage(44, 22, num_blocks=1, expansion=1, stride=1)
        self.layer2 = _mobilenet_stage(22, 33, num_blocks=2, stride=2)
        self.layer3 = _mobilenet_stage(33, 44, num_blocks=3, stride=2)
        self.layer4 = _mobilenet_stage(44, 89, num_blocks=4, first_dilation=1, dilation=2)
        self.layer5 = _mobilenet_stage(89, 134, num_blocks=3, first_dilation=2, dilation=2)
        self.layer6 = _mobilenet_stage(134, 224, num_blocks=3, first_dilation=2, dilation=4)
        self.layer7 = _mobilenet_stage(224, 448, num_blocks=1, first_dilation=4, dilation=4)

    def forward(self, crop: Tensor) -> list[Tensor]:
        """Map a crop ``(B, 3, m, m)`` to the outputs of stages 3, 5 and 7, ``(B, C, n, n)`` each."""
        level2 = self.layer3(self.layer2(self.layer1(self.layer0(crop))))
        level3 = self.layer5(self.layer4(level2))
        return [level2, level3, self.layer7(self.layer6(level3))]


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection.

    Args:
        c_in: Number of input channels.
        c_out: Number of output channels.
        expansion: Ratio of inner channels to input channels.
        stride: Stride of the depthwise convolution.
        dilation: Dilation of the depthwise convolution.
        shortcut: Adds the input to the output.
    """

    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int, dilation: int, shortcut: bool) -> None:
        super().__init__()
        channels = expansion * c_in
        padding = dilation if stride == 1 else 0
        self.shortcut = shortcut
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
            nn.Conv2d(channels, channels, 3, stride, padding, dilation, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
            nn.Conv2d(channels, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, n, n)`` to ``(B, C', n', n')``."""
        out: Tensor = self.conv(x)
        return out + x if self.shortcut else out


def _mobilenet_stage(
    c_in: int,
    c_out: int,
    *,
    num_blocks: int,
    expansion: int = 6,
    stride: int = 1,
    first_dilation: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    first = InvertedResidual(c_in, c_out, expansion, stride, first_dilation, shortcut=False)
    others = (InvertedResidual(c_out, c_out, expansion, 1, dilation, shortcut=True) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *others)


BACKBONES: dict[BackboneName, type[ResNet50 | AlexNet | MobileNetV2]] = {
    "resnet50": ResNet50,
    "alexnet": AlexNet,
    "mobilenet_v2": MobileNetV2,
}
