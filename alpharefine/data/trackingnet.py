"""TrackingNet (arXiv 1803.10794) in its official layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from alpharefine.boxes import is_valid
from alpharefine.data.frames import (
    first_gap,
    frame_times,
    is_foreign,
    list_folders,
    list_frames,
    name_order,
    picture_path,
    stem_of,
)
from alpharefine.data.reader import (
    Missing,
    PartFiles,
    SequenceReader,
    SequenceRecord,
    existing_names,
    require_choice,
    require_equal_counts,
    require_sequences,
)
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError


class TrackingNet(SequenceReader):
    """TrackingNet reader for the training parts.

    Frames are ``<root>/TRAIN_<n>/frames/<name>/<i>.jpg`` starting at 0 and boxes are in
    ``<root>/TRAIN_<n>/anno/<name>.txt``.

    Box coordinates are used as stored in the files, as in the original code. It is not documented whether they start
    at 0 or 1. Most boxes are predictions of a tracker between manual annotations at one frame per second
    (arXiv 1803.10794), with errors larger than one pixel.

    Args:
        root: Folder of the parts.
        parts: Numbers of the parts to use, 0 to 11. All existing parts are used by default.
        missing: ``skip`` omits the annotated videos whose frames are not in the data root, and prints their number.

    Raises:
        UserError: If a part does not exist or has no annotations.
    """

    def __init__(self, root: str | Path, parts: list[int] | None = None, missing: Missing = "error") -> None:
        require_choice("TrackingNet", "missing", missing, get_args(Missing))
        super().__init__(root)
        existing = [self.root / name for name in list_folders(self.root) if name.startswith("TRAIN_")]
        wanted = existing if parts is None else [self.root / f"TRAIN_{part}" for part in parts]
        absent = [path for path in wanted if not (path / "anno").is_dir()]
        if absent or not wanted:
            first = absent[0] if absent else self.root / "TRAIN_0"
            raise UserError(
                f"TrackingNet: folder {first / 'anno'} does not exist; check the data root, or choose other `parts`."
            )
        self.folders = wanted
        names = [f"{part.name}/{stem}" for part in wanted for stem in require_sequences(_stems(part), part / "anno")]
        self.names = existing_names(names, lambda name: self._frames(name).is_dir(), missing, f"TrackingNet, {root}")

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Return True if a folder holds a training part of TrackingNet.

        Args:
            root: Path of an existing folder.
        """
        return any(name.startswith("TRAIN_") and (root / name / "anno").is_dir() for name in list_folders(root))

    def record(self, name: str) -> SequenceRecord:
        """Parse one sequence.

        Args:
            name: Name of the sequence, ``TRAIN_<n>/<video>``.

        Raises:
            UserError: If a file is missing or malformed, or the numbers of frames and boxes differ.
        """
        frames = self._frames(name)
        files = list_frames(frames)
        boxes_xywh = read_rows(self.annotation_file(name))
        require_equal_counts(frames, first_gap(files), frames=len(files), boxes=len(boxes_xywh))
        stems = [stem_of(file) for file in files]
        return SequenceRecord(name, stems, boxes_xywh, is_valid(boxes_xywh), frame_times(files))

    def part_files(self, name: str) -> PartFiles:
        """Return the frames and the annotation file of one sequence.

        Args:
            name: Name of the sequence.
        """
        folder, boxes = self._frames(name), self.annotation_file(name)
        return PartFiles([folder / frame for frame in list_frames(folder)], rows={boxes: 4}, boxes=boxes)

    def watched(self) -> Iterator[Path]:
        """Yield the folders and the annotation files of each part."""
        for part in self.folders:
            yield from (part / "anno", part / "frames")
        yield from map(self.annotation_file, self.names)

    def annotation_file(self, name: str) -> Path:
        """Return the path of the boxes of a sequence.

        Args:
            name: Name of the sequence.
        """
        part, _, video = name.partition("/")
        return self.root / part / "anno" / f"{video}.txt"

    def _frames(self, name: str) -> Path:
        part, _, video = name.partition("/")
        return self.root / part / "frames" / video

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of a frame.

        Args:
            name: Name of the sequence, ``TRAIN_<n>/<video>``.
            frame_name: File name of the frame without suffix.
        """
        return picture_path(self._frames(name), frame_name)


def _stems(part: Path) -> list[str]:
    """Return the names of the videos of a part."""
    files = (path for path in (part / "anno").glob("*.txt") if not is_foreign(path.name))
    return sorted((path.stem for path in files), key=name_order)
