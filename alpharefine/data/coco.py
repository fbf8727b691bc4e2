"""COCO 2014 and 2017 (arXiv 1405.0312) as a set of single images with one annotated object each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np

from alpharefine.boxes import are_corners, is_valid
from alpharefine.data.reader import PartFiles, Reader, SequenceRecord, require_choice
from alpharefine.errors import UserError
from alpharefine.notes import note


class _Image(NamedTuple):
    """Entry of an image, alone and by its id, and its numbered objects."""

    entry: dict[str, Any]
    entries: dict[Any, dict[str, Any]]
    objects: list[tuple[int, dict[str, Any]]]


class COCO(Reader):
    """COCO reader for ``<root>/annotations/instances_<split><year>.json`` and images ``<root>/<split><year>/``.

    Each annotated object is a sequence of one frame, with its box and mask. Crowd annotations are omitted. If masks are
    used, an object without a mask is not visible.

    The files that labeling tools export are read with `annotations` and `images`. An image is found by its
    ``file_name``, or by the last part of it, because some tools write the path on the machine that the labels were made
    on.

    Args:
        root: Folder of the data set.
        split: ``train`` or ``val``.
        year: 2014 or 2017.
        masks: Use the masks.
        annotations: Path of the annotation file, relative to the root, in place of that of COCO's split.
        images: Folder of the images, relative to the root, in place of that of COCO's split. With `annotations`, the
            default is the folder of the annotation file.

    Raises:
        UserError: If a file or folder does not exist, or the split or year is unknown.
    """

    is_video = False
    has_masks = True  # the default; `masks` overrides it for an instance

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val"] = "train",
        year: Literal[2014, 2017] = 2017,
        masks: bool = True,
        annotations: str | None = None,
        images: str | None = None,
    ) -> None:
        require_choice("COCO", "split", split, ("train", "val"))
        require_choice("COCO", "year", year, (2014, 2017))
        file = annotations or f"annotations/instances_{split}{year}.json"
        super().__init__(root, lambda path: (path / file).is_file())
        self.has_masks = masks
        self.annotation_file = self.root / file
        self.image_folder = self.root / f"{split}{year}"
        if images is not None:
            self.image_folder = self.root / images
        elif annotations is not None:
            self.image_folder = self.annotation_file.parent
        self._is_export = annotations is not None or images is not None
        for path in (self.image_folder, self.annotation_file):
            if not path.exists():
                exports = [f"`annotations: {one}`, `images: {other}`" for one, other in coco_files(self.root)]
                found = f" (found: {'; '.join(exports)})" if exports else ""
                raise UserError(
                    f"COCO: {path} does not exist; check the data root and `year` (2014 or 2017), or give the export "
                    f"of a labeling tool by the options `annotations` and `images`{found}."
                )

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds annotation files of COCO or of a labeling tool, see `coco_files`.

        Args:
            root: Path of an existing folder.
        """
        return bool(coco_files(root))

    @classmethod
    def open_all(cls, root: Path) -> list[Reader]:
        """Return a reader of each annotation file, see `coco_files`.

        Args:
            root: Folder of the data set.
        """
        return [cls(root, annotations=file, images=images) for file, images in coco_files(root)] or [cls(root)]

    def options(self) -> dict[str, object]:
        """Return the paths of the annotation file and the images, and the use of masks."""
        paths = (str(path.relative_to(self.root)) for path in (self.annotation_file, self.image_folder))
        return {"annotations": next(paths), "images": next(paths), "masks": self.has_masks}

    def watched(self) -> Iterator[Path]:
        """Yield the annotation file and the image folder."""
        yield from (self.annotation_file, self.image_folder)

    def records(self) -> Iterator[SequenceRecord]:
        """Parse the annotation file.

        Raises:
            UserError: If the file is malformed, or has no object.
        """
        images, annotations = self.content()
        if self.has_masks and not any(annotation.get("segmentation") for annotation in annotations):
            note(
                f"COCO: no object in {self.annotation_file} has a mask; set the option `masks: false` to use the boxes."
            )
        for number, annotation in enumerate(annotations, start=1):
            yield self.parse(annotation, images, number)

    def content(self) -> tuple[dict[Any, dict[str, Any]], list[dict[str, Any]]]:
        """Return the entries of the annotation file: images by id, and objects that are not crowds.

        Raises:
            UserError: If the file is not a COCO instances file or has no object.
        """
        try:
            content = json.loads(self.annotation_file.read_text(encoding="utf-8-sig"))
            images = {image["id"]: image for image in content["images"]}
            annotations = [a for a in content["annotations"] if not a.get("iscrowd")]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.annotation_file} is not a COCO instances file ({error!r}); restore it.") from error
        if not annotations:
            raise UserError(
                f"{self.annotation_file} must contain at least one object that is not a crowd, found none; restore the "
                "file."
            )
        return images, annotations

    @cached_property
    def _images(self) -> dict[str, _Image]:
        """Images with their objects by id; the objects of unknown images are under an empty id."""
        entries, annotations = self.content()
        images = {str(identity): _Image(entry, {identity: entry}, []) for identity, entry in entries.items()}
        unknown = _Image({}, {}, [])
        for number, annotation in enumerate(annotations, start=1):
            images.get(str(annotation.get("image_id")), unknown).objects.append((number, annotation))
        return {**images, "": unknown} if unknown.objects else images

    def parts(self) -> list[str]:
        """Return the ids of the images, and an empty id if there are objects of unknown images.

        Raises:
            UserError: If the file is not a COCO instances file or has no object.
        """
        return list(self._images)

    def share(self, names: list[str]) -> COCO:
        """Return a reader of some images.

        Args:
            names: Ids of the images.
        """
        shared = copy(self)
        shared.__dict__["_images"] = {name: self._images[name] for name in names}
        return shared

    def part(self, name: str) -> Iterator[SequenceRecord]:
        """Parse the objects of one image.

        Args:
            name: Id of the image.

        Raises:
            UserError: If an annotation is malformed.
        """
        image = self._images[name]
        return (self.parse(annotation, image.entries, number) for number, annotation in image.objects)

    def part_files(self, name: str) -> PartFiles:
        """Return the path of one image.

        Args:
            name: Id of the image.

        Raises:
            UserError: If the image has no file name.
        """
        entry = self._images[name].entry
        if not name:
            return PartFiles()
        if "file_name" not in entry:
            raise UserError(f"{self.annotation_file}: image {name} has no file_name; restore the file.")
        path = self.image_folder / self._file_name(str(entry["file_name"]))
        size = _size(entry)
        return PartFiles([path], sizes={} if size is None else {path: size})

    def inspect(self, name: str) -> tuple[list[SequenceRecord], list[str]]:
        """Parse every object of one image.

        Args:
            name: Id of the image.
        """
        records, faults = [], []
        for number, annotation in self._images[name].objects:
            try:
                records.append(self.parse(annotation, self._images[name].entries, number))
            except UserError as error:
                faults.append(str(error))
        return records, faults

    def parse(self, annotation: dict[str, Any], images: dict[Any, dict[str, Any]], number: int) -> SequenceRecord:
        """Parse the annotation of one object.

        Args:
            annotation: Entry of the annotation file.
            images: Entries of the images by id.
            number: Number of the annotation, which names it if it has no id.

        Raises:
            UserError: If the annotation is malformed.
        """
        try:
            image = images[annotation["image_id"]]
            name = str(annotation.get("id", f"number {number}"))
            return _record(annotation, image, name, self._file_name(str(image["file_name"])), self.has_masks)
        except UserError as error:
            raise UserError(f"{self.annotation_file}: {error}") from error
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            label = annotation.get("id", f"number {number}, which has no id,")
            raise UserError(
                f"{self.annotation_file}: annotation {label} is malformed ({error!r}); restore the file."
            ) from error

    def _file_name(self, file_name: str) -> str:
        """Return the path of an image, relative to the image folder."""
        if not self._is_export:
            return file_name
        path = PurePosixPath(file_name.replace("\\", "/"))
        subset = self.annotation_file.stem.removeprefix("instances_")  # CVAT's `images/default`
        for candidate in (path, PurePosixPath(*path.parts[1:]), path.name, PurePosixPath(subset, path)):
            if (self.image_folder / candidate).is_file():
                return str(candidate)
        return str(path.name)

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the file name identifies the image
        """Return the path of an image.

        Args:
            name: Id of the annotation.
            frame_name: File name of the image.
        """
        return self.image_folder / frame_name


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """Return the height and width of the entry of an image; None if it has none."""
    height, width = image.get("height"), image.get("width")
    return None if height is None or width is None else (int(height), int(width))


