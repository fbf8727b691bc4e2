"""Text files of numbers: the annotations and the published results of every data set are read by one function."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from alpharefine.errors import UserError

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")


def read_rows(path: Path, columns: int = 4) -> np.ndarray:
    """Read a text file that holds the same number of numbers on each line.

    Numbers may be integers or floats, NaN too, parted by commas, semicolons, tabs or spaces. Empty lines at the end are
    left out.

    Args:
        path: the file.
        columns: how many numbers a line holds.

    Returns:
        ``(N, columns)`` float64.

    Raises:
        UserError: if the file is missing, is not text, or a line does not hold that many numbers.
    """
    return parse_rows(read_text(path), str(path), columns)


def parse_rows(text: str, place: str, columns: int = 4, first_row: int = 1) -> np.ndarray:
    r"""The numbers of a text like those of `read_rows`.

    Args:
        text: what a file holds.
        place: where the text is from, for messages.
        columns: how many numbers a line holds.
        first_row: the number of the first line, for messages.

    Returns:
        ``(N, columns)`` float64.

    Raises:
        UserError: if a line does not hold that many numbers.

    >>> parse_rows("1,2\n3\t4.5\n", "here", columns=2).tolist()
    [[1.0, 2.0], [3.0, 4.5]]
    """
    lines = text.rstrip().splitlines()
    rows = [_SEPARATOR.split(line.strip()) for line in lines]
    for number, row in enumerate(rows):
        if len(row) != columns or not all(_is_number(value) for value in row):
            received = lines[number].strip()[:80]
            raise UserError(
                f"{place}, row {number + first_row}: a row must be {columns} numbers, got {received!r}; correct the "
                "file."
            )
    return np.array(rows, dtype=np.float64).reshape(-1, columns)


def folder_name(text: str) -> str:
    """A text as the name of a folder: one word of letters, digits and ``_.+-``, no path.

    >>> folder_name("self:2"), folder_name("cmd:python3 mine.py --fast"), folder_name("../SiamRPN++")
    ('self_2', 'cmd_python3_mine.py_--fast', 'SiamRPN++')
    """
    return re.sub(r"[^\w.+-]+", "_", text).strip("_.")[:100]


def decode_text(content: bytes, place: str) -> str:
    """The text that a file holds, UTF-8 with or without a byte order mark.

    Raises:
        UserError: if it is not text.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not a text file (byte {error.start}); restore it.") from error


def read_flags(path: Path) -> np.ndarray:
    """Read flags 0 and 1, parted by commas or standing one in a line.

    Args:
        path: the file.

    Returns:
        ``(N,)`` bool.

    Raises:
        UserError: if the file is missing, is not text, or holds anything else.
    """
    flags = read_text(path).replace(",", " ").split()
    strange = next((flag for flag in flags if flag not in ("0", "1")), None)
    if strange is not None:
        raise UserError(f"{path}: a flag must be 0 or 1, got {strange!r}; correct the file.")
    return np.array(flags, dtype=np.int64).astype(bool)


def read_names(path: Path) -> list[str]:
    """Read a list of names, one a line.

    Args:
        path: the file.

    Returns:
        The names.

    Raises:
        UserError: if the file is missing, is not text, or names nothing.
    """
    names = read_text(path).split()
    if not names:
        raise UserError(f"{path}: this list names no sequence; it must name at least one.")
    return names


def read_text(path: Path) -> str:
    """Read a text file, UTF-8 with or without a byte order mark.

    Args:
        path: Path of the file.

    Raises:
        UserError: If the file is missing or is not text.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; restore it, or give the folder that holds it.")
    return decode_text(path.read_bytes(), str(path))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
