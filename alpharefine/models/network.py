"""The refinement network: backbone, correlation neck, heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alpharefine.crops import CROP_SIZE
from alpharefine.models.backbone import BackboneName, ResNetTrunk
from alpharefine.models.correlation import PixelCorrelationNeck, crop_kernel
from alpharefine.models.heads import CornerHead, Corners, MaskHead

HeadName = Literal["corner", "mask"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Prediction(NamedTuple):
    """What the heads that were run say of a batch of search crops.

    Attributes:
        corners: boxes in crop pixels and their score maps; None if the corner head was not run.
        mask_logits: ``(B, S, S)`` float32, before the sigmoid; None if the mask head was not run.
    """

    corners: Corners | None
    mask_logits: Tensor | None


class AlphaRefineNet(nn.Module):
    """Alpha-Refine (arXiv 2012.06815): AR34 with ``resnet34``, AR18 with ``resnet18``.

    The network keeps no state between calls: `encode_template` returns the encoding of a target and `forward` takes it,
    so one network serves any number of targets, in one batch if wanted.

    Args:
        backbone: which ResNet.
        heads: which heads it has; layers that only a missing head would use do not exist.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: BackboneName = "resnet34", heads: Collection[HeadName] = ("corner", "mask")) -> None:
        super().__init__()
        if not heads or not set(heads) <= {"corner", "mask"}:
            raise ValueError(f"`heads` must name 'corner', 'mask' or both, got {list(heads)}.")
        self.backbone = ResNetTrunk(backbone)
        self.neck = PixelCorrelationNeck()
        self.corner_head = CornerHead(self.neck.out_channels, CROP_SIZE) if "corner" in heads else None
        self.mask_head = MaskHead(self.neck.out_channels) if "mask" in heads else None
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """The heads that the network has."""
        corner: tuple[HeadName, ...] = ("corner",) if self.corner_head is not None else ()
        mask: tuple[HeadName, ...] = ("mask",) if self.mask_head is not None else ()
        return corner + mask

    def _normalise(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def encode_template(self, templates: Tensor) -> Tensor:
        """Encode targets.

        Args:
            templates: ``(B, 3, 256, 256)`` RGB crops in 0..255, uint8 or float, each with its target in the middle
                half.

        Returns:
            ``(B, 256, 8, 8)`` kernels.
        """
        return crop_kernel(self.backbone(self._normalise(templates)).layer3)

    def forward(self, search: Tensor, kernel: Tensor, heads: Collection[HeadName] | None = None) -> Prediction:
        """Find the targets in search crops.

        Args:
            search: ``(B, 3, 256, 256)`` RGB crops in 0..255, uint8 or float.
            kernel: ``(B, 256, 8, 8)`` from `encode_template`.
            heads: which heads to run; all that the network has by default. What only another head needs is left out.

        Raises:
            ValueError: if a head is asked for that the network does not have.
        """
        wanted = self.heads if heads is None else heads
        if not set(wanted) <= set(self.heads):
            raise ValueError(
                f"This network has the heads {list(self.heads)}, not {sorted(set(wanted) - set(self.heads))}."
            )
        taps = self.backbone(self._normalise(search))
        fused = self.neck(taps.layer3, kernel)
        corners = mask_logits = None
        if self.corner_head is not None and "corner" in wanted:
            corners = self.corner_head(fused)
        if self.mask_head is not None and "mask" in wanted:
            half_size = self.mask_head(fused, taps).float()  # (B, S/2, S/2)
            mask_logits = F.interpolate(half_size[:, None], search.shape[-2:], mode="bilinear", align_corners=False)[
                :, 0
            ]
        return Prediction(corners, mask_logits)
