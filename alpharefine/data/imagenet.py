"""ImageNet video (VID) and detection (DET) data sets of ILSVRC 2015, in their official layouts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.frames import frame_order, frame_times, is_foreign, picture_path
from alpharefine.data.reader import PartFiles, Reader, SequenceRecord, require_folder, require_sequences
from alpharefine.errors import UserError


@dataclass(frozen=True)
class _Object:
    """Annotated object of an image, and the area of the image in pixels."""

    track: int
    box_xywh: np.ndarray
    occluded: bool
    image_area: float


class _ImageNet(Reader):
    """Base class of both readers.

    Annotations are ``<root>/Annotations/<subset>/train/**/*.xml`` and images are
    ``<root>/Data/<subset>/train/**/*.JPEG``.

    Args:
        root: Folder of the data set.
        inclusive: Treat ``xmax`` and ``ymax`` as the last pixels of the object, which is correct. The original code
            treats them as the box borders (``False``).

    Raises:
        UserError: If the folder of the annotations or images does not exist.
    """

    subset: ClassVar[str]

    def __init__(self, root: str | Path, inclusive: bool = True) -> None:
        super().__init__(root)
        self.inclusive = inclusive
        self.annotations = require_folder(self.root / "Annotations" / self.subset / "train", type(self).__name__)
        self.image_folder = require_folder(self.root / "Data" / self.subset / "train", type(self).__name__)

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds the annotations or images of the data set.

        Args:
            root: Path of an existing folder.
        """
        return any((root / kind / cls.subset / "train").is_dir() for kind in ("Annotations", "Data"))

    def parts(self) -> list[str]:
        """Return the folders that directly contain annotation files, relative to that of all annotations."""
        return [str(folder.relative_to(self.annotations)) for folder in self._folders()]

    def records(self) -> Iterator[SequenceRecord]:
        """Parse all folders."""
        for name in self.parts():
            yield from self.part(name)

    def part_files(self, name: str) -> PartFiles:
        """Return the images that have annotations in one folder.

        Args:
            name: Folder of the images, relative to that of all annotations.
        """
        return PartFiles([self.frame_path(name, file.stem) for file in self._files(self.annotations / name)])

    def inspect(self, name: str) -> tuple[list[SequenceRecord], list[str]]:
        """Parse each annotation of one folder, and the sequences if all are whole.

        Args:
            name: Folder of the images, relative to that of all annotations.
        """
        faults = []
        for file in self._files(self.annotations / name):
            try:
                self._objects(file)
            except UserError as error:
                faults.append(str(error))
        return ([], faults) if faults else super().inspect(name)

    def options(self) -> dict[str, object]:
        """Return the interpretation of the boxes."""
        return {"inclusive": self.inclusive}

    def _folders(self) -> list[Path]:
        """Return the folders that directly contain annotation files."""
        folders = (Path(folder) for folder, _, files in os.walk(self.annotations) if any(map(_is_annotation, files)))
        found = sorted(f for f in folders if not any(map(is_foreign, f.relative_to(self.annotations).parts)))
        return require_sequences(found, self.annotations)

    def _files(self, folder: Path) -> list[Path]:
        """Return the annotation files of a folder in temporal order.

        Raises:
            UserError: If two names hold the same number.
        """
        names = sorted(filter(_is_annotation, os.listdir(folder)), key=frame_order)  # noqa: PTH208 - quick
        for name, after in pairwise(names if self.is_video else []):
            if frame_order(name) == frame_order(after):
                raise UserError(f"{folder}: annotations {name} and {after} have the same number; remove one of them.")
        return [folder / name for name in names]

    def watched(self) -> Iterator[Path]:
        """Yield the annotation folders. The files are not included, as there are about a million of them."""
        yield from sorted(Path(folder) for folder, _, _ in os.walk(self.annotations))

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of an image.

        Args:
            name: Folder of the image, relative to the training images.
            frame_name: File name of the image without suffix.
        """
        folder = self.image_folder / name
        official = folder / f"{frame_name}.JPEG"
        found = official if official.is_file() else picture_path(folder, frame_name)
        return found if found.is_file() else official

    def _objects(self, path: Path) -> list[_Object]:
        """Parse one annotation file."""
        try:
            root = ElementTree.parse(path).getroot()
            image_area = float(self._text(root, "size/width")) * float(self._text(root, "size/height"))
            return [self._object(element, image_area) for element in root.iter("object")]
        except (ElementTree.ParseError, ValueError, OSError) as error:
            raise UserError(f"{path}: cannot read this annotation ({error}); restore it.") from error

    def _object(self, element: ElementTree.Element, image_area: float) -> _Object:
        x1, y1, x2, y2 = (float(self._text(element, f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax"))
        size = np.array([x2 - x1, y2 - y1]) + self.inclusive
        track = int(element.findtext("trackid", "0"))
        return _Object(track, np.array([x1, y1, *size]), element.findtext("occluded", "0").strip() == "1", image_area)

    def _text(self, element: ElementTree.Element, path: str) -> str:
        text = element.findtext(path)
        if text is None:
            raise ValueError(f"element {path} is missing")
        return text


def _is_annotation(name: str) -> bool:
    return name.lower().endswith(".xml") and not is_foreign(name)


def _is_smaller_than_image(annotated: _Object) -> bool:
    return bool(annotated.box_xywh[2:].prod() < annotated.image_area)


class ImageNetVID(_ImageNet):
    """ImageNet VID reader for videos ``<root>/Data/VID/train/<part>/<video>/%06d.JPEG``.

    Each track is a sequence that ends at the first frame without the object. Tracks whose first box covers the whole
    image are omitted.

    Args:
        root: Folder of the data set.
        inclusive: Treat ``xmax`` and ``ymax`` as the last pixels of the object, which is correct. The original code
            treats them as the box borders (``False``).
    """

    subset = "VID"

    def part(self, name: str) -> Iterator[SequenceRecord]:
        """Parse one video.

        Args:
            name: Folder of the video, relative to that of all annotations.

        Raises:
            UserError: If an annotation is malformed, or two have the same number.
        """
        files = self._files(self.annotations / name)
        times = frame_times([file.name for file in files])
        frames = [{each.track: each for each in self._objects(file)} for file in files]
        for track in sorted({track for frame in frames for track in frame}):
            first = next(i for i, frame in enumerate(frames) if track in frame)
            end = next((i for i in range(first, len(frames)) if track not in frames[i]), len(frames))
            seen = [frame[track] for frame in frames[first:end]]
            if not _is_smaller_than_image(seen[0]):
                continue
            boxes_xywh = np.stack([each.box_xywh for each in seen])
            visible = is_valid(boxes_xywh) & ~np.array([each.occluded for each in seen])
            stems = [file.stem for file in files[first:end]]
            yield SequenceRecord(name, stems, boxes_xywh, visible, times[first:end], track + 1)


class ImageNetDET(_ImageNet):
    """ImageNet DET reader for images ``<root>/Data/DET/train/<part>/[<class>/]*.JPEG``.

    Each object is a sequence of one frame. Objects that cover the whole image are omitted.

    Args:
        root: Folder of the data set.
        inclusive: Treat ``xmax`` and ``ymax`` as the last pixels of the object, which is correct. The original code
            treats them as the box borders (``False``).
    """

    subset = "DET"
    is_video = False

    def part(self, name: str) -> Iterator[SequenceRecord]:
        """Parse the images of one folder.

        Args:
            name: Folder of the images, relative to that of all annotations.

        Raises:
            UserError: If an annotation is malformed, or two have the same number.
        """
        for file in self._files(self.annotations / name):
            for number, each in enumerate(self._objects(file), start=1):
                if _is_smaller_than_image(each):
                    boxes_xywh = each.box_xywh[None]
                    yield SequenceRecord(name, [file.stem], boxes_xywh, is_valid(boxes_xywh), object_id=number)
