"""An evaluation data set in the shape of a reader of training data, so that both are checked by the same code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alpharefine.data.frames import has_frames, list_frames
from alpharefine.data.reader import PartFiles, SequenceReader, SequenceRecord
from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence
from alpharefine.evaluation.datasets.folder import FolderDataset


class DatasetReader(SequenceReader):
    """Reader of the frames and boxes of an evaluation data set.

    Args:
        dataset: Evaluation data set.
        root: Folder of the data set.
    """

    def __init__(self, dataset: EvaluationDataset, root: Path) -> None:
        super().__init__(root)
        self.dataset, self.names = dataset, dataset.names

    def record(self, name: str) -> SequenceRecord:
        """Read one sequence.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If a file is missing or malformed.
        """
        return self._record(self.dataset.load(name))

    def _record(self, sequence: EvaluationSequence) -> SequenceRecord:
        paths = [str(path) for path in sequence.frame_paths or ()]
        boxes_xywh = sequence.truth.boxes_xywh[: len(paths)]
        return SequenceRecord(sequence.name, paths, boxes_xywh, np.ones(len(paths), dtype=bool))

    def part_files(self, name: str) -> PartFiles:
        """Return the frames of one sequence, and its annotation if both are in one folder.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If there are no frames.
        """
        folder = self.root / name if (self.root / name).is_dir() else self.root
        boxes = folder / "groundtruth.txt"
        if not boxes.is_file():
            return PartFiles(list(self.dataset.load(name).frame_paths or ()))
        frames = next((folder / below for below in ("img", "imgs") if has_frames(folder / below)), folder)
        return PartFiles([frames / frame for frame in list_frames(frames)], rows={boxes: 4}, boxes=boxes)

    def inspect(self, name: str) -> tuple[list[SequenceRecord], list[str]]:
        """Read one sequence, with its error.

        The end of an own video without annotation is a defect. Official data sets have such videos.

        Args:
            name: Name of the sequence.
        """
        try:
            sequence = self.dataset.load(name)
        except UserError as error:
            return [], [str(error)]
        ends_early = sequence.note and isinstance(self.dataset, FolderDataset)
        return [self._record(sequence)], [f"{sequence.note}."] if ends_early else []

    def watched(self) -> Iterator[Path]:
        """Yield the folder of the data set."""
        yield self.root

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the path identifies the frame
        """Return the path of a frame.

        Args:
            name: Name of the sequence.
            frame_name: Path of the frame.
        """
        return Path(frame_name)
