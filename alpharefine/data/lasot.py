"""LaSOT (arXiv 1809.07845) in its official layout, for training and for one-pass evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.frames import list_frames
from alpharefine.data.reader import Reader, Record, require_choice, require_equal_counts
from alpharefine.data.text import read_flags, read_names, read_rows
from alpharefine.errors import UserError

NUM_IDS = 20
"""Sequences of each of the 70 classes: ``<class>-1`` to ``<class>-20``."""


def official_testing_set() -> list[str]:
    """The 280 test sequences of the official protocol (testing_set.txt of the LaSOT evaluation toolkit)."""
    return (resources.files("alpharefine.data") / "lasot_testing_set.txt").read_text().split()


def official_training_set() -> list[str]:
    """The 1120 training sequences of the official protocol: every sequence that is not a test sequence."""
    testing = official_testing_set()
    classes = sorted({name.rpartition("-")[0] for name in testing})
    return [f"{c}-{i}" for c in classes for i in range(1, NUM_IDS + 1) if f"{c}-{i}" not in set(testing)]


class LaSOT(Reader):
    """Sequences ``<root>/<class>/<class>-<n>/`` or ``<root>/<class>-<n>/``.

    Each holds ``img/%08d.jpg`` from 1, ``groundtruth.txt`` (x,y,w,h a row), ``full_occlusion.txt`` and
    ``out_of_view.txt`` (one flag a frame). The split is ``<root>/training_set.txt`` or ``testing_set.txt`` where it
    exists, else the official one of 1120 and 280 sequences.

    Boxes are used as they stand in the files, about half a pixel right of and below our coordinates. They count from
    1, the data set's authors say (HengLan/LaSOT_Evaluation_Toolkit, number 14), but a pixel less would be too much: of
    279 test sequences the smallest x is 1 in 81 and 0 in 4, and the largest x + w is 1280 in 51 and 1281 in 5, as if
    corners were centres of pixels. The original shifts nothing, so that its weights have learnt these numbers, in which
    trackers, results and scores speak too.

    Args:
        root: the folder of the classes, or of the sequences.
        split: ``train`` or ``test``.
    """

    def __init__(self, root: str | Path, split: Literal["train", "test"] = "train") -> None:
        require_choice("LaSOT", "split", split, ("train", "test"))
        super().__init__(root)
        self.split = split
        self.split_file = self.root / f"{split}ing_set.txt"
        self.names = self._split_names()

    def _split_names(self) -> list[str]:
        if self.split_file.is_file():
            return read_names(self.split_file)
        return official_training_set() if self.split == "train" else official_testing_set()

    def options(self) -> dict[str, object]:
        """The names."""
        return {"names": self.names}

    def folder(self, name: str) -> Path:
        """Where a sequence lies, in either layout.

        Raises:
            UserError: if it is in neither.
        """
        nested, flat = self.root / name.rpartition("-")[0] / name, self.root / name
        for folder in (nested, flat):
            if folder.is_dir():
                return folder
        raise UserError(
            f"LaSOT: sequence {name} is not in {self.root}, neither in a folder of its class nor in {name}/; "
            f"add it, or list the sequences that are there in {self.split_file}."
        )

    def watched(self) -> Iterator[Path]:
        """The split file, and of each sequence its pictures' folder and text files."""
        if self.split_file.is_file():
            yield self.split_file
        for name in self.names:
            folder = self.folder(name)
            yield from (folder / n for n in ("img", "groundtruth.txt", "full_occlusion.txt", "out_of_view.txt"))

    def records(self) -> Iterator[Record]:
        """Parse every sequence of the split."""
        return map(self.record, self.names)

    def record(self, name: str) -> Record:
        """Parse one sequence."""
        frames, boxes_xywh, absent = self.read(name)
        return Record(name, frames, boxes_xywh, is_valid(boxes_xywh) & ~absent)

    def read(self, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Read one sequence.

        Returns:
            File names of the N frames; ``(N, 4)`` float64 xywh as annotated; ``(N,)`` bool, where the target is fully
            occluded or out of view.

        Raises:
            UserError: if a file is missing or malformed, or they differ in their number of frames.
        """
        folder = self.folder(name)
        frames = self.frame_names(name)
        boxes_xywh = read_rows(folder / "groundtruth.txt")
        occluded, out_of_view = read_flags(folder / "full_occlusion.txt"), read_flags(folder / "out_of_view.txt")
        require_equal_counts(
            folder,
            frames=len(frames),
            groundtruth_rows=len(boxes_xywh),
            full_occlusion=len(occluded),
            out_of_view=len(out_of_view),
        )
        return frames, boxes_xywh, occluded | out_of_view

    def frame_names(self, name: str) -> list[str]:
        """Return the file names of the frames of a sequence in temporal order.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If the folder of the frames is missing or has no frames.
        """
        return list_frames(self.folder(name) / "img")

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Where a frame lies."""
        return self.folder(name) / "img" / frame_name