def _record(
    annotation: dict[str, Any], image: dict[str, Any], name: str, file_name: str, has_mask: bool
) -> SequenceRecord:
    """Parse one annotation. An object with an empty mask is not visible."""
    from pycocotools import mask as run_length

    box_xywh = np.array([annotation["bbox"]], dtype=np.float64).reshape(1, 4)
    size = _size(image)
    x, y, w, h = box_xywh[0].tolist()
    # Most boxes are inside, which Python tells in less time than NumPy.
    if size is not None and (x + w > size[1] or y + h > size[0]) and are_corners(box_xywh, size):
        raise UserError(
            f"annotation {name}: `bbox` must be x,y,w,h in pixels, but {annotation['bbox']} leaves the image and fits "
            "it as x1,y1,x2,y2; convert the boxes."
        )
    if not has_mask:
        return SequenceRecord(name, [file_name], box_xywh, is_valid(box_xywh))
    height, width = int(image["height"]), int(image["width"])
    runs = _runs(annotation.get("segmentation") or [], height, width)
    counts: str | bytes = runs["counts"]
    return SequenceRecord(
        name=name,
        frame_names=[file_name],
        boxes_xywh=box_xywh,
        visible=is_valid(box_xywh) & bool(run_length.area(runs)),
        masks=[counts.encode() if isinstance(counts, str) else counts],
        mask_sizes=np.array([[height, width]], dtype=np.int32),
    )


