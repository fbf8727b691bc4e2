"""Interface of evaluation data sets: sequences, ground truth, scoring and submission."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Literal, overload

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.frames import VIDEO_SUFFIXES, first_gap, has_frames, is_foreign, list_folders
from alpharefine.data.reader import find_root
from alpharefine.data.text import read_names
from alpharefine.errors import SequenceError, UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.published import PublishedScores
from alpharefine.notes import note
from alpharefine.options import Protocol

Scoring = Literal["one_pass", "got10k", "server", "none"]
"""``one_pass``: success, precision and normalized precision; ``got10k``: AO and SR; ``server``: a submission archive;
``none``: only first boxes are known."""

_NUM_TESTED = 50
"""Number of folders that are looked into to recognize a layout."""


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
        note: Remark on the data that concerns the scores, or an empty string.
    """

    name: str
    truth: GroundTruth
    frame_paths: Sequence[Path] | None = None
    attributes: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        """Check that there is a frame for each box.

        Raises:
            SequenceError: If their numbers differ.
        """
        if self.frame_paths is not None and len(self.frame_paths) != len(self):
            raise SequenceError(
                f"Sequence {self.name}: frames and rows must agree in number, got {len(self.frame_paths)} frames and "
                f"{len(self)} rows; correct the reader of the data set."
            )

    def __len__(self) -> int:
        return len(self.truth.boxes_xywh)


class EvaluationDataset(ABC):
    """One benchmark in its official layout.

    A subclass sets the class attributes, fills `names` in its constructor, and implements `official_names` and `read`.
    It is registered by one line in `alpharefine.evaluation.datasets.registry`.

    Args:
        config: Folder, split and sequences.

    Attributes:
        config: Folder, split and sequences.
        names: Names of the chosen sequences, in the official order.

    Raises:
        UserError: If a folder is missing, the split is unknown, no sequence is chosen, or an option is given that the
            data set does not have.
    """

    splits: ClassVar[tuple[str, ...]] = ("test",)
    """Names of the splits."""
    default_protocol: ClassVar[Protocol] = "lasot"
    """Protocol that the published scores of the data set follow."""
    attribute_names: ClassVar[tuple[str, ...]] = ()
    """Short names of the attributes, in the order in which they are reported."""
    published: ClassVar[PublishedScores | None] = None
    """Published scores for comparison, if there are any."""
    extra_options: ClassVar[tuple[Literal["annotations_dir", "first_box"], ...]] = ()
    """Options of `DatasetConfig` that only some data sets have."""

    names: list[str]

    @abstractmethod
    def __init__(self, config: DatasetConfig) -> None:
        for option in ("annotations_dir", "first_box"):
            if getattr(config, option) is not None and option not in self.extra_options:
                raise UserError(f"`--{option}` is not an option of the data set {config.name}; leave it out.")
        if config.split not in self.splits and not Path(config.split).is_file():
            known = ", ".join(f"'{split}'" for split in self.splits)
            raise UserError(f"`--split` must be {known} or a file with one name a line, got '{config.split}'.")
        self.config = config

    @property
    def root(self) -> Path:
        """Folder of the data set: the data root, or the only folder in it that has the layout of the data set.

        Raises:
            UserError: If the data root is not given or missing, or several folders in it have the layout.
        """
        if self.config.root is None:
            raise UserError(f"Give `--data_root`, the folder of the data set {self.config.name}.")
        return find_root(existing_folder("--data_root", self.config.root), self.fits, "`--data_root`")

    @classmethod
    def fits(cls, root: Path) -> bool:  # noqa: ARG003 - a data set without a rule takes any folder
        """Return True if a folder has the layout of the data set.

        Args:
            root: Path of an existing folder.
        """
        return True

    @property
    def split(self) -> str:
        """Name of the split, or path of the file that lists the sequences."""
        return self.config.split

    @abstractmethod
    def official_names(self) -> list[str]:
        """Return the names of all sequences of the split ``config.split``, in the official order."""

    def chosen_names(self) -> list[str]:
        """Return `given_names`, else `official_names`.

        Raises:
            UserError: If a name is a path or occurs twice.
        """
        names = self.given_names() or self.official_names()
        for name, count in Counter(names).items():
            if count > 1 or name == ".." or Path(name).name != name:
                fault = "is given more than once" if count > 1 else "is a path"
                raise UserError(f"`--sequences` and `--split` take names of sequences, each once; {name} {fault}.")
        return names

    def given_names(self) -> list[str]:
        """Return `sequences` of the configuration, else the names in its split file; empty if `split` is a split.

        Raises:
            UserError: If the split file has no names.
        """
        if self.config.sequences or self.config.split in self.splits:
            return list(self.config.sequences)
        return read_names(Path(self.config.split))

    @property
    def scoring(self) -> Scoring:
        """Scores that the data set defines."""
        return "one_pass"

    def load(self, name: str) -> EvaluationSequence:
        """Read one sequence and check it.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, there are more rows than frames, the first frame has no
                target, or the boxes are not in pixels.
        """
        sequence = self.read(name)
        if not len(sequence):
            raise UserError(f"Sequence {name} has no frames; restore it, or leave it out.")
        require_first_box(name, sequence.truth.boxes_xywh)
        if sequence.note:
            note(f"Sequence {name}: {sequence.note}.")
        return sequence

    @abstractmethod
    def read(self, name: str) -> EvaluationSequence:
        """Read one sequence; frames and rows agree in number.

        Args:
            name: One of `names`.

        Raises:
            UserError: If a file is missing or malformed, or there are more rows than frames.
        """

    def pack(  # for data sets that have a server
        self,
        boxes_xywh: Mapping[str, np.ndarray],  # noqa: ARG002
        times_ms: Mapping[str, np.ndarray],  # noqa: ARG002
        path: Path,  # noqa: ARG002
    ) -> None:
        """Write the submission archive of a data set with `scoring` ``server``.

        Args:
            boxes_xywh: ``(N, 4)`` boxes of every sequence, by name.
            times_ms: ``(N,)`` milliseconds per frame of every sequence, by name.
            path: Path of the archive.

        Raises:
            UserError: If a sequence of the data set is missing or has the wrong number of boxes.
        """
        raise TypeError(f"{type(self).__name__} has no evaluation server.")


