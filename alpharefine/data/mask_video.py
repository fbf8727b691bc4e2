"""Data sets with mask images: video sets such as DAVIS and YouTube-VOS, and saliency sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alpharefine.data.frames import (
    FRAME_SUFFIXES,
    frame_times,
    list_folders,
    list_frames,
    list_pictures,
    picture_path,
    stem_of,
    suffix_of,
)
from alpharefine.data.images import box_of_mask, read_label_image, read_labels
from alpharefine.data.label_images import LabelImage
from alpharefine.data.reader import PartFiles, Reader, SequenceRecord, require_folder, require_sequences
from alpharefine.errors import UserError

MASK_FOLDERS = ("gt", "ground_truth_mask", "masks")
"""Common names of the mask folder of a saliency set."""

_MASK_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


class MaskVideo(Reader):
    """Reader for DAVIS and YouTube-VOS.

    Frames are ``<root>/JPEGImages/[480p/]<video>/*.jpg`` and masks are ``<root>/Annotations/[480p/]<video>/*.png`` of
    the same names. Palette masks (DAVIS 2017, YouTube-VOS) contain one object per palette index. Grayscale masks (DAVIS
    2016) contain one object. Frames without a mask are omitted.

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
        self.videos = require_sequences(list_folders(self.masks), self.masks)

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds ``JPEGImages`` or ``Annotations`` with folders of masks.

        Args:
            root: Path of an existing folder.
        """
        return (root / "JPEGImages").is_dir() or (
            (root / "Annotations").is_dir() and not (root / "Data").is_dir()  # ImageNet
        )

    def parts(self) -> list[str]:
        """Return the names of the videos."""
        return self.videos

    def part_files(self, name: str) -> PartFiles:
        """Return the frames and masks of one video.

        Args:
            name: Name of the video.
        """
        frames, masks = self.frames / name, self.masks / name
        return PartFiles(
            frames=[frames / file for file in list_frames(frames)], masks=[masks / file for file in list_frames(masks)]
        )

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
            yield from self.part(video)

    def part(self, name: str) -> Iterator[SequenceRecord]:
        """Read the masks of one video. Each object is one sequence.

        Args:
            name: Name of the video.

        Raises:
            UserError: If a mask is damaged or ambiguous, or has no frame.
        """
        masks = self.masks / name
        files = list_frames(masks)
        stems = [stem_of(file) for file in files]
        frames = {stem_of(file) for file in list_frames(self.frames / name)}
        for file, stem in zip(files, stems, strict=True):
            if stem not in frames:
                raise UserError(
                    f"{masks}: mask {file} has no frame {self.frame_path(name, stem)}; restore the frame, or remove "
                    "the mask."
                )
        images = [read_labels(masks / file) for file in files]
        _require_one_color(masks, files, images)
        labels, times = [image.labels for image in images], frame_times(files)
        for object_id in sorted({int(i) for label in labels for i in np.unique(label)} - {0}):
            objects = [label == object_id for label in labels]
            boxes_xywh = np.array([box_of_mask(mask) for mask in objects])
            visible = np.array([mask.sum() >= self.min_area for mask in objects])
            yield SequenceRecord(name, stems, boxes_xywh, visible, times, object_id)

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of a frame.

        Args:
            name: Name of the video.
            frame_name: File name of the frame without suffix.
        """
        return picture_path(self.frames / name, frame_name)

    def mask_path(self, name: str, frame_name: str) -> Path:
        """Return the path of the mask of a frame.

        Args:
            name: Name of the video.
            frame_name: File name of the frame without suffix.
        """
        return picture_path(self.masks / name, frame_name, _MASK_SUFFIXES)


def _require_one_color(folder: Path, files: list[str], images: list[LabelImage]) -> None:
    """Refuse a video whose masks have one object each, but in different colors."""
    first: dict[tuple[int, int, int], str] = {}
    for file, image in zip(files, images, strict=True):
        if image.target_color is not None:
            first.setdefault(image.target_color, file)
    if len(first) > 1:
        (one, file), (other, other_file) = list(first.items())[:2]
        raise UserError(
            f"{folder}: the target is {','.join(map(str, one))} in {file} and {','.join(map(str, other))} in "
            f"{other_file}, which may be two objects; save palette PNGs with an index per object, or one color."
        )


class Saliency(Reader):
    """Reader for saliency sets: images ``<root>/images/*`` and masks ``<root>/<masks>/*`` of the same names.

    Both are ``.jpg``, ``.jpeg``, ``.png`` or ``.bmp``. In one folder, the masks are the ``.png`` files.

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
        names = MASK_FOLDERS if masks is None else (masks,)
        super().__init__(root, lambda path: (path / images).is_dir() and any((path / n).is_dir() for n in names))
        self.min_area = min_area
        self.image_folder = require_folder(self.root / images, "Saliency")
        found = [self.root / name for name in names if (self.root / name).is_dir()]
        if not found:
            raise UserError(
                f"Saliency: {self.root} must contain a mask folder {' or '.join(names)}; set its name with `masks`."
            )
        self.masks = found[0]
        self.image_suffixes: tuple[str, ...] = FRAME_SUFFIXES
        self.mask_suffixes: tuple[str, ...] = _MASK_SUFFIXES
        if self.masks == self.image_folder:
            self.image_suffixes, self.mask_suffixes = (".jpg", ".jpeg", ".bmp"), (".png",)

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds ``images`` and a folder of masks.

        Args:
            root: Path of an existing folder.
        """
        return (root / "images").is_dir() and any((root / name).is_dir() for name in MASK_FOLDERS)

    def options(self) -> dict[str, object]:
        """Return the names of the folders and the minimum area."""
        return {"images": self.image_folder.name, "masks": self.masks.name, "min_area": self.min_area}

    def watched(self) -> Iterator[Path]:
        """Yield the folders and all masks."""
        yield from (self.image_folder, self.masks)
        yield from sorted(self.masks.iterdir())

    def records(self) -> Iterator[SequenceRecord]:
        """Read all masks. Each image is a sequence of one frame."""
        stems = self.parts()
        for stem in stems:
            if not self.mask_path(stem, stem).is_file():
                raise self._no_mask(stem)
        for stem in stems:
            yield from self.part(stem)

    def parts(self) -> list[str]:
        """Return the file names of the images without suffixes.

        Raises:
            UserError: If there is no image, or two images have the same name.
        """
        files = [n for n in list_pictures(self.image_folder) if suffix_of(n) in self.image_suffixes]
        stems: dict[str, str] = {}
        for file in require_sequences(files, self.image_folder):
            if stems.setdefault(stem_of(file), file) != file:
                raise UserError(f"{self.image_folder}: {stems[stem_of(file)]} and {file} have one name; remove one.")
        return list(stems)

    def part(self, name: str) -> Iterator[SequenceRecord]:
        """Read one mask.

        Args:
            name: File name of the image without suffix.

        Raises:
            UserError: If the mask is missing, damaged or ambiguous.
        """
        path = self.mask_path(name, name)
        if not path.is_file():
            raise self._no_mask(name)
        mask = read_label_image(path) > 0
        yield SequenceRecord(name, [name], box_of_mask(mask)[None], np.array([mask.sum() >= self.min_area]))

    def part_files(self, name: str) -> PartFiles:
        """Return an image and its mask.

        Args:
            name: File name of the image without suffix.
        """
        mask = self.mask_path(name, name)
        return PartFiles([self.frame_path(name, name)], [mask] if mask.is_file() else [])

    def _no_mask(self, stem: str) -> UserError:
        return UserError(
            f"{self.image_folder}: image {self.frame_path(stem, stem).name} has no mask {self.mask_path(stem, stem)}; "
            "restore the mask, or remove the image."
        )

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the stem identifies the image
        """Return the path of an image.

        Args:
            name: Name of the sequence.
            frame_name: File name of the image without suffix.
        """
        return picture_path(self.image_folder, frame_name, self.image_suffixes)

    def mask_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the stem identifies the image
        """Return the path of the mask of an image.

        Args:
            name: Name of the sequence.
            frame_name: File name of the image without suffix.
        """
        return picture_path(self.masks, frame_name, self.mask_suffixes)
