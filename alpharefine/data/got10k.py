"""GOT-10k (arXiv 1810.11981) in its official layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.reader import (
    Reader,
    Record,
    require_choice,
    require_equal_counts,
    require_folder,
    require_sequences,
)
from alpharefine.data.text import read_flags, read_names, read_rows
from alpharefine.errors import UserError

HOLDOUT_RATIO = 0.15
"""Part of the training sequences that ``holdout`` keeps for validation (1401 of 9335, as many as in the original)."""

HOLDOUT_SEED = 10_000


class GOT10k(Reader):
    """Sequences ``<root>/<train|val>/<name>/`` named by ``list.txt``.

    Each holds ``%08d.jpg`` from 1, ``groundtruth.txt`` (x,y,w,h a row), ``absence.label`` (0/1 a row) and
    ``cover.label`` (0..8 eighths of the target that can be seen). The root may also be the folder of the split itself.

    Boxes are used as they stand in the files, as in the original. They count from 1, as the data set's authors say
    (got-10k/toolkit, number 6), so they are up to a pixel right of and below our coordinates; see `LaSOT`.

    Args:
        root: the data set's folder.
        split: ``train`` and ``val`` are the official ones; ``fit`` and ``holdout`` part the official training set into
            a fixed random 85 % and 15 %, so that validation needs no further download.
    """

    def __init__(self, root: str | Path, split: Literal["train", "val", "fit", "holdout"] = "train") -> None:
        require_choice("GOT-10k", "split", split, ("train", "val", "fit", "holdout"))
        super().__init__(root)
        self.split = split
        folder = "val" if split == "val" else "train"
        is_split = (self.root / "list.txt").is_file()
        if is_split and self.root.resolve().name in {"train", "val", "test"} - {folder}:
            raise UserError(f"GOT-10k: {self.root} is another split than `{split}`; give the folder above it.")
        self.folder = self.root if is_split else require_folder(self.root / folder, "GOT-10k")
        self.list_file = self.folder / "list.txt"
        if not self.list_file.is_file():
            raise UserError(f"GOT-10k: no file {self.list_file}; it names the sequences and comes with the data set.")
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
        """The names."""
        return {"names": self.names}

    def watched(self) -> Iterator[Path]:
        """The list, and of each sequence its folder and text files."""
        yield self.list_file
        for name in self.names:
            folder = self.folder / name
            yield from (folder, folder / "groundtruth.txt", folder / "absence.label", folder / "cover.label")

    def records(self) -> Iterator[Record]:
        """Parse every sequence of the split."""
        return map(self.record, self.names)

    def record(self, name: str) -> Record:
        """Parse one sequence."""
        folder = require_folder(self.folder / name, "GOT-10k")
        frames = sorted(p.name for p in folder.iterdir() if p.suffix == ".jpg")
        boxes_xywh = read_rows(folder / "groundtruth.txt")
        absent = read_flags(folder / "absence.label")
        cover = read_rows(folder / "cover.label", columns=1)[:, 0]
        require_equal_counts(
            folder, frames=len(frames), groundtruth_rows=len(boxes_xywh), absence=len(absent), cover=len(cover)
        )
        return Record(name, frames, boxes_xywh, is_valid(boxes_xywh) & ~absent & (cover > 0))

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Where a frame lies."""
        return self.folder / name / frame_name
