"""The refinement network: backbone, correlation neck, heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from alpharefine.crops import CROP_SIZE
from alpharefine.models.backbone import build_backbone
from alpharefine.models.config import HeadName, NetworkConfig
from alpharefine.models.correlation import CorrelationNeck
from alpharefine.models.heads import Corners, Grid, build_corner_head, build_mask_head, build_quality_head
from alpharefine.models.precision import at_least_float32
from alpharefine.options import GeometryName

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Prediction(NamedTuple):
    """Predictions of the requested heads for a batch of search crops.

    Attributes:
        corners: Boxes in crop pixels and their score maps; None if the corner head was not run.
        mask_logits: ``(B, S, S)``, before the sigmoid; None if the mask head was not run.
        quality_logits: ``(B,)``, before the sigmoid: the predicted IoU of each box with the target. None if the network
            has no quality head, or the corner head was not run.
    """

    corners: Corners | None
    mask_logits: Tensor | None
    quality_logits: Tensor | None = None

    @property
    def score(self) -> Tensor | None:
        """Confidence in each box, ``(B,)`` in 0..1: the predicted IoU, or `Corners.peak` without a quality head."""
        if self.quality_logits is not None:
            return self.quality_logits.sigmoid()
        return None if self.corners is None else self.corners.peak


class AlphaRefineNet(nn.Module):
    """Alpha-Refine (arXiv 2012.06815): AR34 with ``resnet34``, AR18 with ``resnet18``.

    The network keeps no state between calls: `encode_template` returns the encoding of a target and `forward` takes it.
    One network serves any number of targets, in one batch if needed.

    Args:
        config: Configuration of the layers.

    Attributes:
        config: Configuration of the layers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone)
        channels = self.backbone.channels
        self.neck = CorrelationNeck(config.neck, channels[-1], config.spatial_attention)
        # In the geometry `original` the score maps end before the far borders of the crop.
        fused, grid = self.neck.out_channels, Grid(CROP_SIZE, reaches_end=config.geometry == "exact")
        has_corner, has_mask = "corner" in config.heads, "mask" in config.heads
        self.corner_head = build_corner_head(config.corner_head, fused, grid) if has_corner else None
        self.mask_head = build_mask_head(config.mask_head, fused, channels[:3]) if has_mask else None
        self.quality_head = build_quality_head(config.quality_head, fused)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """Heads of the network."""
        return self.config.heads

    @property
    def geometry(self) -> GeometryName:
        """Crop geometry of the weights, see `alpharefine.crops`."""
        return self.config.geometry

    def _normalize(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def encode_template(self, templates: Tensor, target_xyxy: Tensor | None = None) -> Tensor:
        """Encode targets.

        Args:
            templates: ``(B, 3, 256, 256)`` RGB crops in 0..255, uint8 or float, with the target in the middle half.
            target_xyxy: ``(B, 4)``, targets in crop pixels, used by `SLIDING_NECKS`; the middle half of the crop by
                default.

        Returns:
            ``(B, C, 8, 8)`` kernels.
        """
        return self.neck.kernel(self.backbone(self._normalize(templates)).layer3, target_xyxy)

    def forward(self, search: Tensor, kernel: Tensor, heads: Collection[HeadName] | None = None) -> Prediction:
        """Find the targets in search crops.

        Args:
            search: ``(B, 3, 256, 256)`` RGB crops in 0..255, uint8 or float.
            kernel: ``(B, C, 8, 8)`` from `encode_template`.
            heads: Heads to run; all heads of the network by default. Layers that only another head needs are skipped.

        Raises:
            ValueError: If the network does not have a requested head.
        """
        wanted = self.heads if heads is None else heads
        if not set(wanted) <= set(self.heads):
            raise ValueError(
                f"`heads` must be among {list(self.heads)}, the heads of this network, got "
                f"{sorted(set(wanted) - set(self.heads))}; leave them out, or load another network."
            )
        features = self.backbone(self._normalize(search))
        fused = self.neck(features.layer3, kernel)
        corners = mask_logits = quality_logits = None
        if self.corner_head is not None and "corner" in wanted:
            corners = self.corner_head(fused)
            if self.quality_head is not None:
                quality_logits = self.quality_head(fused, corners)
        if self.mask_head is not None and "mask" in wanted:
            logits = at_least_float32(self.mask_head(fused, features))
            mask_logits = self.mask_head.enlarge(logits, search.shape[-2:])
        return Prediction(corners, mask_logits, quality_logits)
