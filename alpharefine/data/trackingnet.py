"""TrackingNet (arXiv 1803.10794) in its official layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.reader import Reader, SequenceRecord, require_equal_counts, require_sequences
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError


class TrackingNet(Reader):
    """TrackingNet reader for the training parts.

    Frames are ``<root>/TRAIN_<n>/frames/<name>/<i>.jpg`` starting at 0 and boxes are in
    ``<root>/TRAIN_<n>/anno/<name>.txt``.

    Box coordinates are used as stored in the files, as in the original code. It is not documented whether they start
    at 0 or 1. Most boxes are predictions of a tracker between manual annotations at one frame per second
    (arXiv 1803.10794), with errors larger than one pixel.

    Args:
        root: Folder of the parts.
        parts: Numbers of the parts to use, 0 to 11. All existing parts are used by default.

    Raises:
        UserError: If a part does not exist.
    """

    def __init__(self, root: str | Path, parts: list[int] | None = None) -> None:
        super().__init__(root)
        found = (path for path in self.root.glob("TRAIN_*") if path.is_dir())
        existing = sorted(found, key=lambda path: (len(path.name), path.name))
        wanted = existing if parts is None else [self.root / f"TRAIN_{part}" for part in parts]
        missing = [path for path in wanted if not (path / "anno").is_dir()]
        if missing or not wanted:
            first = missing[0] if missing else self.root / "TRAIN_0"
            raise UserError(
                f"TrackingNet: folder {first / 'anno'} does not exist; check the data root, or choose other `parts`."
            )
        self.parts = wanted

    def options(self) -> dict[str, object]:
        """Return the names of the parts."""
        return {"parts": [path.name for path in self.parts]}

    def watched(self) -> Iterator[Path]:
        """Yield the folders and the annotation files of each part."""
        for part in self.parts:
            yield from (part / "anno", part / "frames")
            yield from sorted((part / "anno").glob("*.txt"))

    def records(self) -> Iterator[SequenceRecord]:
        """Parse all sequences."""
        for part in self.parts:
            for path in require_sequences(sorted((part / "anno").glob("*.txt")), part / "anno"):
                yield self._record(part, path)

    def _record(self, part: Path, path: Path) -> SequenceRecord:
        frames = part / "frames" / path.stem
        stems = sorted((p.stem for p in frames.glob("*.jpg") if p.stem.isdecimal()), key=int)
        boxes_xywh = read_rows(path)
        require_equal_counts(frames, frames=len(stems), boxes=len(boxes_xywh))
        times = np.array([int(stem) for stem in stems], dtype=np.int32)
        return SequenceRecord(f"{part.name}/{path.stem}", stems, boxes_xywh, is_valid(boxes_xywh), times)

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Return the path of a frame.

        Args:
            name: Name of the sequence, ``TRAIN_<n>/<video>``.
            frame_name: Number of the frame.
        """
        part, _, video = name.partition("/")
        return self.root / part / "frames" / video / f"{frame_name}.jpg"
