"""LaSOT (arXiv 1809.07845) in its official layout, for training and one-pass evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
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
)
from alpharefine.data.text import read_flags, read_names, read_rows
from alpharefine.errors import UserError
from alpharefine.notes import note

NUM_IDS = 20
"""Number of sequences in each of the 70 classes: ``<class>-1`` to ``<class>-20``."""


EXTENSION_CLASSES = (
    *("atv", "badminton", "cosplay", "dancingshoe", "footbag", "frisbee", "jianzi", "lantern"),
    *("misc", "opossum", "paddle", "raccoon", "rhino", "skatingshoe", "wingsuit"),
)
"""Classes of the extension subset, each with the sequences ``<class>-1`` to ``<class>-10``."""


def official_testing_set() -> list[str]:
    """Return the 280 test sequences of the official protocol (testing_set.txt of the LaSOT evaluation toolkit)."""
    return (resources.files("alpharefine.data") / "lasot_testing_set.txt").read_text().split()


def official_training_set() -> list[str]:
    """Return the 1120 training sequences of the official protocol: all sequences outside the test set."""
    testing = official_testing_set()
    classes = sorted({name.rpartition("-")[0] for name in testing})
    return [f"{c}-{i}" for c in classes for i in range(1, NUM_IDS + 1) if f"{c}-{i}" not in set(testing)]


def official_extension_subset() -> list[str]:
    """Return the 150 sequences of the extension subset (LaSOText)."""
    return [f"{kind}-{number}" for kind in EXTENSION_CLASSES for number in range(1, 11)]


class LaSOT(SequenceReader):
    """LaSOT reader for sequences in ``<root>/<class>/<class>-<n>/`` or ``<root>/<class>-<n>/``.

    Each sequence contains frames ``img/%08d.jpg`` starting at 1, ``groundtruth.txt`` (x,y,w,h per row),
    ``full_occlusion.txt`` and ``out_of_view.txt`` (one flag per frame). The split is read from
    ``<root>/training_set.txt`` or ``testing_set.txt`` if the file exists. Otherwise the official split of 1120 and 280
    sequences is used; if the root has no sequence of either or of the extension subset, as with own videos, the
    sequences in it that ``testing_set.txt`` does not list are the training split. In a sequence without both files of
    flags, every target with a box is visible.

    Box coordinates are used as stored in the files, as in the original Alpha-Refine code. They are offset by about half
    a pixel to the right and down relative to the coordinates of this library. The authors of LaSOT state that
    coordinates start at 1 (HengLan/LaSOT_Evaluation_Toolkit, issue 14), but subtracting 1 would overcorrect. Of 279
    test sequences, the smallest x is 1 in 81 and 0 in 4, and the largest x + w is 1280 in 51 and 1281 in 5.
    This suggests that box corners are pixel centers. The original weights, published results and scores all use the
    stored coordinates.

    Args:
        root: Folder of the classes or of the sequences.
        split: ``train`` or ``test``.
        missing: ``skip`` omits the sequences of the split that are not in the data root, such as those of classes that
            were not downloaded, and prints their number.

    Raises:
        UserError: If the folder does not exist or the split is unknown.
    """

    def __init__(self, root: str | Path, split: Literal["train", "test"] = "train", missing: Missing = "error") -> None:
        require_choice("LaSOT", "split", split, ("train", "test"))
        require_choice("LaSOT", "missing", missing, get_args(Missing))
        super().__init__(root)
        self.split = split
        self.split_file = self.root / f"{split}ing_set.txt"
        self.names = existing_names(
            self._split_names(),
            lambda name: any(folder.is_dir() for folder in self._folders(name)),
            *(missing, f"LaSOT, split {split}"),
        )

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds a split file of LaSOT, or folders that are named as classes or sequences.

        Args:
            root: Path of an existing folder.
        """
        if any((root / f"{split}ing_set.txt").is_file() for split in ("train", "test")):
            return True
        return any(_is_sequence(root / name) or _is_class(root / name) for name in list_folders(root))

    @classmethod
    def open_all(cls, root: Path) -> list[Reader]:
        """Return one reader of the training split, if it is listed, and of all other sequences in the root.

        Args:
            root: Folder of the data set.
        """
        reader = cls(root)
        listed = reader.names if reader.split_file.is_file() else []
        reader.names = list(dict.fromkeys([*listed, *reader._present_names()]))
        return [reader]

    def part_files(self, name: str) -> PartFiles:
        """Return the frames and text files of one sequence.

        Args:
            name: Name of the sequence.
        """
        folder = self.folder(name)
        boxes = folder / "groundtruth.txt"
        flags = (folder / "full_occlusion.txt", folder / "out_of_view.txt")
        return PartFiles(
            frames=[folder / "img" / frame for frame in self.frame_names(name)],
            rows={boxes: 4} if boxes.is_file() else {},
            flags=[path for path in flags if path.is_file()],
            boxes=boxes,
        )

    def _present_names(self) -> list[str]:
        """Return the names of all sequences in the root, of any split."""
        names = {
            name: None
            for top in list_folders(self.root)
            for name in ([top] if _is_sequence(self.root / top) else list_folders(self.root / top))
            if _is_sequence(self.root / top) or _is_sequence(self.root / top / name)
        }
        return list(names)

    def _split_names(self) -> list[str]:
        if self.split_file.is_file():
            return read_names(self.split_file)
        if self.split == "test":
            return official_testing_set()
        official = official_training_set()
        known = (*official, *official_testing_set(), *official_extension_subset())
        if any(folder.is_dir() for name in known for folder in self._folders(name)):
            return official
        testing = self.root / "testing_set.txt"
        listed = set(read_names(testing)) if testing.is_file() else set()
        own = [name for name in self._present_names() if name not in listed]
        if own:
            note(f"LaSOT: {self.root} has no sequence of the official splits; using the {len(own)} sequences in it.")
        return own or official

    def folder(self, name: str) -> Path:
        """Return the folder of a sequence in either layout.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If the folder does not exist.
        """
        for folder in self._folders(name):
            if folder.is_dir():
                return folder
        raise UserError(
            f"LaSOT: sequence {name} is not in {self.root}; add the folder {name.rpartition('-')[0]}/{name} or {name}, "
            f"or list the available sequences in {self.split_file}, or set the option `missing: skip` of training."
        )

    def _folders(self, name: str) -> tuple[Path, Path]:
        return self.root / name.rpartition("-")[0] / name, self.root / name

    def watched(self) -> Iterator[Path]:
        """Yield the split file, and the frame folder and text files of each sequence."""
        if self.split_file.is_file():
            yield self.split_file
        for name in self.names:
            folder = self.folder(name)
            yield from (folder / n for n in ("img", "groundtruth.txt", "full_occlusion.txt", "out_of_view.txt"))

    def record(self, name: str) -> SequenceRecord:
        """Parse one sequence for training.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If a file is missing or malformed, or the numbers of frames and annotations differ.
        """
        frames, boxes_xywh, absent = self.read(name)
        require_equal_counts(self.folder(name), first_gap(frames), frames=len(frames), groundtruth_rows=len(boxes_xywh))
        return SequenceRecord(name, frames, boxes_xywh, is_valid(boxes_xywh) & ~absent)

    def read(self, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Read one sequence.

        Args:
            name: Name of the sequence.

        Returns:
            Tuple of the file names of the frames, the annotated boxes of shape ``(N, 4)``, float64 xywh, and a boolean
            array of shape ``(N,)`` that is True if the target is fully occluded or out of view. Sequences of the
            extension subset may have more frames than boxes.

        Raises:
            UserError: If a file is missing or malformed, there are fewer frames than boxes, or the flags are neither as
                many as the boxes nor as the frames.
        """
        folder = self.folder(name)
        frames = self.frame_names(name)
        boxes_xywh = read_rows(folder / "groundtruth.txt")
        flags = [folder / "full_occlusion.txt", folder / "out_of_view.txt"]
        absent = ~is_valid(boxes_xywh)
        counts = {}
        if any(path.is_file() for path in flags):
            occluded, out_of_view = map(read_flags, flags)
            counts = {"full_occlusion": len(occluded), "out_of_view": len(out_of_view)}
            if set(counts.values()) <= {len(boxes_xywh), len(frames)} and len(boxes_xywh) <= len(frames):
                return frames, boxes_xywh, (occluded | out_of_view)[: len(boxes_xywh)]
        else:
            note(f"LaSOT: sequences in {self.root} have no flags of occlusion and view; all boxes are visible.")
        if counts or len(boxes_xywh) > len(frames):
            require_equal_counts(
                folder, first_gap(frames), frames=len(frames), groundtruth_rows=len(boxes_xywh), **counts
            )
        return frames, boxes_xywh, absent

    def frame_names(self, name: str) -> list[str]:
        """Return the file names of the frames of a sequence in temporal order.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If the folder of the frames is missing or has no frames.
        """
        return list_frames(self.folder(name) / "img")

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of a frame.

        Args:
            name: Name of the sequence.
            frame_name: File name of the frame.
        """
        return self.folder(name) / "img" / frame_name


def _is_class(folder: Path) -> bool:
    return any(name.startswith(f"{folder.name}-") for name in list_folders(folder))


def _is_sequence(folder: Path) -> bool:
    return folder.name.rpartition("-")[2].isdecimal() and (folder / "img").is_dir()
