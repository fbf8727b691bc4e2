"""TrackingNet (arXiv 1803.10794): test split with a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from alpharefine.data.frames import list_frames, name_order
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import (
    EvaluationDataset,
    EvaluationSequence,
    FramePaths,
    Scoring,
    first_box_truth,
)
from alpharefine.evaluation.datasets.submission import require_complete, rows_text, write_archive

NUM_TEST = 511
"""Sequences of the test split."""


class TrackingNetDataset(EvaluationDataset):
    """TrackingNet: 511 test sequences, of which only the first boxes are public.

    The data root holds ``TEST/``, or is this folder: ``frames/<video>/<i>.jpg`` from 0 and ``anno/<video>.txt`` with
    one row. The archive for the server holds ``<video>.txt`` with a box in each row.

    Args:
        config: Folder and sequences.
    """

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        root = self.root
        self._folder = root / "TEST" if (root / "TEST").is_dir() else root
        if not (self._folder / "anno").is_dir():
            raise UserError(f"`--data_root`: {root} holds neither TEST/anno nor anno; give the folder of TrackingNet.")
        self.names = self.chosen_names()

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds the test split of TrackingNet.

        Args:
            root: Path of an existing folder.
        """
        return (root / "TEST" / "anno").is_dir() or all((root / name).is_dir() for name in ("anno", "frames"))

    def official_names(self) -> list[str]:
        """Return the names of the annotation files.

        Raises:
            UserError: If there is none.
        """
        names = sorted((path.stem for path in (self._folder / "anno").glob("[!.]*.txt")), key=name_order)
        if not names:
            raise UserError(f"{self._folder / 'anno'} has no annotation files (.txt); restore them.")
        return names

    @property
    def scoring(self) -> Scoring:
        """A submission archive."""
        return "server"

    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed.
        """
        folder, path = self._folder / "frames" / name, self._folder / "anno" / f"{name}.txt"
        frames = FramePaths(folder, list_frames(folder))
        return EvaluationSequence(name, first_box_truth(path, read_rows(path), len(frames)), frames)

    def pack(self, boxes_xywh: Mapping[str, np.ndarray], times_ms: Mapping[str, np.ndarray], path: Path) -> None:  # noqa: ARG002
        """Write the archive that TrackingNet's server takes; it takes no times.

        Args:
            boxes_xywh: ``(N, 4)`` boxes of every sequence, by name.
            times_ms: ``(N,)`` milliseconds per frame of every sequence, by name.
            path: Path of the archive.

        Raises:
            UserError: If a sequence of the split is missing, or its boxes differ in number from the frames.
        """
        complete = require_complete(self, boxes_xywh, NUM_TEST)
        write_archive(path, [(f"{name}.txt", rows_text(boxes, decimals=4)) for name, boxes in complete.items()])
