"""What every data set's reader offers: its sequences, one after the other, and the way to each picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from alpharefine.errors import UserError


@dataclass(frozen=True)
class Record:
    """One target through one video, or one object of one picture.

    Attributes:
        name: of the sequence, unique in its data set together with `object_id`.
        frame_names: file names of the N frames; what folder they lie in is the reader's to know.
        boxes_xywh: ``(N, 4)`` float64, image pixels, as annotated.
        visible: ``(N,)`` bool, whether the target can be seen and its box is good to train on.
        times: ``(N,)`` int32, frame numbers; gaps between frames are measured with these.
        object_id: label of the target in mask pictures that may hold several; 0 where every label is the target.
        masks: compressed run-length masks, one a frame, where the annotation file itself holds them.
        mask_sizes: ``(N, 2)`` int32, height and width that those masks are of; empty where there are none.
    """

    name: str
    frame_names: list[str]
    boxes_xywh: np.ndarray
    visible: np.ndarray
    times: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    object_id: int = 0
    masks: list[bytes] | None = None
    mask_sizes: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int32))

    def __post_init__(self) -> None:
        if not self.times.size:
            object.__setattr__(self, "times", np.arange(len(self.frame_names), dtype=np.int32))


class Reader(ABC):
    """One data set in its official layout.

    Attributes:
        root: the data set's folder.
        is_video: whether sequences have several frames; a picture is its own template and search frame.
        has_masks: whether every visible frame has a mask.
    """

    is_video: ClassVar[bool] = True
    has_masks: bool = False

    def __init__(self, root: str | Path) -> None:
        self.root = require_folder(root, type(self).__name__)

    @abstractmethod
    def options(self) -> dict[str, object]:
        """The arguments that decide what `records` gives; an index is made for each set of them."""

    @abstractmethod
    def watched(self) -> Iterator[Path]:
        """Files and folders whose change, seen by their time and size, makes an index stale."""

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """Parse the data set.

        Raises:
            UserError: if something in it is missing or malformed.
        """

    @abstractmethod
    def frame_path(self, name: str, frame_name: str) -> Path:
        """Where a frame of a sequence lies."""

    def mask_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - for readers that have masks
        """Where the mask picture of a frame lies, for data sets that have them."""
        raise TypeError(f"{type(self).__name__} has no mask pictures.")


Named = TypeVar("Named", str, Path)


def require_folder(path: str | Path, owner: str) -> Path:
    """The path, if it is a folder.

    Raises:
        UserError: if it is not.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{owner}: no folder {path}; check the data root, or give this data set's own `path`.")
    return path


def require_sequences(names: list[Named], source: Path) -> list[Named]:
    """The names, if there are any.

    Raises:
        UserError: if there is none.
    """
    if not names:
        raise UserError(f"{source}: no sequence in it; there must be at least one.")
    return names


def require_choice(owner: str, argument: str, value: object, choices: tuple[object, ...]) -> None:
    """Check that an argument is one of the values it may have.

    Raises:
        UserError: if it is not.
    """
    if value not in choices:
        allowed = ", ".join(map(str, choices))
        raise UserError(f"{owner}: `{argument}` must be one of {allowed}, got {value!r}; correct it.")


def require_equal_counts(folder: Path, **counts: int) -> None:
    """Check that what must have one entry a frame has.

    Raises:
        UserError: if the counts differ.
    """
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} {what}" for what, count in counts.items())
        raise UserError(f"{folder}: each frame needs one row, found {told}; restore this sequence from its archive.")
