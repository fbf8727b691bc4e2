"""The shared backbone: a ResNet from its stem to ``layer3``, nothing after it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

BackboneName = Literal["resnet18", "resnet34"]


class Taps(NamedTuple):
    """Feature maps of one batch of crops; sizes for crops of 256 px.

    Attributes:
        conv1: ``(B, 64, 128, 128)``, after batch norm and ReLU, before the max pool.
        layer1: ``(B, 64, 64, 64)``.
        layer2: ``(B, 128, 32, 32)``.
        layer3: ``(B, 256, 16, 16)``.
    """

    conv1: Tensor
    layer1: Tensor
    layer2: Tensor
    layer3: Tensor


class ResNetTrunk(nn.Module):
    """ResNet-18 or ResNet-34 up to ``layer3``, with torchvision's parameter names.

    Args:
        name: which ResNet.
    """

    def __init__(self, name: BackboneName) -> None:
        super().__init__()
        resnet = getattr(torchvision.models, name)(weights=None)
        self.conv1, self.bn1, self.maxpool = resnet.conv1, resnet.bn1, resnet.maxpool
        self.layer1, self.layer2, self.layer3 = resnet.layer1, resnet.layer2, resnet.layer3

    def forward(self, images: Tensor) -> Taps:
        """Compute the four maps of ``(B, 3, S, S)`` normalised images."""
        conv1 = torch.relu(self.bn1(self.conv1(images)))  # (B, 64, S/2, S/2)
        layer1 = self.layer1(self.maxpool(conv1))  # (B, 64, S/4, S/4)
        layer2 = self.layer2(layer1)  # (B, 128, S/8, S/8)
        return Taps(conv1, layer1, layer2, self.layer3(layer2))  # (B, 256, S/16, S/16)
