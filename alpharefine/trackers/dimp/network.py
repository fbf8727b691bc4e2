"""Networks of ATOM, DiMP, PrDiMP and SuperDiMP, with the parameter names of their authors' files."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from alpharefine.models import IMAGENET_MEAN, IMAGENET_STD, build_backbone
from alpharefine.models.cuda_graphs import GraphedFunction
from alpharefine.trackers.dimp.filters import FilterInitializer, InstanceL2Norm
from alpharefine.trackers.dimp.iou_net import IoUNet
from alpharefine.trackers.dimp.optimizers import FilterOptimizer

TrackerBackbone = Literal["resnet18", "resnet50"]
FILTER_SIZE = 4
"""Side of the classifier's filter in cells, the same for all published networks."""


class Layers(NamedTuple):
    """Feature maps of the backbone for crops of S px.

    Attributes:
        layer2: Feature maps, ``(B, C2, S/8, S/8)``.
        layer3: Feature maps, ``(B, C3, S/16, S/16)``.
    """

    layer2: Tensor
    layer3: Tensor


class BoxNet(nn.Module):
    """Backbone and the network that scores boxes. This is the whole network of ATOM.

    Args:
        backbone: Name of the ResNet.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: TrackerBackbone) -> None:
        super().__init__()
        self.feature_extractor = build_backbone(backbone)
        self.bb_regressor = IoUNet(self.feature_extractor.channels[2:])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self._layers_of_one = GraphedFunction(self.layers)

    def layers(self, crops: Tensor) -> Layers:
        """Return the feature maps of crops.

        Args:
            crops: RGB crops, ``(B, 3, S, S)`` in 0..255.
        """
        taps = self.feature_extractor((crops / 255 - self.mean) / self.std)
        return Layers(taps.layer2, taps.layer3)

    def layers_of_one(self, crop: Tensor) -> Layers:
        """Return the feature maps of one crop. On a GPU they are valid until the next call.

        Args:
            crop: RGB crop, ``(3, S, S)`` in 0..255.
        """
        layers: Layers = self._layers_of_one(crop[None], device=crop.device)
        return layers


class DiMPNet(BoxNet):
    """Network of the DiMP family: a `BoxNet`, and a classifier with a trained optimizer.

    Args:
        backbone: Name of the ResNet.
        filter_optimizer: Optimizer of the classifier's filter.
    """

    def __init__(self, backbone: TrackerBackbone, filter_optimizer: FilterOptimizer) -> None:
        super().__init__(backbone)
        self.classifier = _Classifier(self.feature_extractor.channels[-1], filter_optimizer)

    def classification_features(self, layer3: Tensor) -> Tensor:
        """Return the features ``(B, C, H, W)`` that the filter is applied to.

        Args:
            layer3: Feature maps, ``(B, C3, H, W)``.
        """
        features: Tensor = self.classifier.feature_extractor(layer3)
        return features


class _Classifier(nn.Module):
    def __init__(self, in_channels: int, filter_optimizer: FilterOptimizer) -> None:
        super().__init__()
        is_deep = in_channels == 1024  # no additional block after ResNet-50
        channels = 512 if is_deep else 256
        self.feature_extractor = nn.Sequential(
            *([] if is_deep else [BasicBlock(in_channels, in_channels)]),
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            InstanceL2Norm(channels, FILTER_SIZE),
        )
        self.filter_initializer = FilterInitializer(channels, FILTER_SIZE)
        self.filter_optimizer = filter_optimizer