def existing_folder(argument: str, folder: Path) -> Path:
    """Return a folder that was given as an argument.

    Args:
        argument: Name of the argument, for the message.
        folder: Path to check.

    Raises:
        UserError: If it is not a folder.
    """
    if not folder.is_dir():
        is_video = folder.suffix.lower() in VIDEO_SUFFIXES and folder.is_file()
        remedy = "extract the frames of the video, and give their folder" if is_video else "give an existing one"
        raise UserError(f"`{argument}`: {folder} is not a folder; {remedy}.")
    return folder


def require_known(names: Iterable[str], official: Collection[str]) -> None:
    """Check that names are in a fixed list.

    Args:
        names: Names of the chosen sequences.
        official: All names of the data set.

    Raises:
        UserError: If a name is not in the list.
    """
    for name in names:
        if name not in official:
            close = get_close_matches(name, official, n=1, cutoff=0.4)
            remedy = f"use '{close[0]}'" if close else "leave it out"
            raise UserError(f"`--sequences`, `--split`: '{name}' is not a sequence of the data set; {remedy}.")


def sequence_folders(root: Path) -> list[str]:
    """Return the names of the folders of the sequences, ordered by the numbers in them.

    A line on stderr names a folder of frames that is left out because of its name.

    Args:
        root: Folder of the sequences.

    Raises:
        UserError: If there is none.
    """
    names = list_folders(root)
    if not names:
        videos = [path.name for path in root.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES]
        remedy = f"extract the frames of {videos[0]} into one" if videos else "it must have one for each sequence"
        raise UserError(f"{root} has no folders; {remedy}.")
    for path in sorted(root.iterdir()):
        is_visible = is_foreign(path.name) and not path.name.startswith(".")
        if is_visible and path.is_dir() and any(has_frames(folder) for folder in (path, path / "img")):
            note(
                f"{path} is not evaluated: names that start with {path.name[0]} are those of system folders; rename it."
            )
    return names


def any_folder(root: Path, test: Callable[[Path], bool]) -> bool:
    """Return True if one of the first folders in a folder passes a test.

    Args:
        root: Path of an existing folder.
        test: Function of the path of a folder.
    """
    return any(test(root / name) for name in list_folders(root)[:_NUM_TESTED])


