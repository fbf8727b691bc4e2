"""UAV123 and UAV20L (Mueller et al., A Benchmark and Simulator for UAV Tracking, ECCV 2016)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import ClassVar, NamedTuple

from alpharefine.data.frames import frame_number, list_frames
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import (
    EvaluationDataset,
    EvaluationSequence,
    FramePaths,
    annotated_sequence,
    require_known,
    visible_truth,
)
from alpharefine.metrics import Protocol


class FrameRange(NamedTuple):
    """Frames of one sequence.

    Attributes:
        folder: Name of the folder of the frames, which several sequences may share.
        first: Number of the first frame.
        last: Number of the last frame.
    """

    folder: str
    first: int
    last: int


class UAV123(EvaluationDataset):
    """UAV123: 123 sequences from a drone, ranges of the frames in 91 folders.

    The data root holds ``data_seq/UAV123/<folder>/000001.jpg`` and ``anno/UAV123/<sequence>.txt`` with a row for each
    frame of the range, NaN where the target is absent.

    The default protocol is `pytracking`: the scores that DiMP, PrDiMP and the trackers after them publish on UAV123 are
    made by that toolkit, which counts frames without a target as misses.

    Args:
        config: Folder and sequences.
    """

    default_protocol: ClassVar[Protocol] = "pytracking"
    table: ClassVar[str] = "uav123.txt"
    annotation_folder: ClassVar[str] = "UAV123"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        root = self.root
        self._frames = root / "data_seq" / "UAV123"
        self._annotations = root / "anno" / self.annotation_folder
        for folder in (self._frames, self._annotations):
            if not folder.is_dir():
                raise UserError(f"`--data_root`: {config.root} has no folder {folder}; give the one that holds it.")
        self._ranges = frame_ranges(self.table)
        self.names = self.chosen_names()
        require_known(self.names, self._ranges)

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds the annotations of the data set.

        Args:
            root: Path of an existing folder.
        """
        return (root / "anno" / cls.annotation_folder).is_dir()

    def official_names(self) -> list[str]:
        """Return the names in the table of frame ranges."""
        return list(self._ranges)

    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or there are more rows than frames.
        """
        folder_name, first, last = self._ranges[name]
        folder, path = self._frames / folder_name, self._annotations / f"{name}.txt"
        boxes_xywh = read_rows(path)
        frames = FramePaths(folder, [frame for frame in list_frames(folder) if first <= frame_number(frame) <= last])
        return annotated_sequence(name, frames, path, visible_truth(boxes_xywh))


class UAV20L(UAV123):
    """UAV20L: 20 long sequences of UAV123's frames, annotated in ``anno/UAV20L/``.

    Args:
        config: Folder and sequences.
    """

    table = "uav20l.txt"
    annotation_folder = "UAV20L"


def frame_ranges(table: str) -> dict[str, FrameRange]:
    """Return the frame ranges of the sequences by name, in the official order.

    Source: ``uav123.json`` of got10k-toolkit.

    Args:
        table: File name of the table: ``uav123.txt`` or ``uav20l.txt``.
    """
    lines = (resources.files("alpharefine.evaluation.datasets") / table).read_text().splitlines()
    return {name: FrameRange(folder, int(first), int(last)) for name, folder, first, last in map(str.split, lines)}
