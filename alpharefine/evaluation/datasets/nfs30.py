"""NfS, Need for Speed, at 30 frames a second (arXiv 1703.05884)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from alpharefine.boxes import xyxy_to_xywh
from alpharefine.data.frames import list_frames
from alpharefine.data.text import parse_rows, read_text
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import (
    EvaluationDataset,
    EvaluationSequence,
    FramePaths,
    any_folder,
    require_one_row_a_frame,
    sequence_folders,
    visible_truth,
)
from alpharefine.metrics import Protocol

ROWS_PER_FRAME = 8
"""Annotation rows, at 240 frames a second, from one frame at 30 frames a second to the next."""


class NFS30(EvaluationDataset):
    """NfS at 30 frames a second: 100 sequences.

    A sequence is ``<name>/30/`` with the frames ``<name>/*.jpg`` and the annotation ``<name>.txt``, whose rows are
    ``id x1 y1 x2 y2 frame ...``. The downloaded annotation has a row for each frame at 240 frames a second: every
    eighth row is taken. A file that has a row for each frame is read as it is. Frames and rows may then differ by one
    in number, as they do in some downloaded sequences; the longer of the two is cut (the rule of got10k-toolkit).

    The default protocol is `pytracking`: the scores that DiMP, PrDiMP and the trackers after them publish on NfS are
    made by that toolkit.

    Args:
        config: Folder and sequences.
    """

    default_protocol: ClassVar[Protocol] = "pytracking"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self._root = self.root
        self.names = self.chosen_names()

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds sequences of NfS.

        Args:
            root: Path of an existing folder.
        """
        return any_folder(root, lambda folder: (folder / "30").is_dir())

    def official_names(self) -> list[str]:
        """Return the names of the folders of the data root."""
        return sequence_folders(self._root)

    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or frames and rows differ in number by more than one.
        """
        folder = self._root / name / "30"
        path = folder / f"{name}.txt"
        frame_names = list_frames(folder / name)
        boxes_xywh = _boxes(read_text(path), str(path))
        if len(boxes_xywh) > len(frame_names) + 1:
            boxes_xywh = boxes_xywh[::ROWS_PER_FRAME]
        if abs(len(boxes_xywh) - len(frame_names)) == 1:
            length = min(len(boxes_xywh), len(frame_names))
            boxes_xywh, frame_names = boxes_xywh[:length], frame_names[:length]
        frames = FramePaths(folder / name, frame_names)
        require_one_row_a_frame(frames, path, len(boxes_xywh))
        return EvaluationSequence(name, visible_truth(boxes_xywh), frames)


def _boxes(text: str, place: str) -> np.ndarray:
    """Return ``(N, 4)`` xywh boxes from rows ``id x1 y1 x2 y2 frame ...``."""
    corners = "\n".join(" ".join(line.split()[1:5]) for line in text.rstrip().splitlines())
    return xyxy_to_xywh(parse_rows(corners, place, codes=False))
