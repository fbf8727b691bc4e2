"""Data sets whose masks are pictures: DAVIS and YouTube-VOS style video, and saliency sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alpharefine.data.images import box_of_mask, read_label_image
from alpharefine.data.reader import Reader, Record, require_folder, require_sequences
from alpharefine.errors import UserError

MASK_FOLDERS = ("gt", "ground_truth_mask", "masks")
"""Names under which saliency sets keep their masks."""


class MaskVideo(Reader):
    """Frames ``<root>/JPEGImages/[480p/]<video>/*.jpg`` and masks ``<root>/Annotations/[480p/]<video>/*.png``.

    Palette masks (DAVIS 2017, YouTube-VOS) hold one object a palette index, grey masks (DAVIS 2016) one object. Frames
    without a mask picture are left out.

    Args:
        root: the data set's folder, for YouTube-VOS that of the split.
        min_area: visible pixels under which a frame is not used. YouTube-VOS in the original: 1000.
    """

    has_masks = True

    def __init__(self, root: str | Path, min_area: int = 100) -> None:
        super().__init__(root)
        self.min_area = min_area
        frames = require_folder(self.root / "JPEGImages", "MaskVideo")
        resolution = "480p" if (frames / "480p").is_dir() else ""
        self.frames = frames / resolution
        self.masks = require_folder(self.root / "Annotations" / resolution, "MaskVideo")
        self.videos = require_sequences(sorted(p.name for p in self.masks.iterdir() if p.is_dir()), self.masks)

    def options(self) -> dict[str, object]:
        """The least area."""
        return {"min_area": self.min_area}

    def watched(self) -> Iterator[Path]:
        """All mask pictures, and the folders."""
        yield from (self.masks, self.frames)
        for video in self.videos:
            yield self.frames / video
            yield from sorted((self.masks / video).iterdir())

    def records(self) -> Iterator[Record]:
        """Read every mask once; one sequence an object."""
        for video in self.videos:
            yield from self._objects(video)

    def _objects(self, video: str) -> Iterator[Record]:
        stems = sorted(p.stem for p in (self.masks / video).glob("*.png"))
        missing = [s for s in stems if not self.frame_path(video, s).is_file()]
        if missing:
            raise UserError(
                f"{self.masks / video}: mask {missing[0]}.png has no frame {self.frame_path(video, missing[0])}; "
                "restore the frame, or remove the mask."
            )
        labels = [read_label_image(self.mask_path(video, stem)) for stem in stems]
        numbered = all(stem.isdecimal() for stem in stems)
        times = np.array([int(stem) for stem in stems] if numbered else range(len(stems)), dtype=np.int32)
        for object_id in sorted({int(i) for label in labels for i in np.unique(label)} - {0}):
            masks = [label == object_id for label in labels]
            boxes_xywh = np.array([box_of_mask(mask) for mask in masks])
            visible = np.array([mask.sum() >= self.min_area for mask in masks])
            yield Record(video, stems, boxes_xywh, visible, times, object_id)

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Where a frame lies."""
        return self.frames / name / f"{frame_name}.jpg"

    def mask_path(self, name: str, frame_name: str) -> Path:
        """Where the mask of a frame lies."""
        return self.masks / name / f"{frame_name}.png"


class Saliency(Reader):
    """Pictures ``<root>/images/*.jpg`` and masks of the same names in ``gt/``, ``ground_truth_mask/`` or ``masks/``.

    Args:
        root: the data set's folder.
        min_area: salient pixels under which a picture is not used.
        images: name of the pictures' folder.
        masks: name of the masks' folder, which may be that of the pictures; the one of the three that is there by
            default.
    """

    is_video = False
    has_masks = True

    def __init__(self, root: str | Path, min_area: int = 100, images: str = "images", masks: str | None = None) -> None:
        super().__init__(root)
        self.min_area = min_area
        self.pictures = require_folder(self.root / images, "Saliency")
        names = MASK_FOLDERS if masks is None else (masks,)
        found = [self.root / name for name in names if (self.root / name).is_dir()]
        if not found:
            raise UserError(
                f"Saliency: {self.root} has no folder of masks named {' or '.join(names)}; give its name as `masks`."
            )
        self.masks = found[0]

    def options(self) -> dict[str, object]:
        """The folders and the least area."""
        return {"images": self.pictures.name, "masks": self.masks.name, "min_area": self.min_area}

    def watched(self) -> Iterator[Path]:
        """All masks, and the folders."""
        yield from (self.pictures, self.masks)
        yield from sorted(self.masks.iterdir())

    def records(self) -> Iterator[Record]:
        """Read every mask once; one sequence of one frame a picture."""
        stems = sorted(p.stem for p in self.pictures.glob("*.jpg"))
        require_sequences(stems, self.pictures)
        missing = [stem for stem in stems if not self.mask_path(stem, stem).is_file()]
        if missing:
            raise UserError(
                f"{self.pictures}: picture {missing[0]}.jpg has no mask {self.mask_path(missing[0], missing[0])}; "
                "restore the mask, or remove the picture."
            )
        for stem in stems:
            mask = read_label_image(self.mask_path(stem, stem)) > 0
            yield Record(stem, [stem], box_of_mask(mask)[None], np.array([mask.sum() >= self.min_area]))

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the stem is enough
        """Where a picture lies."""
        return self.pictures / f"{frame_name}.jpg"

    def mask_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the stem is enough
        """Where the mask of a picture lies."""
        return self.masks / f"{frame_name}.png"
