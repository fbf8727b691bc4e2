"""Published results of trackers, in the folders and archives that the usual toolkits write.

| toolkit | files below the folder of results |
| --- | --- |
| LaSOT's own | ``<tracker>_tracking_result/<sequence>.txt`` |
| pysot | ``<data set>/<tracker>/<sequence>.txt``; for GOT-10k and VOT those of got10k-toolkit and VOT |
| pytracking | ``<tracker>/<parameters>_<run>/<sequence>.txt``, whole numbers parted by tabs |
| got10k-toolkit | ``<data set>/<tracker>/<sequence>/<sequence>_<run>.txt``, or as pysot |
| VOT, without restarts | ``<tracker>/longterm/<sequence>/<sequence>_<run>.txt``, whose first row is ``1`` |
| Alpha-Refine's arena | ``<data set>/<run>/<sequence>.txt`` |

They need no telling apart: a folder that holds ``<sequence>.txt``, or ``<sequence>/<sequence>_001.txt``, for a sequence
that is asked for is a tracker's. A tracker is named after the path of its folder.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alpharefine.data.archives import ARCHIVE_SUFFIXES, TEXT_SUFFIXES, TextFile, is_archive, read_text_file, text_files
from alpharefine.data.text import decode_text, folder_name, parse_rows
from alpharefine.errors import UserError

_RUN_OF_SEQUENCE = re.compile(r"(?P<sequence>.+)_(?P<run>\d{3})")
_TIMES = "times"
"""The folder in which this project and got10k-toolkit keep times, in files called like those of boxes."""

_EXPERIMENTS = ("baseline", "longterm")
"""VOT's folders between that of the tracker and those of its sequences."""


@dataclass(frozen=True)
class PublishedResults:
    """The results of one tracker.

    Attributes:
        name: a word that can be a folder's name.
        place: the folder that they are from, in an archive too.
        files: the file of each sequence that has one.
        digest: of the content of all files in the folder, those of other sequences too; None if that is not known.
    """

    name: str
    place: str
    files: Mapping[str, TextFile]
    digest: str | None = None

    def boxes_xywh(self, sequence_name: str, first_xywh: np.ndarray, num_frames: int) -> np.ndarray:
        """The boxes of a sequence.

        Args:
            sequence_name: one of `files`.
            first_xywh: ``(4,)``, the box that the tracker was started with.
            num_frames: of the sequence; further rows are left out.

        Returns:
            ``(num_frames, 4)`` float64 as written, in image pixels.

        Raises:
            UserError: if the file is malformed or shorter than the sequence.
        """
        file = self.files[sequence_name]
        text = decode_text(file.content, file.place)
        first_row, _, others = text.partition("\n")
        if first_row.strip() == "1":  # VOT's sign for the frame of the start
            rows = np.concatenate([[first_xywh], parse_rows(others, file.place, first_row=2)])
        else:
            rows = parse_rows(text, file.place)
        return require_rows(rows, num_frames, file.place)


def require_rows(rows: np.ndarray, num_frames: int, place: str) -> np.ndarray:
    """The first rows of a result file, one a frame.

    Raises:
        UserError: if there are fewer rows than frames.
    """
    if len(rows) < num_frames:
        raise UserError(
            f"{place} has {len(rows)} rows, the sequence has {num_frames} frames; a result file needs a row a frame: "
            "get it again, or leave it out."
        )
    return rows[:num_frames]


def results_of_one(results_dir: Path, sequence_names: Collection[str]) -> PublishedResults | None:
    """The results of the one tracker whose folder this is.

    Args:
        results_dir: the folder.
        sequence_names: those whose results are looked for.

    Returns:
        The results; None if the folder itself holds no file of any of the sequences.

    Raises:
        UserError: if a file is damaged, or a sequence has two.
    """
    files: dict[str, TextFile] = {}
    for name, suffix in product(sequence_names, TEXT_SUFFIXES):
        path = results_dir / f"{name}{suffix}"
        if path.is_file():
            _add(files, name, read_text_file(path))
    return PublishedResults(folder_name(results_dir.resolve().name), str(results_dir), files) if files else None


def find_results(results_dir: Path, sequence_names: Collection[str]) -> list[PublishedResults]:
    """The trackers whose results lie in a folder or archive, as told at the top of this module.

    Args:
        results_dir: the folder or archive.
        sequence_names: those whose results are looked for.

    Returns:
        Trackers in the order of their names, each with at least one of the sequences.

    Raises:
        UserError: if there is no such folder or archive, none of the sequences has a result there, two trackers would
            have the same name, a tracker has two files for one sequence, or an archive is damaged.
    """
    if not results_dir.is_dir() and not (results_dir.is_file() and is_archive(results_dir)):
        raise UserError(
            f"--results_dir {results_dir} is not a folder, nor an archive ({', '.join(ARCHIVE_SUFFIXES)}); --tracker "
            "replay reads result files from it."
        )
    groups: dict[_Group, dict[str, TextFile]] = defaultdict(dict)
    for file in text_files(results_dir):
        if _TIMES not in file.folders:
            group, sequence_name = _group(file)
            _add(groups[group], sequence_name, file)
    groups = {group: files for group, files in groups.items() if any(name in files for name in sequence_names)}
    if not groups:
        raise UserError(
            f"--results_dir {results_dir} has no {next(iter(sequence_names))}.txt, nor a file of another one of the "
            f"{len(sequence_names)} sequences, in its folders and archives; --tracker replay needs one for each."
        )
    names = _names(list(groups), results_dir)
    trackers = [
        PublishedResults(
            names[group],
            str(Path(results_dir, *group.folders)),
            {name: files[name] for name in sequence_names if name in files},
            _digest(files),
        )
        for group, files in groups.items()
    ]
    return sorted(trackers, key=lambda tracker: tracker.name)


class _Group(NamedTuple):
    """The files of one tracker: the folders that they lie in, how many of these lead to an archive, which run."""

    folders: tuple[str, ...]
    num_outside: int
    run: str


def _group(file: TextFile) -> tuple[_Group, str]:
    """The tracker that a file is of, and the sequence."""
    match = _RUN_OF_SEQUENCE.fullmatch(file.stem)
    if not match or file.folders[-1:] != (match["sequence"],):
        return _Group(file.folders, file.num_outside, ""), file.stem
    folders = file.folders[:-1]
    if folders[-1:] and folders[-1] in _EXPERIMENTS:
        folders = folders[:-1]
    return _Group(folders, file.num_outside, match["run"]), match["sequence"]


def _add(files: dict[str, TextFile], sequence_name: str, file: TextFile) -> None:
    other = files.setdefault(sequence_name, file)
    if other is not file:
        raise UserError(
            f"--results_dir: both {other.place} and {file.place} hold results of {sequence_name}; leave one out."
        )


def _names(groups: list[_Group], results_dir: Path) -> dict[_Group, str]:
    """A name for each tracker, after its folders; an archive gives its own name only where that is needed."""
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
                f"--results_dir {results_dir}: {one} and {other} would both be called {name!r}; rename one, or leave "
                "it out."
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


def _digest(files: Mapping[str, TextFile]) -> str:
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(f"{name}|{len(file.content)}|".encode() + file.content)
    return digest.hexdigest()
