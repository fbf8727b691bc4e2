"""TNL2K, tracking by natural language (arXiv 2103.16746), from the first box."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from alpharefine.data.frames import list_frames
from alpharefine.data.text import read_rows
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import (
    EvaluationDataset,
    EvaluationSequence,
    FramePaths,
    annotated_sequence,
    any_folder,
    sequence_folders,
    visible_truth,
)
from alpharefine.metrics import Protocol


class TNL2K(EvaluationDataset):
    """TNL2K: 700 test sequences.

    A sequence is ``<name>/`` with ``imgs/`` (``.png`` or ``.jpg``), ``groundtruth.txt`` and ``language.txt``; the
    latter is not used. Frames whose row is no box (``0,0,0,0``) have no target.

    The default protocol is `lasot`: the official toolkit computes what LaSOT's does.

    Args:
        config: Folder and sequences.
    """

    default_protocol: ClassVar[Protocol] = "lasot"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self._root = self.root
        self.names = self.chosen_names()

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds sequences of TNL2K.

        Args:
            root: Path of an existing folder.
        """
        return any_folder(root, lambda folder: (folder / "imgs").is_dir())

    def official_names(self) -> list[str]:
        """Return the names of the folders of the data root."""
        return sequence_folders(self._root)

    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or there are more rows than frames.
        """
        folder = self._root / name
        path = folder / "groundtruth.txt"
        boxes_xywh = read_rows(path)
        frames = FramePaths(folder / "imgs", list_frames(folder / "imgs"))
        return annotated_sequence(name, frames, path, visible_truth(boxes_xywh))
