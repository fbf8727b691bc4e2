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
    present = os.listdir(folder)  # noqa: PTH208 - paths are slow here
    names = sorted(filter(_is_frame, present), key=frame_order)
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


def has_frames(folder: Path) -> bool:
    """Return True if a folder exists and has a frame.

    Args:
        folder: Path of the folder.
    """
    return folder.is_dir() and any(_is_frame(name) for name in os.listdir(folder))  # noqa: PTH208


def frame_order(name: str) -> list[str | int]:
    """Return the sort key of a file name: text and numbers in turn.

    Args:
        name: File name of a frame.

    >>> sorted(["10.jpg", "9.jpg", "1.jpg"], key=frame_order)
    ['1.jpg', '9.jpg', '10.jpg']
    """
    return name_order(name.rpartition(".")[0])


def name_order(name: str) -> list[str | int]:
    """Return the sort key of a name without suffix: text and numbers in turn.

    Args:
        name: Name of a sequence or frame.

    >>> name_order("car10_2")
    ['car', 10, '_', 2, '']
    """
    return [int(part) if index % 2 else part for index, part in enumerate(_NUMBER.split(name))]


def first_gap(names: list[str]) -> str:
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


def _is_frame(name: str) -> bool:
    return not name.startswith(".") and _suffix(name) in FRAME_SUFFIXES


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{dot}{suffix}".lower() if stem else ""