def require_first_box(name: str, boxes_xywh: np.ndarray) -> None:
    """Check the box that the tracker starts from.

    Args:
        name: Name of the sequence.
        boxes_xywh: Boxes of the sequence of shape ``(N, 4)``.

    Raises:
        UserError: If the first box is empty or not in pixels.
    """
    first_xywh = boxes_xywh[0]
    numbers = ",".join(f"{value:g}" for value in first_xywh)
    if not is_valid(first_xywh):
        raise UserError(
            f"Sequence {name}: the first frame has no target (its ground truth is {numbers}). The tracker "
            "starts from this box, so its width and height must be positive: correct it, or leave the sequence out."
        )
    finite = boxes_xywh[np.isfinite(boxes_xywh).all(1)]
    if (finite >= 0).all() and (finite <= 1).all() and (finite % 1 > 0).any():
        raise UserError(
            f"Sequence {name}: the ground truth must be x,y,w,h in pixels, but its values are all between 0 and 1 (the "
            f"first box is {numbers}), so they are probably parts of the frame; multiply them by its width and height."
        )
    if first_xywh[2:].min() < 1:
        raise UserError(
            f"Sequence {name}: the first box must be x,y,w,h in pixels with sides of at least 1, got {numbers}; it is "
            "probably normalized or in another order of columns: convert the ground truth, or leave the sequence out."
        )


def visible_truth(boxes_xywh: np.ndarray) -> GroundTruth:
    """Return a ground truth whose absent frames are those without a finite box of positive size.

    Args:
        boxes_xywh: ``(N, 4)`` boxes.
    """
    return GroundTruth(boxes_xywh, ~is_valid(boxes_xywh))


def first_box_truth(path: Path, first_xywh: np.ndarray, num_frames: int) -> GroundTruth:
    """Return the ground truth of a sequence of which only the first box is public.

    Args:
        path: Path of the annotation file, for the message.
        first_xywh: ``(1, 4)`` box of the first frame.
        num_frames: Number of frames N.

    Raises:
        UserError: If there is not exactly one box.
    """
    if len(first_xywh) != 1:
        raise UserError(f"{path} must hold one row, the box of the first frame, got {len(first_xywh)}; restore it.")
    boxes_xywh = np.full((num_frames, 4), np.nan)
    boxes_xywh[0] = first_xywh[0]
    return GroundTruth(boxes_xywh, np.zeros(num_frames, dtype=bool))


def annotated_sequence(
    name: str, frames: FramePaths, path: Path, truth: GroundTruth, attributes: tuple[str, ...] = ()
) -> EvaluationSequence:
    """Return a sequence that ends with its annotation, which may be shorter than the video but not longer.

    Args:
        name: Name of the sequence.
        frames: All frames of the video.
        path: Path of the annotation file.
        truth: Annotation of N frames.
        attributes: Short names of the attributes of the sequence.

    Raises:
        UserError: If there are more rows than frames, or no rows.
    """
    num_rows = len(truth.boxes_xywh)
    if not 0 < num_rows <= len(frames):
        require_one_row_a_frame(frames, path, num_rows)
    remark = ""
    if num_rows < len(frames):
        remark = f"{path} has {num_rows} rows for {len(frames)} frames, so the sequence ends at frame {num_rows}"
    return EvaluationSequence(name, truth, frames[:num_rows], attributes, remark)


def require_one_row_a_frame(frames: FramePaths, path: Path, num_rows: int) -> None:
    """Check that an annotation file has one row for each frame.

    Args:
        frames: Frames of a sequence.
        path: Path of the annotation file.
        num_rows: Number of rows in the file.

    Raises:
        UserError: If the numbers differ.
    """
    if num_rows != len(frames):
        gap = first_gap(frames.names)
        raise UserError(
            f"{path} must have one row for each frame, found {num_rows} rows and {len(frames)} frames in "
            f"{frames.folder}{gap}; correct this sequence."
        )


def require_row_a_box(path: Path, num_rows: int, num_boxes: int, num_frames: int) -> None:
    """Check that a file of labels has a row for each box, or for each frame.

    Args:
        path: Path of the file.
        num_rows: Number of rows in the file.
        num_boxes: Number of annotated boxes.
        num_frames: Number of frames.

    Raises:
        UserError: If the file has another number of rows.
    """
    if num_rows not in (num_boxes, num_frames):
        raise UserError(
            f"{path} must have one row for each frame, found {num_rows} rows and {num_frames} frames; restore this "
            "sequence from its archive."
        )