def _runs(segmentation: list[list[float]] | dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Convert polygons, or compressed or uncompressed run lengths, to a compressed run-length mask.

    Raises:
        ValueError: If the segmentation is invalid, or does not have the size of the image.
    """
    from pycocotools import mask as run_length

    if isinstance(segmentation, list):
        polygons = [np.array(points, dtype=np.float64).reshape(-1, 2).ravel().tolist() for points in segmentation]
        solid = [points for points in polygons if len(points) >= 6]  # points and lines have no area
        if solid:
            merged: dict[str, Any] = run_length.merge(run_length.frPyObjects(solid, height, width))
            return merged
        segmentation = {"counts": [height * width], "size": [height, width]}
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"the mask size is {segmentation['size']}, the image size is {[height, width]}")
    if isinstance(segmentation["counts"], list):
        if sum(segmentation["counts"]) != height * width:
            raise ValueError(f"the run lengths sum to {sum(segmentation['counts'])} instead of {height * width}")
        compressed: dict[str, Any] = run_length.frPyObjects(segmentation, height, width)
        return compressed
    run_length.decode(segmentation)  # raises an error if the runs do not match the image size
    return segmentation


def coco_files(root: Path) -> list[tuple[str, str]]:
    """Return the annotation files in a folder and the image folder of each, both relative to the folder.

    Known are the layouts of COCO, CVAT (``annotations/instances_*.json``), Label Studio (``result.json``) and Roboflow
    (``<split>/_annotations.coco.json``).

    Args:
        root: Path of an existing folder.
    """
    found = []
    for file in sorted((root / "annotations").glob("instances_*.json")):
        name = file.stem.removeprefix("instances_")
        images = next((folder for folder in (name, f"images/{name}", "images") if (root / folder).is_dir()), name)
        found.append((f"annotations/{file.name}", images))
    if (root / "result.json").is_file() and (root / "images").is_dir():
        found.append(("result.json", "images"))
    for file in sorted(root.glob("*/_annotations.coco.json")):
        found.append((f"{file.parent.name}/{file.name}", file.parent.name))
    return found


def decode_mask(counts: bytes, image_size: tuple[int, int]) -> np.ndarray:
    """Decode a compressed run-length mask.

    Args:
        counts: Compressed run lengths, see `SequenceRecord.masks`.
        image_size: Height and width of the image.

    Returns:
        Mask of shape ``(H, W)``, uint8, with values 0 and 1.
    """
    from pycocotools import mask as run_length

    return np.ascontiguousarray(run_length.decode({"counts": counts, "size": list(image_size)}))
