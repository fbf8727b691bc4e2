"""Index of a data set: annotations that are parsed once and stored as memory-mapped arrays.

Parsing 10,000 sequences takes minutes on a network disk, and would be repeated in every process of every run. The index
is a folder of ``.npy`` files that are memory-mapped, so data loader workers share its pages, whether they are forked or
spawned.

The name of the folder contains a hash of the reader and its options, and a hash of the modification times and sizes of
the annotation files. If these files change, a new index is built. The old one may belong to another machine whose copy
of the data has other times, so it is removed only after it has not been opened for a week.
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

FORMAT = 3
"""Version of the index format. Increase it when the arrays change, so that older indexes are ignored."""

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
    """Return the folder of the indexes: ``$ALPHAREFINE_CACHE``, or ``alpharefine`` in the user's cache folder."""
    configured = os.environ.get("ALPHAREFINE_CACHE")
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alpharefine"


class Index:
    """Annotations of the S sequences of a data set, with F frames in total.

    Only the path of the index is pickled.

    Attributes:
        names: Names of the sequences, shape ``(S,)``, str.
        object_ids: Labels of the targets, shape ``(S,)``, int32.
        starts: Offsets of the sequences, shape ``(S + 1,)``, int64. Sequence ``s`` has frames ``starts[s]`` to
            ``starts[s + 1]``.
        frame_names: File names of the frames, shape ``(F,)``, str.
        boxes_xywh: Boxes of shape ``(F, 4)``, float32, in image pixels.
        visible: Boolean array of shape ``(F,)``.
        times: Frame numbers, shape ``(F,)``, int32.
        mask_bytes: Concatenated run-length masks, uint8.
        mask_starts: Offsets into `mask_bytes`, shape ``(F + 1,)``, int64. Empty without masks.
        mask_sizes: Heights and widths of the masks, shape ``(F, 2)``, int32. Empty without masks.

    Args:
        folder: Folder of the index.
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
            # As plain arrays: an element of a `numpy.memmap` takes ten times as long to read.
            setattr(self, name, np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")))

    def __reduce__(self) -> tuple[type[Index], tuple[Path]]:
        return Index, (self.folder,)

    def __len__(self) -> int:
        return len(self.names)

    def frames(self, sequence: int) -> slice:
        """Return the slice of the frame arrays that holds a sequence.

        Args:
            sequence: Number of the sequence.
        """
        return slice(int(self.starts[sequence]), int(self.starts[sequence + 1]))

    def num_visible(self) -> np.ndarray:
        """Return the number of visible frames of each sequence, shape ``(S,)``."""
        totals = np.concatenate([[0], np.cumsum(self.visible)])
        return np.diff(totals[np.asarray(self.starts)])

    def mask_counts(self, frame: int) -> bytes:
        """Return the compressed run lengths of the mask of a frame.

        Args:
            frame: Position of the frame in the frame arrays.
        """
        return bytes(self.mask_bytes[self.mask_starts[frame] : self.mask_starts[frame + 1]])


def open_index(reader: Reader, cache_dir: Path | None = None) -> Index:
    """Open the index of a data set. Build it first if it does not exist or the data set has changed.

    Several processes may call this function at the same time. The index is created atomically.

    Args:
        reader: Reader of the data set.
        cache_dir: Folder of the indexes. The default is `default_cache_dir`.

    Raises:
        UserError: If the data set is malformed or empty, or the index cannot be written.
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
                f"{parent}: cannot write the index of {reader.root} ({error}); free disk space, or choose another "
                "folder with `cache_dir` or $ALPHAREFINE_CACHE."
            ) from error
    with suppress(OSError):  # the cache may be read-only
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
            if not folder.is_dir():  # otherwise another process has just built the same index
                raise
        for stale in folder.parent.glob(f"{stem}-*"):
            with suppress(FileNotFoundError):  # another process may have removed it
                if stale.stat().st_mtime < time.time() - _KEPT_SECONDS:
                    stale.rename(Path(temporary) / stale.name)


def _flatten(reader: Reader) -> dict[str, np.ndarray]:
    name = type(reader).__name__
    records = list(tqdm(reader.records(), desc=f"Indexing {name}", unit=" sequences", leave=False))
    if not records:
        raise UserError(f"{name}: {reader.root} must contain at least one sequence, found none; check the data root.")
    masks = [counts for record in records for counts in record.masks or ()]
    arrays = {
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
    _require_pixels(reader, arrays)
    return arrays


def _require_pixels(reader: Reader, arrays: dict[str, np.ndarray]) -> None:
    """Refuse a data set in which all boxes of a sequence are parts of the frame instead of pixels."""
    boxes_xywh, visible = arrays["boxes_xywh"], arrays["visible"]
    in_unit = visible & (boxes_xywh >= 0).all(1) & (boxes_xywh <= 1).all(1) & (boxes_xywh % 1 > 0).any(1)
    totals = np.cumsum([np.r_[0, visible], np.r_[0, in_unit]], axis=1)
    num_visible, num_in_unit = np.diff(totals[:, arrays["starts"]], axis=1)
    wrong = np.flatnonzero((num_visible == num_in_unit) & (num_visible > 0))
    if wrong.size:
        name, number = arrays["names"][wrong[0]], int(num_visible[wrong[0]])
        raise UserError(
            f"{type(reader).__name__}: {reader.root}: boxes must be x,y,w,h in pixels, but all {number} of sequence "
            f"{name} are between 0 and 1; multiply them by the size of the frame."
        )


def _starts(lengths: Iterator[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, dtype=np.int64))]).astype(np.int64)
