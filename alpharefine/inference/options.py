"""Options of inference. This module loads no framework, so that a command line can offer them at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from alpharefine.options import BoxSource, ComputePrecision

if TYPE_CHECKING:
    from alpharefine.models.config import HeadName
    from alpharefine.options import GeometryName


def resolve_precision(precision: ComputePrecision, device_type: str, geometry: GeometryName) -> ComputePrecision:
    """Resolve ``auto`` to ``16`` on a CUDA device in the geometry ``exact``, else to ``32``.

    The original's geometries always use 32 bits, to reproduce the original's boxes.

    Args:
        precision: Floating-point precision, or ``auto``.
        device_type: Type of the device, such as ``cpu`` or ``cuda``.
        geometry: Crop geometry of the network.

    >>> [resolve_precision("auto", *where) for where in (("cuda", "exact"), ("cuda", "original"), ("cpu", "exact"))]
    ['16', '32', '32']
    """
    if precision != "auto":
        return precision
    return "16" if device_type == "cuda" and geometry == "exact" else "32"


def resolve_box_head(box_from: BoxSource, heads: Collection[HeadName]) -> HeadName:
    """Resolve ``auto`` to the corner head, or to the mask head of a network without a corner head.

    Args:
        box_from: Head that the box is taken from, or ``auto``.
        heads: Heads of the network.

    >>> resolve_box_head("auto", ["corner", "mask"]), resolve_box_head("auto", ["mask"])
    ('corner', 'mask')
    """
    if box_from != "auto":
        return box_from
    return "corner" if "corner" in heads else "mask"
