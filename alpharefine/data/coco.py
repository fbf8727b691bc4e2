"""COCO 2014 and 2017 (arXiv 1405.0312): every annotated object is a picture with its box and mask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as run_length

from alpharefine.boxes import is_valid
from alpharefine.data.reader import Reader, Record, require_choice
from alpharefine.errors import UserError


class COCO(Reader):
    """``<root>/annotations/instances_<split><year>.json`` and the pictures in ``<root>/<split><year>/``.

    Crowd annotations are left out.

    Args:
        root: the data set's folder.
        split: ``train`` or ``val``.
        year: 2014 or 2017.
        masks: whether its masks are used.
    """

    is_video = False
    has_masks = True  # of the class: unless `masks` says otherwise

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val"] = "train",
        year: Literal[2014, 2017] = 2017,
        masks: bool = True,
    ) -> None:
        require_choice("COCO", "split", split, ("train", "val"))
        require_choice("COCO", "year", year, (2014, 2017))
        super().__init__(root)
        self.has_masks = masks
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
            content = json.loads(self.annotation_file.read_text(encoding="utf-8"))
            pictures = {picture["id"]: picture for picture in content["images"]}
            annotations = [a for a in content["annotations"] if not a["iscrowd"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.annotation_file}: not a COCO instances file ({error!r}); restore it.") from error
        if not annotations:
            raise UserError(f"{self.annotation_file}: no object that is not a crowd; there must be at least one.")
        for number, annotation in enumerate(annotations, start=1):
            try:
                record = _record(annotation, pictures[annotation["image_id"]])
            except (ValueError, KeyError, TypeError) as error:
                told = annotation.get("id", f"without id, the {number}th")
                raise UserError(
                    f"{self.annotation_file}: annotation {told} is malformed ({error!r}); restore the file."
                ) from error
            yield record

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the file name is enough
        """Where a picture lies."""
        return self.pictures / frame_name


def _record(annotation: dict[str, Any], picture: dict[str, Any]) -> Record:
    """Parse one annotation; an object with an empty mask is not visible."""
    height, width = int(picture["height"]), int(picture["width"])
    runs = _runs(annotation["segmentation"], height, width)
    counts: str | bytes = runs["counts"]
    box_xywh = np.array([annotation["bbox"]], dtype=np.float64).reshape(1, 4)
    return Record(
        name=str(annotation["id"]),
        frame_names=[str(picture["file_name"])],
        boxes_xywh=box_xywh,
        visible=is_valid(box_xywh) & bool(run_length.area(runs)),
        masks=[counts.encode() if isinstance(counts, str) else counts],
        mask_sizes=np.array([[height, width]], dtype=np.int32),
    )


def _runs(segmentation: list[list[float]] | dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """The compressed run-length mask of polygons, or of counts in either form.

    Raises:
        ValueError: if it is none of them, or made for a picture of another size.
    """
    if isinstance(segmentation, list):
        polygons = [np.array(points, dtype=np.float64).reshape(-1, 2).ravel().tolist() for points in segmentation]
        solid = [points for points in polygons if len(points) >= 6]  # points and lines enclose nothing
        if solid:
            merged: dict[str, Any] = run_length.merge(run_length.frPyObjects(solid, height, width))
            return merged
        segmentation = {"counts": [height * width], "size": [height, width]}
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"a mask of {segmentation['size']} pixels for a picture of {[height, width]}")
    if isinstance(segmentation["counts"], list):
        if sum(segmentation["counts"]) != height * width:
            raise ValueError(f"run lengths that add up to {sum(segmentation['counts'])}, not {height * width}")
        compressed: dict[str, Any] = run_length.frPyObjects(segmentation, height, width)
        return compressed
    run_length.decode(segmentation)  # tells whether the runs fit into the picture
    return segmentation


def decode_mask(counts: bytes, image_size: tuple[int, int]) -> np.ndarray:
    """The mask behind compressed run-length counts.

    Args:
        counts: from `Record.masks`.
        image_size: height and width of the picture.

    Returns:
        ``(H, W)`` uint8, 0 or 1.
    """
    return np.ascontiguousarray(run_length.decode({"counts": counts, "size": list(image_size)}))
