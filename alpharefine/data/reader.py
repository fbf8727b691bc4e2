"""Interface of the data set readers: the sequences of a data set and the paths of their frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from alpharefine.data.frames import list_folders
from alpharefine.data.picture_files import read_picture
from alpharefine.errors import UserError
from alpharefine.notes import note

Missing = Literal["error", "skip"]
"""Treatment of listed sequences that are not in the data root."""


@dataclass(frozen=True)
class SequenceRecord:
    """Annotations of one target in one video, or of one object in one image.

    Attributes:
        name: Name of the sequence. The pair of name and `object_id` is unique in the data set.
        frame_names: File names of the N frames, see `Reader.frame_path`.
        boxes_xywh: Boxes of shape ``(N, 4)``, float64, in image pixels, as annotated.
        visible: Boolean array of shape ``(N,)``, True if the target is visible and its box is usable for training.
        times: Frame numbers of shape ``(N,)``, int32. They define the gap between two frames.
        object_id: Label of the target in mask images with several objects, or 0 if every non-zero label is the target.
        masks: Compressed run-length masks, one per frame, if the annotation file contains them.
        mask_sizes: Heights and widths of `masks`, shape ``(N, 2)``, int32. Empty without `masks`.
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


@dataclass(frozen=True)
class PartFiles:
    """Files of one part of a data set.

    Attributes:
        frames: Paths of the images.
        masks: Paths of the mask images.
        rows: Number of columns of each text file of rows.
        flags: Paths of the text files of flags.
        boxes: Path of the file whose rows are the boxes of the frames, to name a row.
        sizes: Height and width of images by the annotation.
    """

    frames: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    rows: dict[Path, int] = field(default_factory=dict)
    flags: list[Path] = field(default_factory=list)
    boxes: Path | None = None
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)


