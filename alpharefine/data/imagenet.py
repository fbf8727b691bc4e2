"""ImageNet's video (VID) and detection (DET) sets of ILSVRC 2015, in their official layouts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.reader import Reader, Record, require_folder, require_sequences
from alpharefine.errors import UserError


@dataclass(frozen=True)
class _Object:
    """One annotated object of a picture, and the area of the picture."""

    track: int
    box_xywh: np.ndarray
    occluded: bool
    picture_area: float


class _ImageNet(Reader):
    """What the two sets share: ``<root>/Annotations/<set>/train/**/*.xml``, ``<root>/Data/<set>/train/**/*.JPEG``.

    Args:
        root: the data set's folder.
        inclusive: whether ``xmax`` and ``ymax`` are the last pixels of the object, which they are; the original takes
            them for the borders.
    """

    subset: ClassVar[str]

    def __init__(self, root: str | Path, inclusive: bool = True) -> None:
        super().__init__(root)
        self.inclusive = inclusive
        self.annotations = require_folder(self.root / "Annotations" / self.subset / "train", type(self).__name__)
        self.pictures = require_folder(self.root / "Data" / self.subset / "train", type(self).__name__)

    def options(self) -> dict[str, object]:
        """How boxes are read."""
        return {"inclusive": self.inclusive}

    def _folders(self) -> list[Path]:
        """The folders that hold annotations themselves."""
        walked = os.walk(self.annotations)
        return sorted(Path(folder) for folder, _, files in walked if any(file.endswith(".xml") for file in files))

    def watched(self) -> Iterator[Path]:
        """The folders of the annotations; there are a million files, which are not looked at one by one."""
        yield from sorted(Path(folder) for folder, _, _ in os.walk(self.annotations))

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Where a picture lies."""
        return self.pictures / name / f"{frame_name}.JPEG"

    def _objects(self, path: Path) -> list[_Object]:
        """Parse one file."""
        try:
            root = ElementTree.parse(path).getroot()
            picture_area = float(self._text(root, "size/width")) * float(self._text(root, "size/height"))
            return [self._object(element, picture_area) for element in root.iter("object")]
        except (ElementTree.ParseError, ValueError, OSError) as error:
            raise UserError(f"{path}: this annotation cannot be read ({error}); restore it.") from error

    def _object(self, element: ElementTree.Element, picture_area: float) -> _Object:
        x1, y1, x2, y2 = (float(self._text(element, f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax"))
        size = np.array([x2 - x1, y2 - y1]) + self.inclusive
        track = int(element.findtext("trackid", "0"))
        return _Object(track, np.array([x1, y1, *size]), element.findtext("occluded", "0").strip() == "1", picture_area)

    def _text(self, element: ElementTree.Element, path: str) -> str:
        text = element.findtext(path)
        if text is None:
            raise ValueError(f"it has no {path}")
        return text


def _is_part(first: _Object) -> bool:
    """Whether an object is smaller than its picture."""
    return bool(first.box_xywh[2:].prod() < first.picture_area)


class ImageNetVID(_ImageNet):
    """Videos ``<root>/Data/VID/train/<part>/<video>/%06d.JPEG``: a sequence for each track, up to its first gap."""

    subset = "VID"

    def records(self) -> Iterator[Record]:
        """Parse every video."""
        for folder in require_sequences(self._folders(), self.annotations):
            yield from self._tracks(folder)

    def _tracks(self, folder: Path) -> Iterator[Record]:
        files = sorted(folder.glob("*.xml"))
        frames = [{each.track: each for each in self._objects(file)} for file in files]
        for track in sorted({track for frame in frames for track in frame}):
            first = next(i for i, frame in enumerate(frames) if track in frame)
            end = next((i for i in range(first, len(frames)) if track not in frames[i]), len(frames))
            seen = [frame[track] for frame in frames[first:end]]
            if not _is_part(seen[0]):
                continue
            boxes_xywh = np.stack([each.box_xywh for each in seen])
            visible = is_valid(boxes_xywh) & ~np.array([each.occluded for each in seen])
            times = np.arange(first, end, dtype=np.int32)
            name = str(folder.relative_to(self.annotations))
            yield Record(name, [file.stem for file in files[first:end]], boxes_xywh, visible, times, track + 1)


class ImageNetDET(_ImageNet):
    """Pictures ``<root>/Data/DET/train/<part>/[<class>/]*.JPEG``: a sequence of one frame for each object."""

    subset = "DET"
    is_video = False

    def records(self) -> Iterator[Record]:
        """Parse every picture."""
        for folder in require_sequences(self._folders(), self.annotations):
            name = str(folder.relative_to(self.annotations))
            for file in sorted(folder.glob("*.xml")):
                for number, each in enumerate(self._objects(file), start=1):
                    if _is_part(each):
                        boxes_xywh = each.box_xywh[None]
                        yield Record(name, [file.stem], boxes_xywh, is_valid(boxes_xywh), object_id=number)
