"""Writers of small ImageNet VID and DET trees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIZE = (60, 80)

Annotated = tuple[int, Sequence[int], bool]
"""Track id, box as x1, y1, x2, y2 (last pixels), and occlusion flag."""


def write_image(path: Path, value: int = 90) -> None:
    """Write an image of one gray level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*SIZE, 3), value, np.uint8))


def write_annotation(path: Path, objects: Sequence[Annotated], video: bool) -> None:
    """Write the annotation file of an image."""

    def text(track: int, box: Sequence[int], occluded: bool) -> str:
        x1, y1, x2, y2 = box
        corners = f"<xmax>{x2}</xmax><xmin>{x1}</xmin><ymax>{y2}</ymax><ymin>{y1}</ymin>"
        more = f"<trackid>{track}</trackid><occluded>{int(occluded)}</occluded>" if video else ""
        return f"<object><name>n0</name><bndbox>{corners}</bndbox>{more}</object>"

    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
    path.write_text(f"<annotation><folder>f</folder>{size}{''.join(text(*each) for each in objects)}</annotation>")
