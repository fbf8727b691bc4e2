"""COCO 2014 and 2017 (arXiv 1405.0312): every annotated object is a picture with its box and mask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as run_length

from alpharefine.boxes import is_valid
from alpharefine.data.reader import Reader, Record
from alpharefine.errors import UserError


class COCO(Reader):
    """``<root>/annotations/instances_<split><year>.json`` and the pictures in ``<root>/<split><year>/``.

    Crowd annotations are left out.

    Args:
        root: the data set's folder.
        split: ``train`` or ``val``.
        year: 2014 or 2017.
    """

    is_video = False
    has_masks = True

    def __init__(
        self, root: str | Path, split: Literal["train", "val"] = "train", year: Literal[2014, 2017] = 2017
    ) -> None:
        super().__init__(root)
        self.pictures = self.root / f"{split}{year}"
        self.annotation_file = self.root / "annotations" / f"instances_{split}{year}.json"
        for path in (self.pictures, self.annotation_file):
            if not path.exists():
                raise UserError(f"COCO: {path} does not exist; check the data root, or set `year` (2014 or 2017).")

    def options(self) -> dict[str, object]:
        """Nothing beside the annotation file, which is watched."""
        return {"annotations": self.annotation_file.name}

    def watched(self) -> Iterator[Path]:
        """The annotation file and the pictures' folder."""
        yield from (self.annotation_file, self.pictures)

    def records(self) -> Iterator[Record]:
        """Parse the annotation file; one sequence of one frame an object."""
        try:
            content = json.loads(self.annotation_file.read_text())
            pictures = {picture["id"]: picture for picture in content["images"]}
            annotations = [a for a in content["annotations"] if not a["iscrowd"]]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{self.annotation_file}: not a COCO instances file ({error!r}).") from error
        if not annotations:
            raise UserError(f"{self.annotation_file}: this split has no object that is not a crowd.")
        for annotation in annotations:
            picture = pictures[annotation["image_id"]]
            box_xywh = np.array([annotation["bbox"]], dtype=np.float64)
            yield Record(
                name=str(annotation["id"]),
                frame_names=[picture["file_name"]],
                boxes_xywh=box_xywh,
                visible=is_valid(box_xywh),
                masks=[_compressed(annotation["segmentation"], picture["height"], picture["width"])],
            )

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the file name is enough
        """Where a picture lies."""
        return self.pictures / frame_name


def _compressed(segmentation: list[list[float]] | dict[str, Any], height: int, width: int) -> bytes:
    """COCO's compressed run-length counts of polygons, or of counts in either form."""
    if isinstance(segmentation, list):
        runs = run_length.merge(run_length.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = run_length.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    counts: str | bytes = runs["counts"]
    return counts.encode() if isinstance(counts, str) else counts


def decode_mask(counts: bytes, image_size: tuple[int, int]) -> np.ndarray:
    """The mask behind compressed run-length counts.

    Args:
        counts: from `Record.masks`.
        image_size: height and width of the picture.

    Returns:
        ``(H, W)`` uint8, 0 or 1.
    """
    return np.ascontiguousarray(run_length.decode({"counts": counts, "size": list(image_size)}))
