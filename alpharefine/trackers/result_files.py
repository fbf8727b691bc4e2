"""Published results of trackers, in folders and archives in the layouts of common toolkits.

| toolkit | files below the folder of results |
| --- | --- |
| LaSOT's own | ``<tracker>_tracking_result/<sequence>.txt`` |
| pysot | ``<data set>/<tracker>/<sequence>.txt``; for GOT-10k and VOT the layouts of got10k-toolkit and VOT |
| pytracking | ``<tracker>/<parameters>_<run>/<sequence>.txt``, integers separated by tabs |
| got10k-toolkit | ``<data set>/<tracker>/<sequence>/<sequence>_<run>.txt``, or as pysot |
| VOT, without restarts | ``<tracker>/longterm/<sequence>/<sequence>_<run>.txt`` with ``1`` as first row |
| Alpha-Refine's arena | ``<data set>/<run>/<sequence>.txt`` |

The layout need not be specified: a folder with ``<sequence>.txt`` or ``<sequence>/<sequence>_001.txt`` for one of the
requested sequences belongs to a tracker, which is named after the path of the folder.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alpharefine.data.archives import (
    ARCHIVE_SUFFIXES,
    TEXT_SUFFIXES,
    TextFile,
    contents_of,
    is_archive,
    read_text_file,
    text_files,
)
from alpharefine.data.text import decode_text, folder_name, parse_rows
from alpharefine.errors import UserError

_RUN_OF_SEQUENCE = re.compile(r"(?P<sequence>.+)_(?P<run>\d{3})")
_TIMES = "times"
"""Folder in which this project and got10k-toolkit store times, in files with the same names as those of boxes."""

_MAX_READ, _MAX_KEPT = 2**32, 2**30
"""Size limits in bytes of the text in a folder of results, and of that which is kept in memory."""

_EXPERIMENTS = ("baseline", "longterm")
"""Folders of VOT between that of a tracker and those of its sequences."""


@dataclass(frozen=True)
class PublishedResults:
    """Published results of one tracker.

    Attributes:
        name: Name of the tracker, which is a valid name of a folder.
        place: Path of the tracker's folder, including the path inside an archive.
        files: Result files by the name of the sequence.
        digest: Digest of all files in the folder, including those of other sequences; None if it was not computed.
    """

    name: str
    place: str
    files: Mapping[str, TextFile]
    digest: str | None = None

    def boxes_xywh(self, sequence_name: str, first_xywh: np.ndarray, num_frames: int) -> np.ndarray:
        """Return the boxes of a sequence.

        Args:
            sequence_name: Name of a sequence in `files`.
            first_xywh: Initial box of the tracker, ``(4,)`` in image pixels.
            num_frames: Number of frames of the sequence; further rows are ignored.

        Returns:
            Boxes as in the file, ``(num_frames, 4)`` float64 in image pixels.

        Raises:
            UserError: If the file is damaged or malformed, has fewer rows than the sequence has frames, or holds boxes
                in another format than x, y, width, height.
        """
        file = self.files[sequence_name]
        if file.fault:
            raise UserError(file.fault)
        text = decode_text(file.content, file.place)
        first_row, _, others = text.partition("\n")
        if first_row.strip() == "1":  # VOT's mark of the initialization
            rows = np.concatenate([[first_xywh], parse_rows(others, file.place, first_row=2)])
        else:
            rows = parse_rows(text, file.place)
        rows = require_rows(rows, num_frames, file.place)
        require_xywh(rows[0], first_xywh, file.place)
        return rows


def require_rows(rows: np.ndarray, num_frames: int, place: str) -> np.ndarray:
    """Return the first rows of a result file, one for each frame.

    Args:
        rows: Rows of the file, ``(N, 4)``.
        num_frames: Number of frames of the sequence.
        place: Path of the file, for the message.

    Raises:
        UserError: If the file has fewer rows than the sequence has frames.
    """
    if len(rows) < num_frames:
        raise UserError(
            f"{place} has {len(rows)} rows, the sequence has {num_frames} frames; a result file needs one row per "
            "frame: restore it, or remove it."
        )
    return rows[:num_frames]


_CONVENTIONS: dict[str, Callable[[float, float, float, float], tuple[float, float, float, float]]] = {
    "x1,y1,x2,y2": lambda a, b, c, d: (a, b, c - a, d - b),
    "center x,center y,width,height": lambda a, b, c, d: (a - c / 2, b - d / 2, c, d),
    "y,x,height,width": lambda a, b, c, d: (b, a, d, c),
    "y1,x1,y2,x2": lambda a, b, c, d: (b, a, d - b, c - a),
}
"""Other formats of a box, as functions to x, y, width, height."""

_TOLERANCE = 1.5
"""Pixels that a row of the given box may differ from it: an offset of 1, and rounding."""

_NORMALIZED_TOLERANCE = 0.02
"""Ratio of the image size that a normalized row may differ from the given box, because of rounding."""


def require_xywh(row: np.ndarray, first_xywh: np.ndarray, place: str) -> None:
    """Check that the first row of a result, which is the given box in every toolkit, is not in another format.

    A row that no format explains is accepted: some toolkits write the tracker's own box.

    Args:
        row: First row of the result, ``(4,)``.
        first_xywh: Initial box of the tracker, ``(4,)`` in image pixels.
        place: Path of the file, for the message.

    Raises:
        UserError: If another format than x, y, width, height gives the initial box.
    """
    fault = _other_convention(np.asarray(row, np.float64), np.asarray(first_xywh, np.float64))
    if fault is not None:
        got, given = (",".join(f"{value:g}" for value in box) for box in (row, first_xywh))
        raise UserError(
            f"{place} must hold x,y,width,height in pixels, but its first row {got} is the given box {given} as "
            f"{fault}; convert the file."
        )


def _other_convention(row: np.ndarray, given_xywh: np.ndarray) -> str | None:
    """Return the format in which a row is the given box; None if it is x, y, width, height, or no format fits."""
    if not (np.isfinite(row).all() and np.isfinite(given_xywh).all()):
        return None
    distance = np.abs(row - given_xywh).max()
    if distance <= _TOLERANCE:
        return None
    for name, convert in _CONVENTIONS.items():
        other = np.abs(np.array(convert(*row.tolist())) - given_xywh).max()
        if other <= _TOLERANCE and 4 * other < distance:
            return name
    if not (np.abs(row) <= 1.5).all() or (given_xywh[2:] < 4).any():
        return None
    readings = {"x,y,width,height": lambda *values: values, **_CONVENTIONS}
    for name, convert in readings.items():
        if _is_scaled(np.array(convert(*row.tolist())), given_xywh):
            return f"{name}, normalized by the image size"
    return None


def _is_scaled(normalized_xywh: np.ndarray, given_xywh: np.ndarray) -> bool:
    """Return True if a box is another box divided by a width and a height that are those of an image."""
    if (normalized_xywh[2:] <= 0).any():
        return False
    size = given_xywh[2:] / normalized_xywh[2:]
    fits = np.abs(normalized_xywh[:2] * size - given_xywh[:2]) <= np.maximum(_TOLERANCE, _NORMALIZED_TOLERANCE * size)
    return bool(fits.all() and (size >= 0.9 * given_xywh[2:]).all() and (size <= _MAX_IMAGE_SIDE).all())


_MAX_IMAGE_SIDE = 20_000


def results_of_one(
    results_dir: Path, sequence_names: Collection[str], option: str = "--results_dir"
) -> PublishedResults | None:
    """Return the results of the tracker whose folder is given.

    Args:
        results_dir: Path of the folder.
        sequence_names: Names of the requested sequences.
        option: Option that gave the path, for messages.

    Returns:
        Results; None if the folder has no file of any requested sequence.

    Raises:
        UserError: If a sequence has two files.
    """
    files: dict[str, TextFile] = {}
    for name, suffix in product(sequence_names, TEXT_SUFFIXES):
        path = results_dir / f"{name}{suffix}"
        if path.is_file():
            _add(files, name, read_text_file(path), option)
    return PublishedResults(folder_name(results_dir.resolve().name), str(results_dir), files) if files else None


def find_results(
    results_dir: Path, sequence_names: Collection[str], option: str = "--results_dir"
) -> list[PublishedResults]:
    """Return the trackers with results in a folder or archive; the layouts are those at the top of this module.

    Args:
        results_dir: Path of the folder or archive.
        sequence_names: Names of the requested sequences.
        option: Option that gave the path, for messages.

    Returns:
        Trackers in the order of their names, each with results for at least one of the sequences.

    Raises:
        UserError: If the folder or archive does not exist, has no result for the sequences or is damaged, or if two
            trackers have the same name or a tracker has two files for one sequence.
    """
    if not results_dir.is_dir() and not (results_dir.is_file() and is_archive(results_dir)):
        raise UserError(
            f"{option} {results_dir} is not a folder or an archive ({', '.join(ARCHIVE_SUFFIXES)}); result files are "
            "read from it."
        )
    requested = frozenset(sequence_names)
    groups: dict[_Group, dict[str, TextFile]] = defaultdict(dict)
    digests: dict[_Group, dict[str, bytes]] = defaultdict(dict)
    num_read, num_kept = 0, 0
    for file in text_files(results_dir):
        if _TIMES in file.folders:
            continue
        group, sequence_name = _group(file)
        num_read += len(file.content)
        digests[group][sequence_name] = hashlib.sha256(file.content).digest()
        if sequence_name in requested:
            num_kept += len(file.content)
        else:
            file = file._replace(content=b"")
        if num_read > _MAX_READ or num_kept > _MAX_KEPT:
            raise UserError(
                f"{option} {results_dir} unpacks to more than {_MAX_READ >> 30} GiB of text, or more than "
                f"{_MAX_KEPT >> 30} GiB for the {len(requested)} sequences; give a folder with fewer trackers."
            )
        _add(groups[group], sequence_name, file, option)
    groups = {group: files for group, files in groups.items() if any(name in files for name in sequence_names)}
    if not groups:
        raise UserError(
            f"{option} {results_dir} has no {next(iter(sequence_names))}.txt, and no file of another of the "
            f"{len(sequence_names)} sequences, in its folders and archives, but {contents_of(results_dir)}; one per "
            "sequence is needed."
        )
    names = _names(list(groups), results_dir, option)
    trackers = [
        PublishedResults(
            names[group],
            str(Path(results_dir, *group.folders)),
            {name: files[name] for name in sequence_names if name in files},
            _digest(digests[group]),
        )
        for group, files in groups.items()
    ]
    return sorted(trackers, key=lambda tracker: tracker.name)


class _Group(NamedTuple):
    """Files of one tracker.

    Attributes:
        folders: Folders that contain the files.
        num_outside: Number of the folders that lead to an archive.
        run: Number of the run, as text.
    """

    folders: tuple[str, ...]
    num_outside: int
    run: str


def _group(file: TextFile) -> tuple[_Group, str]:
    """Return the tracker and the sequence of a file."""
    match = _RUN_OF_SEQUENCE.fullmatch(file.stem)
    if not match or file.folders[-1:] != (match["sequence"],):
        return _Group(file.folders, file.num_outside, ""), file.stem
    folders = file.folders[:-1]
    if folders[-1:] and folders[-1] in _EXPERIMENTS:
        folders = folders[:-1]
    return _Group(folders, file.num_outside, match["run"]), match["sequence"]


def _add(files: dict[str, TextFile], sequence_name: str, file: TextFile, option: str) -> None:
    other = files.setdefault(sequence_name, file)
    if other is not file:
        raise UserError(
            f"{option}: both {other.place} and {file.place} contain results of {sequence_name}; remove one."
        )


def _names(groups: list[_Group], results_dir: Path, option: str) -> dict[_Group, str]:
    """Return a name for each tracker, based on its folders; the name of an archive is used only if necessary."""
    here = results_dir.resolve().name
    short = {group: _name(group, groups, here, with_archive=False) for group in groups}
    count = Counter(short.values())
    names = {
        group: name if count[name] == 1 else _name(group, groups, here, with_archive=True)
        for group, name in short.items()
    }
    groups_of: dict[str, _Group] = {}
    for group, name in names.items():
        if name in groups_of:
            one, other = ("/".join(group.folders) for group in (groups_of[name], group))
            raise UserError(
                f"{option} {results_dir}: {one} and {other} would have the same name {name!r}; rename or remove one."
            )
        groups_of[name] = group
    return names


def _name(group: _Group, groups: list[_Group], here: str, with_archive: bool) -> str:
    folders = list(group.folders) or [here]
    if 0 < group.num_outside < len(folders) and not with_archive:
        del folders[group.num_outside - 1]
    folders[-1] = re.sub(r"_tracking_results?$", "", folders[-1])
    num_runs = sum(other[:2] == group[:2] for other in groups)
    return folder_name("_".join([*folders, *([group.run] if num_runs > 1 else [])]))


def _digest(digests: Mapping[str, bytes]) -> str:
    """Return the digest of the files of a tracker from the digest of each file by name of the sequence."""
    digest = hashlib.sha256()
    for name, content in sorted(digests.items()):
        digest.update(f"{name}|".encode() + content)
    return digest.hexdigest()
