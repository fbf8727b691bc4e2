"""Seam for evaluation data sets: sequences, ground truth, scoring and submission."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, overload

import numpy as np

from alpharefine.evaluation.config import DatasetConfig
from alpharefine.metrics import Protocol

Scoring = Literal["one_pass", "got10k", "server", "none"]
"""``one_pass``: success, precision and normalized precision; ``got10k``: AO and SR; ``server``: a submission archive;
``none``: only first boxes are known."""


class FramePaths(Sequence[Path]):
    """Paths of the frames of a sequence, built on access: a data set may hold a million of them.

    Args:
        folder: Folder of the frames.
        names: File names in temporal order.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> FramePaths: ...
    def __getitem__(self, index: int | slice) -> Path | FramePaths:
        """Return the path of one frame, or the paths of a range of frames."""
        if isinstance(index, slice):
            return FramePaths(self.folder, self.names[index])
        return self.folder / self.names[index]

    def __iter__(self) -> Iterator[Path]:
        return (self.folder / name for name in self.names)


@dataclass(frozen=True)
class GroundTruth:
    """Annotation of one sequence of N frames.

    Attributes:
        boxes_xywh: ``(N, 4)`` float64 boxes as written in the file; NaN where the box is not public.
        absent: ``(N,)`` bool, frames without a visible target.
        image_size: Height and width in pixels, where the scoring needs them.
    """

    boxes_xywh: np.ndarray
    absent: np.ndarray
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class EvaluationSequence:
    """One video of an evaluation data set.

    Attributes:
        name: Name of the sequence, as in the names of result files.
        truth: Ground truth; its first box initializes the tracker.
        frame_paths: Frames in temporal order; None if only annotations are available.
        attributes: Short names of the attributes of the sequence.
    """

    name: str
    truth: GroundTruth
    frame_paths: Sequence[Path] | None = None
    attributes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.truth.boxes_xywh)


class EvaluationDataset(ABC):
    """One benchmark in its official layout.

    A subclass sets the class attributes, fills `names` in its constructor and implements `load`. It is registered by one
    line in `alpharefine.evaluation.datasets.registry`.

    Args:
        config: Folder, split and sequences.

    Attributes:
        names: Names of the chosen sequences, in the official order.

    Raises:
        UserError: If a folder is missing, the split is unknown or no sequence is chosen.
    """

    splits: ClassVar[tuple[str, ...]] = ("test",)
    default_protocol: ClassVar[Protocol] = "lasot"
    attribute_names: ClassVar[tuple[str, ...]] = ()

    names: list[str]

    @abstractmethod
    def __init__(self, config: DatasetConfig) -> None: ...

    @property
    def scoring(self) -> Scoring:
        """Scores that the data set defines."""
        return "one_pass"

    @abstractmethod
    def load(self, name: str) -> EvaluationSequence:
        """Read one sequence.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or the first frame has no target.
        """

    def pack(self, boxes_xywh: Mapping[str, np.ndarray], times_ms: Mapping[str, np.ndarray], path: Path) -> None:
        """Write the submission archive of a data set with `scoring` ``server``.

        Args:
            boxes_xywh: ``(N, 4)`` boxes of every sequence, by name.
            times_ms: ``(N,)`` milliseconds per frame of every sequence, by name.
            path: Path of the archive.

        Raises:
            UserError: If a sequence of the data set is missing or has the wrong number of boxes.
        """
        raise TypeError(f"{type(self).__name__} has no evaluation server.")
