"""Pictures in folders: which files are frames or masks, and their temporal order. All readers use these functions."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from alpharefine.errors import UserError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
"""File suffixes of frames and masks, in lower case."""

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
"""File suffixes of videos, which are often given in place of a folder of frames."""

_NUMBER = re.compile(r"([0-9]+)")

_MAX_TIME = 2**31


def list_frames(folder: Path) -> list[str]:
    """Return the file names of the frames in a folder in temporal order.

    Names are ordered by the numbers in them, so that ``2.jpg`` comes before ``10.jpg``. Suffixes may be in any case.
    Hidden files and files of other kinds are ignored.

    Args:
        folder: Folder of the frames.

    Raises:
        UserError: If the folder is missing or has no frames, the frames have more than one suffix, two names hold the
            same number, or only some names hold one.
    """
    names = list_pictures(folder)
    require_series(folder, names)
    return names


def require_series(folder: Path, names: Sequence[str]) -> None:
    """Check that pictures of one folder are the frames of one video.

    Args:
        folder: Folder of the pictures, for messages.
        names: File names in temporal order.

    Raises:
        UserError: If they have more than one suffix, two names hold the same number, or only some names hold one.
    """
    suffixes = sorted({suffix_of(name) for name in names})
    if len(suffixes) > 1:
        raise UserError(f"{folder}: all frames must have the same suffix, got {' and '.join(suffixes)}; keep one kind.")
    for (name, key), (after, key_after) in pairwise(zip(names, map(frame_order, names), strict=True)):
        if key == key_after:
            raise UserError(f"{folder}: frames {name} and {after} have the same number; remove one of them.")
    numbered = [bool(_NUMBER.search(stem_of(name))) for name in names]
    if any(numbered) and not all(numbered):
        odd = names[numbered.index(False)]
        raise UserError(
            f"{folder}: {odd} has no number, unlike the other frames; remove it if it is no frame, or number it."
        )


def list_pictures(folder: Path) -> list[str]:
    """Return the file names of the pictures in a folder as `list_frames` does, without its rules for suffix and number.

    Args:
        folder: Folder of the pictures.

    Raises:
        UserError: If the folder is missing, cannot be read or has no pictures.
    """
    try:
        present = os.listdir(folder)  # noqa: PTH208 - paths are slow here
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder}: no such folder; the frames of the sequence must be in it.") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); check the disk and its permissions.") from error
    names = sorted(filter(is_frame, present), key=frame_order)
    if not names:
        seen = ", ".join(sorted({suffix_of(name) or "no suffix" for name in present})) or "an empty folder"
        raise UserError(f"{folder} has no frames ({', '.join(FRAME_SUFFIXES)}), found {seen}; restore the frames.")
    return names


def has_frames(folder: Path) -> bool:
    """Return True if a folder exists and has a frame.

    Args:
        folder: Path of the folder.
    """
    return folder.is_dir() and any(is_frame(name) for name in os.listdir(folder))  # noqa: PTH208


def find_frame_folder(folder: Path) -> Path | None:
    """Return the folder with the frames of a video: ``img/`` in its folder if that has frames, else the folder itself.

    Args:
        folder: Folder of the video.

    Returns:
        Path of the folder with the frames. None if neither has frames.
    """
    return next((place for place in (folder / "img", folder) if has_frames(place)), None)


def list_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, ordered by the numbers in them.

    Folders that operating systems add are ignored: hidden ones, ``@eaDir``, ``__MACOSX``, ``$RECYCLE.BIN``.

    Args:
        folder: Path of the folder.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not is_foreign(entry.name) and entry.is_dir()]
    return sorted(names, key=name_order)


def picture_path(folder: Path, stem: str, suffixes: Sequence[str] = FRAME_SUFFIXES) -> Path:
    """Return the path of a picture of which the suffix is not known.

    Args:
        folder: Folder of the picture.
        stem: File name without suffix.
        suffixes: Possible suffixes in lower case. The first one that exists is used, in any case.

    Returns:
        Path of the existing file; the path with the first suffix if there is none.
    """
    for change in (str.lower, str.upper, str.title):
        for suffix in suffixes:
            path = folder / f"{stem}{change(suffix)}"
            if path.is_file():
                return path
    return folder / f"{stem}{suffixes[0]}"


def frame_order(name: str) -> list[str | int]:
    """Return the sort key of a file name: text and numbers in turn.

    Args:
        name: File name of a frame.

    >>> sorted(["10.jpg", "9.jpg", "1.jpg"], key=frame_order)
    ['1.jpg', '9.jpg', '10.jpg']
    """
    return name_order(stem_of(name))


def name_order(name: str) -> list[str | int]:
    """Return the sort key of a name without suffix: text and numbers in turn.

    Args:
        name: Name of a sequence or frame.

    >>> name_order("car10_2")
    ['car', 10, '_', 2, '']
    """
    return [int(part) if index % 2 else part for index, part in enumerate(_NUMBER.split(name))]


def first_gap(names: Sequence[str]) -> str:
    """Describe the first gap in the numbers of frames, or return an empty string if there is none.

    Args:
        names: File names in temporal order.

    >>> first_gap(["1.jpg", "2.jpg", "5.jpg"])
    ' (no frame between 2.jpg and 5.jpg)'
    """
    for name, after in pairwise(names):
        if frame_number(after) - frame_number(name) > 1:
            return f" (no frame between {name} and {after})"
    return ""


def frame_number(name: str) -> int:
    """Return the last number in the name of a frame, or 0 if there is none.

    Args:
        name: File name of a frame.

    >>> frame_number("0300.jpg"), frame_number("cam2_17.png"), frame_number("first.jpg")
    (300, 17, 0)
    """
    return next((part for part in reversed(frame_order(name)) if isinstance(part, int)), 0)


def frame_times(names: Sequence[str]) -> np.ndarray:
    """Return the numbers in the names of frames if they rise, else the positions of the frames.

    Args:
        names: File names of N frames in temporal order.

    Returns:
        Frame numbers of shape ``(N,)``, int32.

    >>> frame_times(["0.jpg", "5.jpg"]).tolist(), frame_times(["a.jpg", "b.jpg"]).tolist()
    ([0, 5], [0, 1])
    """
    numbers = [frame_number(name) for name in names]
    if numbers and numbers[-1] < _MAX_TIME and all(number < after for number, after in pairwise(numbers)):
        return np.array(numbers, dtype=np.int32)
    return np.arange(len(numbers), dtype=np.int32)


def stem_of(name: str) -> str:
    """Return a file name without its suffix.

    Args:
        name: File name.
    """
    return name.rpartition(".")[0] or name


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case with its dot; empty if there is none.

    Args:
        name: File name.
    """
    stem, dot, suffix = name.rpartition(".")
    return f"{dot}{suffix}".lower() if stem else ""


def is_frame(name: str) -> bool:
    """Return True if a file name is that of a frame or mask.

    Args:
        name: File name.
    """
    return not is_foreign(name) and suffix_of(name) in FRAME_SUFFIXES


def is_foreign(name: str) -> bool:
    """Return True if a file or folder is hidden, or was added by an operating system or a network drive.

    Args:
        name: Name of the file or folder.
    """
    return name.startswith((".", "@", "$", "__MACOSX")) or name in ("lost+found", "System Volume Information")