class Reader(ABC):
    """Abstract base class of the data set readers. Each reads one data set in its official layout.

    Attributes:
        root: Folder of the data set.
        is_video: True if sequences have several frames. A single image is both template and search frame.
        has_masks: True if every visible frame has a mask.

    Args:
        root: Folder of the data set, or the folder that holds it and nothing else of this layout.
        fits: Function that returns True for a folder in the layout of the data set. The default is the method `fits`.

    Raises:
        UserError: If the folder does not exist, holds several data sets of this layout, or one of another layout.
    """

    is_video: bool = True
    has_masks: bool = False

    def __init__(self, root: str | Path, fits: Callable[[Path], bool] | None = None) -> None:
        name = type(self).__name__
        self.root = find_root(require_folder(root, name), fits or self.fits, name)

    @classmethod
    def fits(cls, root: Path) -> bool:  # noqa: ARG003 - a reader without a rule takes any folder
        """Return True if a folder is in the layout of the data set.

        Args:
            root: Path of an existing folder.
        """
        return True

    @classmethod
    def open_all(cls, root: Path) -> list[Reader]:
        """Return readers of all sequences in a folder, whatever split they belong to.

        Args:
            root: Folder of the data set.

        Raises:
            UserError: If the folder is not in this layout.
        """
        return [cls(root)]

    def parts(self) -> list[str]:
        """Return the names of the parts of the data set that are parsed independently of each other."""
        return [""]

    def part(self, name: str) -> Iterator[SequenceRecord]:  # noqa: ARG002 - a reader with one part ignores its name
        """Parse one part of the data set and yield its sequences.

        Args:
            name: Name of the part.

        Raises:
            UserError: If a file is missing or malformed.
        """
        return self.records()

    def share(self, names: list[str]) -> Reader:  # noqa: ARG002 - overridden by readers that hold their annotations
        """Return a reader of some parts that can be sent to another process quickly.

        Args:
            names: Names of the parts.
        """
        return self

    def part_files(self, name: str) -> PartFiles:  # noqa: ARG002 - overridden by readers that know their files
        """Return the files of one part, for a check of each of them.

        Args:
            name: Name of the part.

        Raises:
            UserError: If a folder is missing or has no pictures.
        """
        return PartFiles()

    def inspect(self, name: str) -> tuple[list[SequenceRecord], list[str]]:
        """Parse one part and collect its errors instead of stopping at the first.

        Args:
            name: Name of the part.

        Returns:
            Tuple of the sequences and the messages of all errors.
        """
        try:
            return list(self.part(name)), []
        except UserError as error:
            return [], [str(error)]

    @abstractmethod
    def options(self) -> dict[str, object]:
        """Return the arguments that affect `records`. Each combination has its own index."""

    @abstractmethod
    def watched(self) -> Iterator[Path]:
        """Yield the files and folders that invalidate the index when their modification time or size changes."""

    @abstractmethod
    def records(self) -> Iterator[SequenceRecord]:
        """Parse the data set and yield its sequences.

        Raises:
            UserError: If a file is missing or malformed.
        """

    @abstractmethod
    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of a frame.

        Args:
            name: Name of the sequence.
            frame_name: File name of the frame, see `SequenceRecord`.
        """

    def mask_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - overridden by readers with mask images
        """Return the path of the mask image of a frame.

        Args:
            name: Name of the sequence.
            frame_name: File name of the frame, see `SequenceRecord`.

        Raises:
            TypeError: If the data set has no mask images.
        """
        raise TypeError(f"{type(self).__name__} has no mask images.")

    def frame_content(self, name: str, frame_name: str) -> bytes:
        """Return the content of the picture file of a frame.

        Args:
            name: Name of the sequence.
            frame_name: File name of the frame, see `SequenceRecord`.

        Raises:
            UserError: If the file does not exist, or is not whole.
        """
        return read_picture(self.frame_path(name, frame_name))

    def mask_content(self, name: str, frame_name: str) -> bytes:
        """Return the content of the mask image of a frame.

        Args:
            name: Name of the sequence.
            frame_name: File name of the frame, see `SequenceRecord`.

        Raises:
            UserError: If the file does not exist, or is not whole.
        """
        return read_picture(self.mask_path(name, frame_name))


class SequenceReader(Reader):
    """Base class of the readers of videos with one target, each of which is a part of the data set.

    Attributes:
        names: Names of the sequences.
    """

    names: list[str]

    def parts(self) -> list[str]:
        """Return the names of the sequences."""
        return self.names

    def part(self, name: str) -> Iterator[SequenceRecord]:
        """Parse one sequence.

        Args:
            name: Name of the sequence.
        """
        yield self.record(name)

    def records(self) -> Iterator[SequenceRecord]:
        """Parse all sequences."""
        return map(self.record, self.names)

    def options(self) -> dict[str, object]:
        """Return the names of the sequences."""
        return {"names": self.names}

    @abstractmethod
    def record(self, name: str) -> SequenceRecord:
        """Parse one sequence.

        Args:
            name: Name of the sequence.

        Raises:
            UserError: If a file is missing or malformed, or the numbers of frames and annotations differ.
        """


Named = TypeVar("Named", str, Path)


def find_root(root: Path, fits: Callable[[Path], bool], owner: str) -> Path:
    """Return a folder, or the only folder in it that has the layout of a data set.

    Archives are often unpacked into a folder of their own, so that the given root is one level too high.

    Args:
        root: Path of an existing folder.
        fits: Function that returns True for a folder in the layout of the data set.
        owner: Name of the data set, for messages.

    Returns:
        The folder that fits; `root` if none does.

    Raises:
        UserError: If several folders in `root` fit.
    """
    if fits(root):
        return root
    below = [root / name for name in list_folders(root) if fits(root / name)]
    if len(below) > 1:
        names = ", ".join(path.name for path in below[:5])
        raise UserError(f"{owner}: {root} holds several data sets of this layout ({names}); give one of these folders.")
    if below:
        note(f"{owner}: using {below[0]}, the only folder in {root} with the layout of this data set.")
        return below[0]
    return root


def existing_names(names: list[str], exists: Callable[[str], bool], missing: Missing, source: str) -> list[str]:
    """Return the names of the sequences that exist.

    Args:
        names: Names of the listed sequences.
        exists: Function that returns True if a sequence is in the data root.
        missing: ``error`` returns all names, and the first missing one is an error when it is read. ``skip`` omits the
            missing ones, and prints their number.
        source: Data set and list, for the message.

    Raises:
        UserError: If no sequence exists.
    """
    if missing == "error":
        return names
    found = [name for name in names if exists(name)]
    if not found:
        raise UserError(f"{source}: none of the {len(names)} listed sequences exists; check the data root.")
    if len(found) < len(names):
        note(f"{source}: {len(names) - len(found)} of {len(names)} listed sequences are missing and skipped.")
    return found


def require_folder(path: str | Path, owner: str) -> Path:
    """Check that a folder exists.

    Args:
        path: Path of the folder.
        owner: Name of the data set, for the error message.

    Returns:
        Path of the folder.

    Raises:
        UserError: If the folder does not exist.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{owner}: folder {path} does not exist; check the data root and the `path` of this data set.")
    return path


def require_sequences(names: list[Named], source: Path) -> list[Named]:
    """Check that a list of sequences is not empty.

    Args:
        names: Names or paths of the sequences.
        source: File or folder that the list was read from, for the error message.

    Returns:
        Names or paths of the sequences.

    Raises:
        UserError: If the list is empty.
    """
    if not names:
        raise UserError(f"{source} must contain at least one sequence, found none; check the data root.")
    return names


def require_choice(owner: str, argument: str, value: object, choices: tuple[object, ...]) -> None:
    """Check that an argument has one of its allowed values.

    Args:
        owner: Name of the data set or class, for the error message.
        argument: Name of the argument.
        value: Received value.
        choices: Allowed values.

    Raises:
        UserError: If the value is not allowed.
    """
    if value not in choices:
        allowed = ", ".join(map(str, choices))
        raise UserError(f"{owner}: `{argument}` must be one of {allowed}, got {value!r}.")


def require_equal_counts(folder: Path, gap: str = "", **counts: int) -> None:
    """Check that the numbers of frames and annotations of a sequence are equal.

    Args:
        folder: Folder of the sequence, for the error message.
        gap: Description of a gap in the numbers of the frames, see `alpharefine.data.frames.first_gap`.
        counts: Number of entries, by the name of what is counted.

    Raises:
        UserError: If the numbers differ.
    """
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise UserError(
            f"{folder}: every frame must have one annotation, found {found}{gap}; restore the sequence from its "
            "archive."
        )
