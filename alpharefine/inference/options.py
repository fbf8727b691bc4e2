"""Options of inference. This module loads no framework, so that a command line can offer them at once."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from alpharefine.errors import UserError
from alpharefine.options import BoxSource, ComputePrecision

if TYPE_CHECKING:
    from alpharefine.models.config import HeadName
    from alpharefine.options import GeometryName


CPU_INFO = Path("/proc/cpuinfo")
"""File of Linux that lists the instruction sets of the CPU. Elsewhere it is missing, and ``auto`` is ``32``."""

_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}

_ISAS_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Values of oneDNN's variable that leave bfloat16 to emulation."""


def resolve_precision(precision: ComputePrecision, device_type: str, geometry: GeometryName) -> ComputePrecision:
    """Resolve ``auto`` to the fastest precision whose boxes stay close to those of ``32``.

    In the geometry ``exact`` this is ``16`` on a CUDA device, and ``bf16`` on a CPU with instructions for it. Otherwise
    it is ``32``: the original's geometries reproduce the original's boxes.

    Args:
        precision: Floating-point precision, or ``auto``.
        device_type: Type of the device, such as ``cpu`` or ``cuda``.
        geometry: Crop geometry of the network.

    Raises:
        UserError: If the precision is that of an export alone.

    >>> [resolve_precision("auto", *where) for where in (("cuda", "exact"), ("cuda", "original"), ("cpu", "original"))]
    ['16', '32', '32']
    """
    if precision == "8":
        raise UserError(
            "Only an ONNX file computes in 8 bits: write it by `alpharefine export --format onnx --precision 8`, or "
            "choose another `--precision`."
        )
    if precision != "auto":
        return precision
    if geometry != "exact":
        return "32"
    if device_type == "cuda":
        return "16"
    return "bf16" if device_type == "cpu" and _computes_bfloat16() else "32"


def _computes_bfloat16() -> bool:
    """Return True if oneDNN, the library of PyTorch's convolutions, has instructions for bfloat16 on this CPU."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper() in _ISAS_WITHOUT_BFLOAT16 or not CPU_INFO.is_file():
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(CPU_INFO.read_text(encoding="utf-8", errors="replace").split())


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
