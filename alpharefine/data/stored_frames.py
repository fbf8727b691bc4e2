"""Frames of a crop store as a data set: pairs are drawn from the stored crops as from whole frames."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from alpharefine.boxes import xyxy_to_xywh
from alpharefine.data.crop_store import Part, find_parts, require_stored
from alpharefine.data.reader import Reader, SequenceRecord


class StoredFrames(Reader):
    """Data set in a crop store. A crop takes the place of its frame.

    Args:
        root: Folder of the store.
        source: Name of the data set in the store.
        is_video: True if sequences have several frames.
        has_masks: True if the masks are used.

    Raises:
        UserError: If the folder contains no crop store.
    """

    def __init__(self, root: str | Path, source: str, is_video: bool, has_masks: bool) -> None:
        self.root = Path(root)
        self.paths = {path.stem: path for path in find_parts(self.root)}
        self.source, self.is_video, self.has_masks = source, is_video, has_masks
        self._parts: dict[str, Part] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_parts": {}}  # each worker maps the files itself

    def options(self) -> dict[str, object]:
        """Return the name of the data set and the use of its masks."""
        return {"source": self.source, "has_masks": self.has_masks}

    def watched(self) -> Iterator[Path]:
        """Yield the parts."""
        return iter(self.paths.values())

    def records(self) -> Iterator[SequenceRecord]:
        """Yield the sequences.

        Raises:
            UserError: If a part cannot be read, or the store does not contain the data set.
        """
        crops = [(label, stem, i) for stem in self.paths for i, label in enumerate(self._part(stem).labels)]
        require_stored(self.root, self.source, {label.partition("/")[0] for label, _, _ in crops})
        for label, group in groupby(crops, key=lambda crop: crop[0]):
            source, _, name = label.partition("/")
            if source == self.source:
                yield self._record(name, [(stem, i) for _, stem, i in group])

    def _record(self, name: str, places: list[tuple[str, int]]) -> SequenceRecord:
        parts = [(self._part(stem), i) for stem, i in places]
        return SequenceRecord(
            name,
            [f"{stem}:{i}" for stem, i in places],
            xyxy_to_xywh(np.array([part.boxes_xyxy[i] for part, i in parts], dtype=np.float64)),
            np.array([bool(part.has_mask[i]) or not self.has_masks for part, i in parts]),
            np.array([part.times[i] for part, i in parts], dtype=np.int32),
        )

    def frame_path(self, name: str, frame_name: str) -> Path:  # noqa: ARG002 - the frame names the part
        """Return the path of the part of a crop, followed by the number of the crop.

        Args:
            name: Name of the sequence.
            frame_name: Name of the part and number of the crop.
        """
        stem, _, number = frame_name.partition(":")
        return self.paths[stem].with_name(f"{self.paths[stem].name}:{number}")

    def mask_path(self, name: str, frame_name: str) -> Path:
        """Return the same as `frame_path`.

        Args:
            name: Name of the sequence.
            frame_name: Name of the part and number of the crop.
        """
        return self.frame_path(name, frame_name)

    def frame_content(self, name: str, frame_name: str) -> bytes:  # noqa: ARG002 - the frame names the part
        """Return the encoded picture of a crop.

        Args:
            name: Name of the sequence.
            frame_name: Name of the part and number of the crop.
        """
        stem, _, number = frame_name.partition(":")
        return self._part(stem).image(int(number))

    def mask_content(self, name: str, frame_name: str) -> bytes:  # noqa: ARG002 - the frame names the part
        """Return the encoded mask of a crop.

        Args:
            name: Name of the sequence.
            frame_name: Name of the part and number of the crop.
        """
        stem, _, number = frame_name.partition(":")
        return self._part(stem).mask(int(number))

    def _part(self, stem: str) -> Part:
        if stem not in self._parts:
            self._parts[stem] = Part(self.paths[stem])
        return self._parts[stem]
