"""OTB-100, also called OTB-2015 (Wu et al., Object Tracking Benchmark, TPAMI 2015)."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import ClassVar

from alpharefine.data.frames import frame_number, list_frames
from alpharefine.data.text import read_rows
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import (
    EvaluationDataset,
    EvaluationSequence,
    FramePaths,
    annotated_sequence,
    any_folder,
    require_known,
    visible_truth,
)
from alpharefine.metrics import Protocol

FRAME_RANGES = {
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
    "Tiger1": (6, 354),
}
"""Numbers of the first and last frame of the sequences that do not use all their frames.

Source: got10k-toolkit, and for Tiger1 the results of the authors' own toolkit (jwlim/tracker_benchmark), which start at
its frame 6.
"""


class OTB100(EvaluationDataset):
    """OTB-100: 100 sequences of 98 folders.

    A sequence is ``<name>/`` with ``img/0001.jpg`` and ``groundtruth_rect.txt``, numbers separated by commas, tabs or
    spaces. A second target of a folder is a sequence of its own: ``Jogging-2`` is ``Jogging/groundtruth_rect.2.txt``.
    Frames may start at any number. Only the frames in `FRAME_RANGES` are used. The annotation has a row for each of
    them, or for each frame of the folder.

    The default protocol is `lasot`: LaSOT's toolkit computes what the OTB authors' toolkit does (inclusive pixels,
    first row replaced by the ground truth).

    Args:
        config: Folder and sequences.
    """

    default_protocol: ClassVar[Protocol] = "lasot"
    attribute_names: ClassVar[tuple[str, ...]] = ("IV", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OPR", "OV", "BC", "LR")

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self._root = self.root
        self._attributes = official_attributes()
        self.names = self.chosen_names()
        require_known(self.names, self._attributes)

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds sequences of OTB.

        Args:
            root: Path of an existing folder.
        """
        return any_folder(root, lambda folder: any(folder.glob("groundtruth_rect*.txt")))

    def official_names(self) -> list[str]:
        """Return the 100 names."""
        return list(self._attributes)

    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or there are more rows than frames.
        """
        folder_name, dash, target = name.partition("-")
        folder = self._root / folder_name
        path = folder / (f"groundtruth_rect.{target}.txt" if dash else "groundtruth_rect.txt")
        boxes_xywh = read_rows(path)
        all_names = list_frames(folder / "img")
        first, last = FRAME_RANGES.get(name, (0, sys.maxsize))
        used = [index for index, frame in enumerate(all_names) if first <= frame_number(frame) <= last]
        if len(boxes_xywh) == len(all_names):
            boxes_xywh = boxes_xywh[used]
        frames = FramePaths(folder / "img", [all_names[index] for index in used])
        return annotated_sequence(name, frames, path, visible_truth(boxes_xywh), self._attributes[name])


def official_attributes() -> dict[str, tuple[str, ...]]:
    """Return the attributes of the 100 sequences by name, in the official order.

    Source: the authors' toolkit (jwlim/tracker_benchmark), version of the TPAMI paper; later versions differ in 14
    sequences from the numbers of sequences that attribute plots are published with.
    """
    lines = (resources.files("alpharefine.evaluation.datasets") / "otb100.txt").read_text().splitlines()
    return {name: tuple(attributes) for name, *attributes in map(str.split, lines)}
