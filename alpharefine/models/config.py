"""Typed configuration of the refinement network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, cast, get_args

from alpharefine.options import GeometryName

BackboneName = Literal[
    "resnet18", "resnet34", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0"
]
HeadName = Literal["corner", "mask"]
NeckName = Literal["pixel", "pixel_gate_first", "naive", "depthwise"]
CornerHeadName = Literal[
    "towers", "towers_256", "shared_tower", "extreme", "rpn", "box", "box_relu", "box_conv", "box_conv_narrow"
]
MaskHeadName = Literal["pyramid", "simple"]
QualityHeadName = Literal["none", "convolutions"]
SpatialAttentionName = Literal["auto", "none", "non_local", "convolutions"]

SLIDING_NECKS: tuple[NeckName, ...] = ("naive", "depthwise")
"""Necks that slide the template kernel over the search map; the others compare cell by cell."""

CHOICES: dict[str, tuple[str, ...]] = {
    "backbone": get_args(BackboneName),
    "neck": get_args(NeckName),
    "corner_head": get_args(CornerHeadName),
    "mask_head": get_args(MaskHeadName),
    "quality_head": get_args(QualityHeadName),
    "geometry": get_args(GeometryName),
    "spatial_attention": get_args(SpatialAttentionName),
}


@dataclass(frozen=True)
class NetworkConfig:
    """Configuration that determines the layers of an `AlphaRefineNet`. The defaults are AR34.

    Construction sorts the heads and resolves ``auto``.

    Args:
        backbone: ImageNet classifier that computes the features; ``resnet34`` for AR34, ``resnet18`` for AR18.
        heads: Heads of the network. Layers that only a missing head would use do not exist.
        neck: Correlation of template and search region, see `alpharefine.models.correlation.CorrelationNeck`.
        corner_head: Kind of the corner head, see `alpharefine.models.heads`; unused without a corner head.
        mask_head: Kind of the mask head, see `alpharefine.models.heads`; unused without a mask head.
        quality_head: Head that predicts the IoU of the corner head's box with the target, see
            `alpharefine.models.heads.QualityHead`; ``none`` for a network without it.
        geometry: Crop geometry, see `alpharefine.crops`; ``original`` for weights of the authors' code.
        spatial_attention: Last block of the neck. ``auto`` is ``non_local`` for `SLIDING_NECKS`, else ``none``.

    Raises:
        ValueError: If a value is unknown, there is no head, or a quality head without a corner head.

    >>> str(NetworkConfig("resnet18", heads=("corner",)))
    'backbone resnet18, heads corner, neck pixel, corner_head towers, geometry exact, spatial_attention none'
    """

    backbone: BackboneName = "resnet34"
    heads: tuple[HeadName, ...] = ("corner", "mask")
    neck: NeckName = "pixel"
    corner_head: CornerHeadName = "towers"
    mask_head: MaskHeadName = "pyramid"
    geometry: GeometryName = "exact"
    spatial_attention: SpatialAttentionName = "auto"
    quality_head: QualityHeadName = "none"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}; choose one of them.")
        heads = list(self.heads) if isinstance(self.heads, list | tuple) else []
        if not heads or any(head not in get_args(HeadName) for head in heads):
            raise ValueError(f"`heads` must name 'corner', 'mask' or both, got {self.heads!r}; name at least one.")
        object.__setattr__(self, "heads", tuple(head for head in get_args(HeadName) if head in heads))
        if self.quality_head != "none" and "corner" not in self.heads:
            raise ValueError("`quality_head` requires the head 'corner', whose box it judges; add it to `heads`.")
        if self.spatial_attention == "auto":
            object.__setattr__(self, "spatial_attention", "non_local" if self.neck in SLIDING_NECKS else "none")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> NetworkConfig:
        """Build a configuration from plain values, such as those of `to_dict`.

        Args:
            values: Values by the names of the attributes; missing ones have their defaults.

        Raises:
            ValueError: If a name or a value is unknown, or there is no head.
        """
        known = [field.name for field in fields(cls)]
        unknown = [str(name) for name in values if name not in known]
        if unknown:
            raise ValueError(f"Unknown network options {', '.join(unknown)}; the known ones are {', '.join(known)}.")
        return cls(**cast("dict[str, BackboneName]", dict(values)))  # type: ignore[arg-type] # checked on construction

    def to_dict(self) -> dict[str, object]:
        """Values by the names of the attributes, for JSON and for `from_mapping`."""
        return asdict(self)

    def __str__(self) -> str:
        unused = {f"{head}_head" for head in get_args(HeadName) if head not in self.heads}
        unused |= {"quality_head"} if self.quality_head == "none" else set()
        values = {name: value for name, value in self.to_dict().items() if name not in unused}
        return ", ".join(f"{name} {'+'.join(v) if isinstance(v, tuple) else v}" for name, v in values.items())
