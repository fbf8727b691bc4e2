"""Data sets with mask images: video sets such as DAVIS and YouTube-VOS, and saliency sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alpharefine.data.images import box_of_mask, read_label_image
from alpharefine.data.reader import Reader, SequenceRecord, require_folder, require_sequences
from alpharefine.errors import UserError

MASK_FOLDERS = ("gt", "ground_truth_mask", "masks")
"""Common names of the mask folder of a saliency set."""


class MaskVideo(Reader):
    """Reader for DAVIS and YouTube-VOS.

    Frames are ``<root>/JPEGImages/[480p/]<video>/*.jpg`` and masks are ``<root>/Annotations/[480p/]<video>/*.png``.
    Palette masks (DAVIS 2017, YouTube-VOS) contain one object per palette index. Grayscale masks (DAVIS 2016) contain
    one object. Frames without a mask are omitted.

    Args:
        root: Folder of the data set, or of the split for YouTube-VOS.
        min_area: Minimum number of visible pixels in a usable frame. The original code uses 1000 for YouTube-VOS.

    Raises:
        UserError: If a folder does not exist or there is no video.
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
        """Return the minimum area."""
        return {"min_area": self.min_area}

    def watched(self) -> Iterator[Path]:
        """Yield the folders and all mask images."""
        yield from (self.masks, self.frames)
        for video in self.videos:
            yield self.frames / video
            yield from sorted((self.masks / video).iterdir())

    def records(self) -> Iterator[SequenceRecord]:
        """Read all masks. Each object is one sequence."""
        for video in self.videos:
            yield from self._objects(video)

    def _objects(self, video: str) -> Iterator[SequenceRecord]:
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
            yield SequenceRecord(video, stems, boxes_xywh, visible, times, object_id)

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of a frame.

        Args:
            name: Name of the video.
            frame_name: File name of the frame without suffix.
        """
        return self.frames / name / f"{frame_name}.jpg"

    def mask_path(self, name: str, frame_name: str) -> Path:
        """Return the path of the mask of a frame.

        Args:
            name: Name of the video.
            frame_name: File name of the frame without suffix.
        """
        return self.masks / name / f"{frame_name}.png"


class Saliency(Reader):
    """Reader for saliency sets: images ``<root>/images/*.jpg`` and masks ``<root>/<masks>/*.png`` of the same names.

    Args:
        root: Folder of the data set.
        min_area: Minimum number of salient pixels in a usable image.
        images: Name of the image folder.
        masks: Name of the mask folder, which may be the image folder. The default is the first existing one of ``gt``,
            ``ground_truth_mask`` and ``masks``.

    Raises:
        UserError: If a folder does not exist.
    """

    is_video = False
    has_masks = True

    def __init__(self, root: str | Path, min_area: int = 100, images: str = "images", masks: str | None = None) -> None:
        super().__init__(root)
        self.min_area = min_area
        self.image_folder = require_folder(self.root / images, "Saliency")
        names = MASK_FOLDERS if masks is None else (masks,)
        found = [self.root / name for name in names if (self.root / name).is_dir()]
        if not found:
            raise UserError(
                f"Saliency: {self.root} must contain a mask folder {' or '.join(names)}; set its name with `masks`."
            )
        self.masks = found[0]

    def options(self) -> dict[str, object]:
        """Return the names of the folders and the minimum area."""
        return {"images": self.image_folder.name, "masks": self.masks.name, "min_area": self.min_area}

    def watched(self) -> Iterator[Path]:
        """Yield the folders and all masks."""
        yield from (self.image_folder, self.masks)
        yield from sorted(self.masks.iterdir())

    def records(self) -> Iterator[SequenceRecord]:
        """Read all masks. Each image is a sequence of one frame."""
        stems = sorted(p.stem for p in self.image_folder.glob("*.jpg"))
        require_sequences(stems, self.image_folder)
        missing = [stem for stem in stems if not self.mask_path(stem, stem).is_file()]
        if missing:
            raise UserError(
                f"{self.image_folder}: image {missing[0]}.jpg has no mask {self.mask_path(missing[0], missing[0])}; "
                "restore the mask, or remove the image."
            )
        for stem in stems:
            mask = read_label_image(self.mask_path(stem, stem)) > 0
            yield SequenceRecord(stem, [stem], box_of_mask(mask)[None], np.array([mask.sum() >= self.min_area]))

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the stem identifies the image
        """Return the path of an image.

        Args:
            name: Name of the sequence.
            frame_name: File name of the image without suffix.
        """
        return self.image_folder / f"{frame_name}.jpg"

    def mask_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the stem identifies the image
        """Return the path of the mask of an image.

        Args:
            name: Name of the sequence.
            frame_name: File name of the image without suffix.
        """
        return self.masks / f"{frame_name}.png"
