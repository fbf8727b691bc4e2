"""TrackingNet (arXiv 1803.10794) in its official layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alpharefine.boxes import is_valid
from alpharefine.data.reader import Reader, Record, require_equal_counts, require_sequences
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError


class TrackingNet(Reader):
    """Sequences ``<root>/TRAIN_<n>/frames/<name>/<i>.jpg`` from 0, boxes in ``<root>/TRAIN_<n>/anno/<name>.txt``.

    Boxes are used as they stand in the files, as in the original; whether they count from 0 or 1 is not documented.
    Most are a tracker's, between boxes drawn once a second (arXiv 1803.10794), and less exact than a pixel.

    Args:
        root: the folder of the parts.
        parts: numbers of the parts to use, of 0 to 11; all that are there by default.
    """

    def __init__(self, root: str | Path, parts: list[int] | None = None) -> None:
        super().__init__(root)
        found = (path for path in self.root.glob("TRAIN_*") if path.is_dir())
        there = sorted(found, key=lambda path: (len(path.name), path.name))
        wanted = there if parts is None else [self.root / f"TRAIN_{part}" for part in parts]
        missing = [path for path in wanted if not (path / "anno").is_dir()]
        if missing or not wanted:
            lacking = missing[0] if missing else self.root / "TRAIN_0"
            raise UserError(f"TrackingNet: no folder {lacking / 'anno'}; check the data root, or choose other `parts`.")
        self.parts = wanted

    def options(self) -> dict[str, object]:
        """The parts."""
        return {"parts": [path.name for path in self.parts]}

    def watched(self) -> Iterator[Path]:
        """The folders of each part, and the annotations."""
        for part in self.parts:
            yield from (part / "anno", part / "frames")
            yield from sorted((part / "anno").glob("*.txt"))

    def records(self) -> Iterator[Record]:
        """Parse every sequence."""
        for part in self.parts:
            for path in require_sequences(sorted((part / "anno").glob("*.txt")), part / "anno"):
                yield self._record(part, path)

    def _record(self, part: Path, path: Path) -> Record:
        frames = part / "frames" / path.stem
        stems = sorted((p.stem for p in frames.glob("*.jpg") if p.stem.isdecimal()), key=int)
        boxes_xywh = read_rows(path)
        require_equal_counts(frames, frames=len(stems), boxes=len(boxes_xywh))
        times = np.array([int(stem) for stem in stems], dtype=np.int32)
        return Record(f"{part.name}/{path.stem}", stems, boxes_xywh, is_valid(boxes_xywh), times)

    def frame_path(self, name: str, frame_name: str) -> Path:
        """Where a frame lies."""
        part, _, video = name.partition("/")
        return self.root / part / "frames" / video / f"{frame_name}.jpg"
