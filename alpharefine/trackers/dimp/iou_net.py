"""Network that scores boxes by their fit to the target.

Source: ATOM (arXiv 1811.07628), section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from alpharefine.models import precise_roi_pool
from alpharefine.models.cuda_graphs import GraphedFunction

_STRIDES = (8, 16)
_BINS = (5, 3)


class Modulation(NamedTuple):
    """Channel factors that encode the target.

    Attributes:
        layer2: Factors of the first feature map, ``(B, 256, 1, 1)``.
        layer3: Factors of the second feature map, ``(B, 256, 1, 1)``.
    """

    layer2: Tensor
    layer3: Tensor

    def __call__(self, features: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Multiply the channels of the result of `IoUNet.features` by the factors."""
        return features[0] * self.layer2, features[1] * self.layer3


class _Linear(nn.Module):
    """Linear layer over pooled bins, batch norm and ReLU."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.bn = nn.BatchNorm2d(out_features)

    def forward(self, bins: Tensor) -> Tensor:
        """Map bins ``(N, C, n, n)`` to ``(N, out_features)``."""
        return torch.relu(self.bn(self.linear(bins.flatten(1))[..., None, None])).flatten(1)


class IoUNet(nn.Module):
    """Predicts the overlap of boxes with the target from the maps ``layer2`` and ``layer3`` of a backbone.

    Args:
        channels: Numbers of channels of the two maps.

    Attributes:
        searches: Searches for the best box by their settings, see `alpharefine.trackers.dimp.box_search`.
    """

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        layer2, layer3 = channels
        self.conv3_1r = _conv(layer2, 128)
        self.conv3_1t = _conv(layer2, 256)
        self.conv3_2t = _conv(256, 256)
        self.fc3_1r = _conv(128, 256, padding=0)
        self.conv4_1r = _conv(layer3, 256)
        self.conv4_1t = _conv(layer3, 256)
        self.conv4_2t = _conv(256, 256)
        self.fc34_3r = _conv(512, 256, kernel=1, padding=0)
        self.fc34_4r = _conv(512, 256, kernel=1, padding=0)
        self.fc3_rt = _Linear(256 * _BINS[0] ** 2, 256)
        self.fc4_rt = _Linear(256 * _BINS[1] ** 2, 256)
        self.iou_predictor = nn.Linear(512, 1)
        self.searches: dict[object, GraphedFunction] = {}

    def modulation(self, layer2: Tensor, layer3: Tensor, boxes_xywh: Tensor) -> Modulation:
        """Encode a target.

        Args:
            layer2: Feature map, ``(B, C2, H, W)``.
            layer3: Feature map, ``(B, C3, H/2, W/2)``.
            boxes_xywh: Boxes of the target, ``(B, 4)`` in crop pixels.
        """
        boxes_xyxy = box_convert(boxes_xywh, "xywh", "xyxy")[:, None]
        fine = precise_roi_pool(self.conv3_1r(layer2), boxes_xyxy, 3, 1 / _STRIDES[0])[:, 0]
        coarse = precise_roi_pool(self.conv4_1r(layer3), boxes_xyxy, 1, 1 / _STRIDES[1])[:, 0]
        both = torch.cat([self.fc3_1r(fine), coarse], dim=1)  # (B, 512, 1, 1)
        return Modulation(self.fc34_3r(both), self.fc34_4r(both))

    def features(self, layer2: Tensor, layer3: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps from which boxes are pooled, ``(B, 256, H, W)`` and ``(B, 256, H/2, W/2)``.

        Args:
            layer2: Feature map, ``(B, C2, H, W)``.
            layer3: Feature map, ``(B, C3, H/2, W/2)``.
        """
        return self.conv3_2t(self.conv3_1t(layer2)), self.conv4_2t(self.conv4_1t(layer3))

    def forward(self, features: tuple[Tensor, Tensor], boxes_xywh: Tensor) -> Tensor:
        """Score boxes.

        Args:
            features: Result of `features`, multiplied by the target's `Modulation`.
            boxes_xywh: Boxes, ``(B, P, 4)`` in crop pixels.

        Returns:
            Scores ``(B, P)``: overlaps or log-densities, depending on the training of the network. Higher is better.
        """
        boxes_xyxy = box_convert(boxes_xywh, "xywh", "xyxy")
        fine, coarse = (
            precise_roi_pool(maps, boxes_xyxy, bins, 1 / stride).flatten(0, 1)
            for maps, bins, stride in zip(features, _BINS, _STRIDES, strict=True)
        )
        both = torch.cat([self.fc3_rt(fine), self.fc4_rt(coarse)], dim=1)
        scores: Tensor = self.iou_predictor(both)
        return scores.reshape(boxes_xywh.shape[:-1])


def _conv(in_channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding), nn.BatchNorm2d(out_channels), nn.ReLU()
    )
