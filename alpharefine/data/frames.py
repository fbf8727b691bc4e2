"""Frames of a sequence: which files of a folder are frames, and their temporal order."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

from alpharefine.errors import UserError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
"""File suffixes of frames, in lower case."""

_NUMBER = re.compile(r"([0-9]+)")


def list_frames(folder: Path) -> list[str]:
    """Return the file names of the frames in a folder in temporal order.

    Names are ordered by the numbers in them, so that ``2.jpg`` comes before ``10.jpg``. Suffixes may be in any case.
    Hidden files and files of other kinds are ignored.

    Args:
        folder: Folder of the frames.

    Raises:
        UserError: If the folder is missing or has no frames, the frames have more than one suffix, or two names hold
            the same number.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; the frames of the sequence must be in it.")
    present = [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208 - paths are slow here
    names = sorted((name for name in present if _suffix(name) in FRAME_SUFFIXES), key=frame_order)
    if not names:
        seen = ", ".join(sorted({_suffix(name) or "no suffix" for name in present})) or "an empty folder"
        raise UserError(f"{folder} has no frames ({', '.join(FRAME_SUFFIXES)}), found {seen}; restore the frames.")
    suffixes = sorted({_suffix(name) for name in names})
    if len(suffixes) > 1:
        raise UserError(f"{folder}: all frames must have the same suffix, got {' and '.join(suffixes)}; keep one kind.")
    for name, after in pairwise(names):
        if frame_order(name) == frame_order(after):
            raise UserError(f"{folder}: frames {name} and {after} have the same number; remove one of them.")
    return names


def frame_order(name: str) -> list[str | int]:
    """Return the sort key of a file name: text and numbers in turn.

    Args:
        name: File name of a frame.

    >>> sorted(["10.jpg", "9.jpg", "1.jpg"], key=frame_order)
    ['1.jpg', '9.jpg', '10.jpg']
    """
    parts = _NUMBER.split(name.rpartition(".")[0])
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def first_gap(names: list[str]) -> str:
    """Describe the first gap in the numbers of frames, or return an empty string if there is none.

    Args:
        names: File names in temporal order.

    >>> first_gap(["1.jpg", "2.jpg", "5.jpg"])
    ' (no frame between 2.jpg and 5.jpg)'
    """
    numbers = [[part for part in frame_order(name) if isinstance(part, int)][-1:] for name in names]
    for index in range(1, len(names)):
        if numbers[index] and numbers[index - 1] and numbers[index][0] - numbers[index - 1][0] > 1:
            return f" (no frame between {names[index - 1]} and {names[index]})"
    return ""


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{dot}{suffix}".lower() if stem else ""
