"""The shared backbone: an ImageNet classifier of torchvision up to its last layer of stride 16."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple, cast

import torch
import torchvision
from torch import Tensor, nn

from alpharefine.models.config import BackboneName


class FeaturePyramid(NamedTuple):
    """Feature maps of a batch of crops, named after the stages of ResNet; sizes for crops of 256 px.

    C1 to C4 are `Backbone.channels`: 64, 64, 128, 256 for ResNet-18 and ResNet-34.

    Attributes:
        conv1: ``(B, C1, 128, 128)``; for a ResNet the map after batch norm and ReLU, before the max pool.
        layer1: ``(B, C2, 64, 64)``.
        layer2: ``(B, C3, 32, 32)``.
        layer3: ``(B, C4, 16, 16)``.
    """

    conv1: Tensor
    layer1: Tensor
    layer2: Tensor
    layer3: Tensor


class Backbone(nn.Module, ABC):
    """A classifier without the layers after its last layer of stride 16, with torchvision's parameter names.

    Attributes:
        channels: Channels of the four feature maps.
        unused_prefixes: Prefixes of the names of the classifier's parameters that the backbone does not have.
    """

    channels: tuple[int, int, int, int]
    unused_prefixes: tuple[str, ...]

    @property
    @abstractmethod
    def stages(self) -> list[list[nn.Module]]:
        """Modules of each of the four stages."""

    @abstractmethod
    def forward(self, images: Tensor) -> FeaturePyramid:
        """Compute the feature maps of normalized images ``(B, 3, S, S)``."""


class ResNetBackbone(Backbone):
    """A ResNet up to ``layer3``.

    Args:
        name: Name of the ResNet.
    """

    def __init__(self, name: Literal["resnet18", "resnet34", "resnet50"]) -> None:
        super().__init__()
        resnet = torchvision.models.get_model(name, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3 = resnet.layer1, resnet.layer2, resnet.layer3
        self.channels = (64, 256, 512, 1024) if name == "resnet50" else (64, 64, 128, 256)
        self.unused_prefixes = ("layer4.", "fc.")

    @property
    def stages(self) -> list[list[nn.Module]]:
        """The stem and the three layers."""
        return [[self.conv1, self.bn1], [self.layer1], [self.layer2], [self.layer3]]

    def forward(self, images: Tensor) -> FeaturePyramid:
        """Compute the feature maps of normalized images ``(B, 3, S, S)``."""
        conv1 = self.relu(self.bn1(self.conv1(images)))  # (B, 64, S/2, S/2)
        layer1 = self.layer1(self.maxpool(conv1))  # (B, C2, S/4, S/4)
        layer2 = self.layer2(layer1)  # (B, C3, S/8, S/8)
        return FeaturePyramid(conv1, layer1, layer2, self.layer3(layer2))  # (B, C4, S/16, S/16)


class BlockBackbone(Backbone):
    """A MobileNet or EfficientNet: the blocks of torchvision's `features` before the stride becomes 32.

    Args:
        name: Name of the network.
    """

    last_blocks: ClassVar = {
        "mobilenet_v2": ((1, 3, 6, 13), (16, 24, 32, 96)),
        "mobilenet_v3_large": ((1, 3, 6, 12), (16, 24, 40, 112)),
        "mobilenet_v3_small": ((0, 1, 3, 8), (16, 16, 24, 48)),
        "efficientnet_b0": ((1, 2, 3, 5), (16, 24, 40, 112)),
    }
    """Last blocks of stride 2, 4, 8 and 16 of each network, and their channels."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stage_ends, self.channels = self.last_blocks[name]
        blocks = cast(nn.Sequential, torchvision.models.get_model(name, weights=None).features)
        self.features = blocks[: self.stage_ends[-1] + 1]
        self.unused_prefixes = ("classifier.", *(f"features.{i}." for i in range(len(self.features), len(blocks))))

    @property
    def stages(self) -> list[list[nn.Module]]:
        """Blocks of each stage, the one that gives its feature map last."""
        firsts = (0, *(end + 1 for end in self.stage_ends[:-1]))
        return [list(self.features[first : last + 1]) for first, last in zip(firsts, self.stage_ends, strict=True)]

    def forward(self, images: Tensor) -> FeaturePyramid:
        """Compute the feature maps of normalized images ``(B, 3, S, S)``."""
        x, maps = images, []
        for i, block in enumerate(self.features):
            x = block(x)
            if i in self.stage_ends:
                maps.append(x)
        return FeaturePyramid(*maps)


def unused_names(name: BackboneName) -> set[str]:
    """Names of the parameters and buffers of a classifier that its backbone does not have.

    Args:
        name: Name of the classifier.

    >>> sorted(unused_names("resnet18"))[:2], "layer4.1.bn2.weight" in unused_names("resnet18")
    (['fc.bias', 'fc.weight'], True)
    """
    with torch.device("meta"):  # names without memory
        classifier, prefixes = torchvision.models.get_model(name, weights=None), build_backbone(name).unused_prefixes
    return {key for key in classifier.state_dict() if key.startswith(prefixes)}


def build_backbone(name: BackboneName) -> Backbone:
    """Build a backbone with random weights.

    Args:
        name: Name of the classifier.
    """
    if name in BlockBackbone.last_blocks:
        return BlockBackbone(name)
    return ResNetBackbone(cast(Literal["resnet18", "resnet34", "resnet50"], name))
