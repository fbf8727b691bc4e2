"""GOT-10k (arXiv 1810.11981) in its official layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.reader import (
    Reader,
    SequenceRecord,
    require_choice,
    require_equal_counts,
    require_folder,
    require_sequences,
)
from alpharefine.data.text import read_flags, read_names, read_rows
from alpharefine.errors import UserError

Split = Literal["train", "val", "train_without_holdout", "holdout"]

HOLDOUT_RATIO = 0.15
"""Fraction of the training sequences in ``holdout``: 1401 of 9335 sequences, as in the original code."""

HOLDOUT_SEED = 10_000
"""Seed of the random choice of the ``holdout`` sequences."""


class GOT10k(Reader):
    """GOT-10k reader for sequences in ``<root>/<train|val>/<name>/``, listed in ``list.txt``.

    Each sequence contains frames ``%08d.jpg`` starting at 1, ``groundtruth.txt`` (x,y,w,h per row), ``absence.label``
    (0 or 1 per row) and ``cover.label`` (visible part of the target in eighths, 0 to 8). The root may also be the
    folder of the split itself.

    Box coordinates are used as stored in the files, as in the original code. They start at 1 (got-10k/toolkit, issue
    6), so they are offset by up to one pixel to the right and down relative to the coordinates of this library. See
    `LaSOT` for the same convention.

    Args:
        root: Folder of the data set.
        split: ``train`` or ``val`` for the official splits. ``holdout`` is a fixed random 15 % of the official training
            set and ``train_without_holdout`` is the rest, so that validation needs no further download.

    Raises:
        UserError: If the folder or ``list.txt`` does not exist, or the split is unknown or empty.
    """

    def __init__(self, root: str | Path, split: Split = "train") -> None:
        require_choice("GOT-10k", "split", split, get_args(Split))
        super().__init__(root)
        self.split = split
        folder = "val" if split == "val" else "train"
        is_split = (self.root / "list.txt").is_file()
        if is_split and self.root.resolve().name in {"train", "val", "test"} - {folder}:
            raise UserError(f"GOT-10k: {self.root} is not the folder of split `{split}`; give its parent folder.")
        self.folder = self.root if is_split else require_folder(self.root / folder, "GOT-10k")
        self.list_file = self.folder / "list.txt"
        if not self.list_file.is_file():
            raise UserError(f"GOT-10k: {self.list_file} does not exist; restore it from the data set's archive.")
        self.names = require_sequences(self._split_names(), self.list_file)

    def _split_names(self) -> list[str]:
        names = read_names(self.list_file)
        if self.split in ("train", "val"):
            return names
        num_holdout = int(np.ceil(HOLDOUT_RATIO * len(names)))
        held = np.zeros(len(names), dtype=bool)
        held[np.random.default_rng(HOLDOUT_SEED).permutation(len(names))[:num_holdout]] = True
        return [name for name, h in zip(names, held, strict=True) if h == (self.split == "holdout")]

    def options(self) -> dict[str, object]:
        """Return the names of the sequences."""
        return {"names": self.names}

    def watched(self) -> Iterator[Path]:
        """Yield ``list.txt``, and the folder and text files of each sequence."""
        yield self.list_file
        for name in self.names:
            folder = self.folder / name
            yield from (folder, folder / "groundtruth.txt", folder / "absence.label", folder / "cover.label")

    def records(self) -> Iterator[SequenceRecord]:
        """Parse all sequences of the split."""
        return map(self.record, self.names)

    def record(self, name: str) -> SequenceRecord:
        """Parse one sequence.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If a file is missing or malformed, or the numbers of frames and annotations differ.
        """
        folder = require_folder(self.folder / name, "GOT-10k")
        frames = sorted(p.name for p in folder.iterdir() if p.suffix == ".jpg")
        boxes_xywh = read_rows(folder / "groundtruth.txt")
        absent = read_flags(folder / "absence.label")
        cover = read_rows(folder / "cover.label", columns=1)[:, 0]
        require_equal_counts(
            folder, frames=len(frames), groundtruth_rows=len(boxes_xywh), absence=len(absent), cover=len(cover)
        )
        return SequenceRecord(name, frames, boxes_xywh, is_valid(boxes_xywh) & ~absent & (cover > 0))

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of a frame.

        Args:
            name: Name of the sequence.
            frame_name: File name of the frame.
        """
        return self.folder / name / frame_name
