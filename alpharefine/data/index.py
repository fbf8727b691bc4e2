"""An index of a data set: parsed once, kept on disk as flat arrays, mapped into memory by every process that reads it.

Parsing 10,000 sequences takes minutes on a network disk, at every start and in every process. The index is a folder of
``.npy`` files, loaded by mapping: workers share its pages and copy nothing, whether they are forked or spawned. Its
name tells the reader with its options, and the state of the files it was made from (their times and sizes); if they
have changed another one is built. One that nobody has opened for a week is removed then: it may be that of another
machine, whose copy of the data has other times.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from alpharefine.data.reader import Reader
from alpharefine.errors import UserError

FORMAT = 2
"""Raised when the arrays change, so that indexes of an older form are not read."""

_KEPT_SECONDS = 7 * 24 * 3600

_ARRAYS = (
    "names",
    "object_ids",
    "starts",
    "frame_names",
    "boxes_xywh",
    "visible",
    "times",
    "mask_bytes",
    "mask_starts",
    "mask_sizes",
)


def default_cache_dir() -> Path:
    """Where indexes are kept: ``$ALPHAREFINE_CACHE``, else ``alpharefine`` in the user's cache folder."""
    own = os.environ.get("ALPHAREFINE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alpharefine"


class Index:
    """The sequences of a data set, S of them with F frames in all.

    Pickling an index passes on where it lies, not what it holds.

    Attributes:
        names: ``(S,)`` str.
        object_ids: ``(S,)`` int32.
        starts: ``(S + 1,)`` int64; the frames of sequence ``s`` are ``starts[s]`` to ``starts[s + 1]``.
        frame_names: ``(F,)`` str.
        boxes_xywh: ``(F, 4)`` float32, image pixels.
        visible: ``(F,)`` bool.
        times: ``(F,)`` int32, frame numbers.
        mask_bytes: all run-length masks, one after the other, uint8.
        mask_starts: ``(F + 1,)`` int64 into `mask_bytes`, or empty if the data set has none.
        mask_sizes: ``(F, 2)`` int32, height and width of those masks, or empty.
    """

    names: np.ndarray
    object_ids: np.ndarray
    starts: np.ndarray
    frame_names: np.ndarray
    boxes_xywh: np.ndarray
    visible: np.ndarray
    times: np.ndarray
    mask_bytes: np.ndarray
    mask_starts: np.ndarray
    mask_sizes: np.ndarray

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _ARRAYS:
            setattr(self, name, np.load(folder / f"{name}.npy", mmap_mode="r"))

    def __reduce__(self) -> tuple[type[Index], tuple[Path]]:
        return Index, (self.folder,)

    def __len__(self) -> int:
        return len(self.names)

    def frames(self, sequence: int) -> slice:
        """Where the frames of a sequence stand in the flat arrays."""
        return slice(int(self.starts[sequence]), int(self.starts[sequence + 1]))

    def num_visible(self) -> np.ndarray:
        """``(S,)`` number of visible frames of each sequence."""
        totals = np.concatenate([[0], np.cumsum(self.visible)])
        return np.diff(totals[np.asarray(self.starts)])

    def mask_counts(self, frame: int) -> bytes:
        """Compressed run-length counts of the mask of a frame of the flat arrays."""
        return bytes(self.mask_bytes[self.mask_starts[frame] : self.mask_starts[frame + 1]])


def open_index(reader: Reader, cache_dir: Path | None = None) -> Index:
    """Load the index of a data set; build it first if there is none or the data has changed.

    Several processes may do this at once: an index appears whole or not at all.

    Raises:
        UserError: if the data set is malformed or has no sequence, or if the index cannot be written.
    """
    parent = (cache_dir or default_cache_dir()) / "index"
    key = [FORMAT, type(reader).__name__, str(reader.root.resolve()), reader.options()]
    stem = f"{type(reader).__name__.lower()}-{_digest(json.dumps(key))}"
    folder = parent / f"{stem}-{_fingerprint(reader)}"
    if not folder.is_dir():
        arrays = _flatten(reader)
        try:
            _write(arrays, folder, stem)
        except OSError as error:
            raise UserError(
                f"{parent}: the index of {reader.root} cannot be written there ({error}); make room, or name another "
                "folder with `cache_dir` or $ALPHAREFINE_CACHE."
            ) from error
    with suppress(OSError):  # a cache that can only be read
        os.utime(folder)
    return Index(folder)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(reader: Reader) -> str:
    digest = hashlib.sha256()
    root = str(reader.root)
    for path in reader.watched():
        try:
            stat = path.stat()
            state = f"{stat.st_mtime_ns}|{stat.st_size}"
        except FileNotFoundError:
            state = "missing"
        digest.update(f"{str(path).removeprefix(root)}|{state}|".encode())
    return digest.hexdigest()[:16]


def _write(arrays: dict[str, np.ndarray], folder: Path, stem: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{stem}-") as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        for name, array in arrays.items():
            np.save(fresh / f"{name}.npy", array)
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # if it is, another process has just built the same
                raise
        for stale in folder.parent.glob(f"{stem}-*"):
            with suppress(FileNotFoundError):  # another process has just removed it
                if stale.stat().st_mtime < time.time() - _KEPT_SECONDS:
                    stale.rename(Path(temporary) / stale.name)


def _flatten(reader: Reader) -> dict[str, np.ndarray]:
    name = type(reader).__name__
    records = list(tqdm(reader.records(), desc=f"Indexing {name}", unit=" sequences", leave=False))
    if not records:
        raise UserError(f"{name}: {reader.root} holds no sequence.")
    masks = [counts for record in records for counts in record.masks or ()]
    return {
        "names": np.array([r.name for r in records]),
        "object_ids": np.array([r.object_id for r in records], dtype=np.int32),
        "starts": _starts(len(r.frame_names) for r in records),
        "frame_names": np.array([name for r in records for name in r.frame_names]),
        "boxes_xywh": np.concatenate([r.boxes_xywh for r in records]).astype(np.float32),
        "visible": np.concatenate([r.visible for r in records]),
        "times": np.concatenate([r.times for r in records]),
        "mask_bytes": np.frombuffer(b"".join(masks), dtype=np.uint8),
        "mask_starts": _starts(len(counts) for counts in masks) if masks else np.empty(0, np.int64),
        "mask_sizes": np.concatenate([r.mask_sizes for r in records]),
    }


def _starts(lengths: Iterator[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, dtype=np.int64))]).astype(np.int64)
