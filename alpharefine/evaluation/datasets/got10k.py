"""GOT-10k (arXiv 1810.11981): validation split with ground truth, test split with a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.frames import list_frames
from alpharefine.data.got10k import GOT10k
from alpharefine.data.images import read_image
from alpharefine.data.text import read_names, read_rows, read_text
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import (
    EvaluationDataset,
    EvaluationSequence,
    FramePaths,
    GroundTruth,
    Scoring,
    annotated_sequence,
    first_box_truth,
    require_one_row_a_frame,
    require_row_a_box,
    sequence_folders,
)
from alpharefine.evaluation.datasets.submission import require_complete, rows_text, write_archive
from alpharefine.metrics import Protocol
from alpharefine.notes import note

NUM_TEST = 180
"""Sequences of the test split."""

_RESOLUTION = re.compile(r"^resolution:\s*\(?(\d+),\s*(\d+)\)?", re.MULTILINE)


class GOT10kDataset(EvaluationDataset):
    """GOT-10k: 180 sequences each for validation and test.

    The data root holds ``val/`` and ``test/``, or is one of the two. A split holds ``list.txt`` (without it, all
    folders are sequences) and ``<sequence>/`` with ``%08d.jpg`` from 1 and ``groundtruth.txt``; for validation also
    ``cover.label`` (visible eighths of the target) and ``meta_info.ini`` (with the resolution).

    The split ``val`` is scored by average overlap (AO) and success rates (SR), without the frames whose cover is 0. Of
    the split ``test`` only the first boxes are public. Its archive has the layout that got10k-toolkit writes:
    ``<sequence>/<sequence>_001.txt`` with a box in each row and ``<sequence>/<sequence>_time.txt`` with seconds.

    Sequences that are given by name belong to the test split if the first name begins with ``GOT-10k_Test_``.

    Args:
        config: Folder, split and sequences.
    """

    splits: ClassVar[tuple[str, ...]] = ("test", "val")
    default_protocol: ClassVar[Protocol] = "got10k"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self._split = config.split
        given = self.given_names()
        if given:
            self._split = "test" if given[0].startswith("GOT-10k_Test_") else "val"
        self._folder = self._split_folder()
        self.names = self.chosen_names()

    def _split_folder(self) -> Path:
        root = self.root
        if (root / self._split).is_dir():
            return root / self._split
        if root.resolve().name in {"train", "val", "test"} - {self._split}:
            raise UserError(f"`--data_root`: {root} is another split than `{self._split}`; give the folder above it.")
        return root

    @property
    def split(self) -> str:
        """Name of the split, also if sequences are given by name."""
        return self._split

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds a split of GOT-10k, or is one.

        Args:
            root: Path of an existing folder.
        """
        return GOT10k.fits(root)

    def official_names(self) -> list[str]:
        """Return the names in ``list.txt``, or the folders of the split where it is missing."""
        list_file = self._folder / "list.txt"
        return read_names(list_file) if list_file.is_file() else sequence_folders(self._folder)

    @property
    def scoring(self) -> Scoring:
        """AO and SR for validation, a submission archive for the test split."""
        return "server" if self._split == "test" else "got10k"

    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or there are more rows than frames.
        """
        folder = self._folder / name
        frames = FramePaths(folder, list_frames(folder))
        path = folder / "groundtruth.txt"
        boxes_xywh = read_rows(path)
        if self._split == "test":
            return EvaluationSequence(name, first_box_truth(path, boxes_xywh, len(frames)), frames)
        if len(boxes_xywh) > len(frames):
            require_one_row_a_frame(frames, path, len(boxes_xywh))
        absent = ~is_valid(boxes_xywh)
        if (folder / "cover.label").is_file():
            cover = read_rows(folder / "cover.label", columns=1)[:, 0]
            require_row_a_box(folder / "cover.label", len(cover), len(boxes_xywh), len(frames))
            absent = cover[: len(boxes_xywh)] == 0
        else:
            note(f"GOT-10k: sequences in {self._folder} have no cover.label; all boxes count.")
        return annotated_sequence(name, frames, path, GroundTruth(boxes_xywh, absent, _image_size(folder, frames)))

    def pack(self, boxes_xywh: Mapping[str, np.ndarray], times_ms: Mapping[str, np.ndarray], path: Path) -> None:
        """Write the archive that GOT-10k's server takes.

        Args:
            boxes_xywh: ``(N, 4)`` boxes of every sequence, by name.
            times_ms: ``(N,)`` milliseconds per frame of every sequence, by name.
            path: Path of the archive.

        Raises:
            UserError: If a sequence of the split is missing, or its boxes or times differ in number from the frames.
        """
        if self._split != "test":
            raise UserError("GOT-10k's server scores the test split alone: choose it by `--split test`.")
        files = []
        for name, boxes in require_complete(self, boxes_xywh, NUM_TEST).items():
            times = times_ms.get(name, np.empty(0))
            if times.shape != (len(boxes),):
                raise UserError(
                    f"Sequence {name}: a submission needs one time for each of the {len(boxes)} frames, got "
                    f"{times.size}; run the tracker on this sequence again."
                )
            files.append((f"{name}/{name}_001.txt", rows_text(boxes, decimals=4)))
            files.append((f"{name}/{name}_time.txt", rows_text(times[:, None] / 1000.0, decimals=8)))
        write_archive(path, files)


def _image_size(folder: Path, frames: FramePaths) -> tuple[int, int]:
    """Return height and width from ``meta_info.ini``, or from the first frame where it has none."""
    path = folder / "meta_info.ini"
    found = _RESOLUTION.search(read_text(path)) if path.is_file() else None
    if found:
        return int(found[2]), int(found[1])
    height, width = read_image(frames[0]).shape[:2]
    return height, width
