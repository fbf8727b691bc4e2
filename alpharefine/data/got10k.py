"""GOT-10k (arXiv 1810.11981) in its official layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.frames import first_gap, list_folders, list_frames
from alpharefine.data.reader import (
    Missing,
    PartFiles,
    Reader,
    SequenceReader,
    SequenceRecord,
    existing_names,
    require_choice,
    require_equal_counts,
    require_folder,
    require_sequences,
)
from alpharefine.data.text import read_flags, read_names, read_rows
from alpharefine.errors import UserError
from alpharefine.notes import note

Split = Literal["train", "val", "train_without_holdout", "holdout"]

HOLDOUT_RATIO = 0.15
"""Fraction of the training sequences in ``holdout``: 1401 of 9335 sequences, as in the original code."""

HOLDOUT_SEED = 10_000
"""Seed of the random choice of the ``holdout`` sequences."""


class GOT10k(SequenceReader):
    """GOT-10k reader for sequences in ``<root>/<train|val>/<name>/``, listed in ``list.txt``.

    Each sequence contains frames ``%08d.jpg`` starting at 1, ``groundtruth.txt`` (x,y,w,h per row), ``absence.label``
    (0 or 1 per row) and ``cover.label`` (visible part of the target in eighths, 0 to 8). The root may also be the
    folder of the split itself.

    Without ``list.txt``, the sequences are the folders of the split. In a sequence without both label files, every
    target is visible.

    Box coordinates are used as stored in the files, as in the original code. They start at 1 (got-10k/toolkit, issue
    6), so they are offset by up to one pixel to the right and down relative to the coordinates of this library. See
    `LaSOT` for the same convention.

    Args:
        root: Folder of the data set.
        split: ``train`` or ``val`` for the official splits. ``holdout`` is a fixed random 15 % of the official training
            set and ``train_without_holdout`` is the rest, so that validation needs no further download.
        missing: ``skip`` omits the sequences of ``list.txt`` that are not in the data root, and prints their number.

    Raises:
        UserError: If the folder does not exist, or the split is unknown or empty.
    """

    def __init__(self, root: str | Path, split: Split = "train", missing: Missing = "error") -> None:
        require_choice("GOT-10k", "split", split, get_args(Split))
        require_choice("GOT-10k", "missing", missing, get_args(Missing))
        super().__init__(root)
        self.split = split
        folder = "val" if split == "val" else "train"
        is_split = not (self.root / folder).is_dir() and _holds_sequences(self.root, _is_sequence)
        if is_split and self.root.resolve().name in {"train", "val", "test"} - {folder}:
            raise UserError(f"GOT-10k: {self.root} is not the folder of split `{split}`; give its parent folder.")
        self.folder = self.root if is_split else require_folder(self.root / folder, "GOT-10k")
        self.list_file = self.folder / "list.txt"
        self.names = existing_names(
            require_sequences(self._split_names(), self.list_file if self.list_file.is_file() else self.folder),
            lambda name: (self.folder / name).is_dir(),
            *(missing, f"GOT-10k, {self.list_file}"),
        )

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds a split of GOT-10k, or is one, by its list, its labels or its names.

        Args:
            root: Path of an existing folder.
        """
        folders = (root, *(root / split for split in ("train", "val", "test")))
        return any(_holds_sequences(folder, _is_official) for folder in folders)

    @classmethod
    def open_all(cls, root: Path) -> list[Reader]:
        """Return a reader of each existing split, ``train`` and ``val``.

        Args:
            root: Folder of the data set.
        """
        splits: list[Split] = ["train", "val"]
        return [cls(root, split) for split in splits if (root / split).is_dir()] or [cls(root)]

    def part_files(self, name: str) -> PartFiles:
        """Return the frames and text files of one sequence.

        Args:
            name: Name of the sequence.
        """
        folder = self.folder / name
        boxes, cover, absence = (folder / file for file in ("groundtruth.txt", "cover.label", "absence.label"))
        return PartFiles(
            frames=[folder / frame for frame in list_frames(folder)],
            rows={path: columns for path, columns in ((boxes, 4), (cover, 1)) if path.is_file()},
            flags=[absence] if absence.is_file() else [],
            boxes=boxes,
        )

    def _split_names(self) -> list[str]:
        if self.list_file.is_file():
            names = read_names(self.list_file)
        else:
            names = list_folders(self.folder)
            note(f"GOT-10k: {self.list_file} does not exist; using the {len(names)} folders of the split.")
        if self.split in ("train", "val"):
            return names
        num_holdout = int(np.ceil(HOLDOUT_RATIO * len(names)))
        held = np.zeros(len(names), dtype=bool)
        held[np.random.default_rng(HOLDOUT_SEED).permutation(len(names))[:num_holdout]] = True
        return [name for name, h in zip(names, held, strict=True) if h == (self.split == "holdout")]

    def watched(self) -> Iterator[Path]:
        """Yield ``list.txt`` or the folder of the split, and the folder and text files of each sequence."""
        yield self.list_file if self.list_file.is_file() else self.folder
        for name in self.names:
            folder = self.folder / name
            yield from (folder, folder / "groundtruth.txt", folder / "absence.label", folder / "cover.label")

    def record(self, name: str) -> SequenceRecord:
        """Parse one sequence.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If a file is missing or malformed, or the numbers of frames and annotations differ.
        """
        folder = self.folder / name
        if not folder.is_dir():
            raise UserError(
                f"GOT-10k: folder {folder} does not exist; check the data root, or set the option `missing: skip`."
            )
        frames = list_frames(folder)
        boxes_xywh = read_rows(folder / "groundtruth.txt")
        counts = {"frames": len(frames), "groundtruth_rows": len(boxes_xywh)}
        visible = is_valid(boxes_xywh)
        absence, cover = folder / "absence.label", folder / "cover.label"
        if not absence.is_file() and not cover.is_file():
            note(f"GOT-10k: sequences in {self.folder} have no absence.label and cover.label; all boxes are visible.")
            require_equal_counts(folder, first_gap(frames), **counts)
            return SequenceRecord(name, frames, boxes_xywh, visible)
        absent, covered = read_flags(absence), read_rows(cover, columns=1)[:, 0]
        require_equal_counts(folder, first_gap(frames), **counts, absence=len(absent), cover=len(covered))
        return SequenceRecord(name, frames, boxes_xywh, visible & ~absent & (covered > 0))

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of a frame.

        Args:
            name: Name of the sequence.
            frame_name: File name of the frame.
        """
        return self.folder / name / frame_name


def _holds_sequences(folder: Path, test: Callable[[Path], bool]) -> bool:
    """Return True if a folder has ``list.txt``, or one of the first folders in it passes a test."""
    if not folder.is_dir() or (folder / "list.txt").is_file():
        return folder.is_dir()
    return any(test(folder / name) for name in list_folders(folder)[:20])


def _is_sequence(folder: Path) -> bool:
    return (folder / "groundtruth.txt").is_file() and not any((folder / name).is_dir() for name in ("img", "imgs"))


def _is_official(folder: Path) -> bool:
    has_labels = any((folder / label).is_file() for label in ("absence.label", "cover.label"))
    return _is_sequence(folder) and (has_labels or folder.name.startswith("GOT-10k_"))
