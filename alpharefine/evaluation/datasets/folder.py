"""Own videos: a folder of frames, or a folder of such folders."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from alpharefine.data.frames import find_frame_folder, list_frames
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import (
    EvaluationDataset,
    EvaluationSequence,
    FramePaths,
    Scoring,
    annotated_sequence,
    any_folder,
    first_box_truth,
    sequence_folders,
    visible_truth,
)
from alpharefine.metrics import Protocol


class FolderDataset(EvaluationDataset):
    """Sequences in folders of any name.

    The data root is one sequence if it holds frames, or ``img/`` with frames; else each folder in it is a sequence. A
    sequence has ``groundtruth.txt`` beside its frames or beside ``img/``, rows ``x,y,w,h`` in pixels:

    - one row for each frame: the sequence is scored, frames without a box (``0,0,0,0`` or NaN) have no target. Where
      there are fewer rows than frames, the sequence ends at the last row;
    - one row: the box of the first frame. The sequence is tracked and not scored.

    A single sequence may have its first box from `first_box` in place of the file.

    The default protocol is `lasot`, so that the scores follow the same conventions as those of the default data set.

    Args:
        config: Folder, sequences and first box.
    """

    default_protocol: ClassVar[Protocol] = "lasot"
    extra_options = ("first_box",)

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self._root = self.root
        self._is_sequence = _is_sequence(self._root)
        self.names = self.chosen_names()
        if config.first_box is not None:
            self._require_need_of_first_box()

    def _require_need_of_first_box(self) -> None:
        if len(self.names) > 1:
            raise UserError(
                f"`--first_box` is the box of one sequence, and {self._root} holds {len(self.names)}: choose one by "
                "`--sequences`, or write the first box of each into its groundtruth.txt."
            )
        if self._truth_file(self.names[0]).is_file():
            raise UserError(f"`--first_box` and {self._truth_file(self.names[0])} are both given; leave one out.")

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder is a sequence or holds sequences.

        Args:
            root: Path of an existing folder.
        """
        return _is_sequence(root) or any_folder(root, _is_sequence)

    def official_names(self) -> list[str]:
        """Return the name of the data root if it is a sequence, else the names of its folders."""
        return [self._root.resolve().name] if self._is_sequence else sequence_folders(self._root)

    @cached_property
    def scoring(self) -> Scoring:
        """One-pass scores if a sequence has more than one row, none otherwise."""
        return "one_pass" if any(self._is_annotated(name) for name in self.names) else "none"

    def _is_annotated(self, name: str) -> bool:
        try:
            return len(self._rows(name)) > 1
        except UserError:  # reported when the sequence is read
            return False

    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or there are more rows than frames.
        """
        folder = find_frame_folder(self._folder(name)) or self._folder(name)
        frames = FramePaths(folder, list_frames(folder))
        path, boxes_xywh = self._truth_file(name), self._rows(name)
        if len(boxes_xywh) == 1:
            return EvaluationSequence(name, first_box_truth(path, boxes_xywh, len(frames)), frames)
        return annotated_sequence(name, frames, path, visible_truth(boxes_xywh))

    def _rows(self, name: str) -> np.ndarray:
        if self.config.first_box is not None:
            return np.array([self.config.first_box], dtype=np.float64)
        path = self._truth_file(name)
        if not path.is_file():
            raise UserError(
                f"Sequence {name} has no {path}: write the box of its first frame there as x,y,w,h in pixels, or "
                "give it by `--first_box`."
            )
        return read_rows(path)

    def _folder(self, name: str) -> Path:
        return self._root if self._is_sequence else self._root / name

    def _truth_file(self, name: str) -> Path:
        return self._folder(name) / "groundtruth.txt"


def _is_sequence(folder: Path) -> bool:
    return find_frame_folder(folder) is not None
