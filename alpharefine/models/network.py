"""The refinement network: backbone, correlation neck, heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from alpharefine.crops import CROP_SIZE, GeometryName
from alpharefine.models.backbone import BackboneName, make_trunk
from alpharefine.models.correlation import CorrelationNeck, NeckName, SpatialAttentionName
from alpharefine.models.heads import (
    CornerHeadName,
    Corners,
    Grid,
    MaskHeadName,
    make_corner_head,
    make_mask_head,
)
from alpharefine.models.precision import at_least_float32

HeadName = Literal["corner", "mask"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Prediction(NamedTuple):
    """What the heads that were run say of a batch of search crops.

    Attributes:
        corners: boxes in crop pixels and their score maps; None if the corner head was not run.
        mask_logits: ``(B, S, S)``, before the sigmoid; None if the mask head was not run.
    """

    corners: Corners | None
    mask_logits: Tensor | None


class AlphaRefineNet(nn.Module):
    """Alpha-Refine (arXiv 2012.06815): AR34 with ``resnet34``, AR18 with ``resnet18``.

    The network keeps no state between calls: `encode_template` returns the encoding of a target and `forward` takes it,
    so one network serves any number of targets, in one batch if wanted.

    Args:
        backbone: which ImageNet classifier the features are of.
        heads: which heads it has; layers that only a missing head would use do not exist.
        neck: how the template's features meet those of the search region.
        corner_head: how the two corners are found, if there is a corner head.
        mask_head: how the mask is found, if there is a mask head.
        geometry: ``exact``, or ``original`` for weights of the original (see `alpharefine.crops`); its score maps end
            before the far borders of the crop.
        spatial_attention: what ends the neck, see `CorrelationNeck`.

    Attributes:
        parts: the arguments by name: what makes the same network again.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: BackboneName = "resnet34",
        heads: Collection[HeadName] = ("corner", "mask"),
        neck: NeckName = "pixel",
        corner_head: CornerHeadName = "towers",
        mask_head: MaskHeadName = "pyramid",
        geometry: GeometryName = "exact",
        spatial_attention: SpatialAttentionName = "auto",
    ) -> None:
        super().__init__()
        if not heads or not set(heads) <= {"corner", "mask"}:
            raise ValueError(f"`heads` must name 'corner', 'mask' or both, got {list(heads)}.")
        if geometry not in get_args(GeometryName):
            raise ValueError(f"`geometry` must be one of {', '.join(get_args(GeometryName))}, got {geometry!r}.")
        self.geometry: GeometryName = geometry
        self.backbone = make_trunk(backbone)
        self.neck = CorrelationNeck(neck, self.backbone.channels[-1], spatial_attention)
        self.parts: dict[str, object] = {
            "backbone": backbone,
            "heads": tuple(heads),
            "neck": neck,
            "corner_head": corner_head,
            "mask_head": mask_head,
            "geometry": geometry,
            "spatial_attention": self.neck.spatial_attention,
        }
        fused, grid = self.neck.out_channels, Grid(CROP_SIZE, reaches_end=geometry == "exact")
        self.corner_head = make_corner_head(corner_head, fused, grid) if "corner" in heads else None
        self.mask_head = make_mask_head(mask_head, fused, self.backbone.channels[:3]) if "mask" in heads else None
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

    def encode_template(self, templates: Tensor, target_xyxy: Tensor | None = None) -> Tensor:
        """Encode targets.

        Args:
            templates: ``(B, 3, 256, 256)`` RGB crops in 0..255, uint8 or float, each with its target in the middle
                half.
            target_xyxy: ``(B, 4)``, the targets in crop pixels, for the necks that slide the kernel; the middle half of
                the crop by default.

        Returns:
            ``(B, C, 8, 8)`` kernels.
        """
        return self.neck.kernel(self.backbone(self._normalise(templates)).layer3, target_xyxy)

    def forward(self, search: Tensor, kernel: Tensor, heads: Collection[HeadName] | None = None) -> Prediction:
        """Find the targets in search crops.

        Args:
            search: ``(B, 3, 256, 256)`` RGB crops in 0..255, uint8 or float.
            kernel: ``(B, C, 8, 8)`` from `encode_template`.
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
            logits = at_least_float32(self.mask_head(fused, taps))
            mask_logits = self.mask_head.enlarge(logits, search.shape[-2:])
        return Prediction(corners, mask_logits)
