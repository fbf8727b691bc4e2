"""Text files of numbers, flags and names: one grammar for the annotations and the results of every data set.

Plain numbers with one separator between them, which nearly all files hold, are decoded together: decimals of at most 15
digits by array operations, others as JSON. Anything else is read line by line, which also finds the row that an error
message names.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import orjson

from alpharefine.errors import UserError

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")

_BRACKETED = re.compile(r"[\[(]+([^\[\]()]*)[\])]+\s*[,;]?")
"""A row in brackets, as Python and JSON write it."""

_HEADER = re.compile(r"[#%]?\s*[\"']?[a-zA-Z_][\w\"'\s.,;:()/-]*")

_GAP, _NEWLINE, _DOT, _MINUS, _ONE, _OTHER = b" \n.-1\xff"

_PLAIN = bytes(byte if byte in b"0123456789.-+eE\n" else _GAP if byte in b",;\t " else _OTHER for byte in range(256))
"""Translation table of rows of plain numbers: every separator within a row becomes a space."""

_COMMAS = bytes.maketrans(b" \n", b",,")

_FLAGS = bytes(byte if byte in b"01" else _GAP if byte in b",;\t\r\n " else _OTHER for byte in range(256))
"""Translation table of flags: every separator becomes a space."""

_MAX_DIGITS = 15
"""Largest number of digits that a float64 holds exactly, whatever the digits are."""

_POWERS = np.array([float(10**power) for power in range(_MAX_DIGITS + 1)])


def read_rows(path: Path, columns: int = 4) -> np.ndarray:
    """Read a text file that holds the same number of numbers on each line; `parse_rows` states the grammar.

    Args:
        path: Path of the file.
        columns: Number of numbers on a line.

    Returns:
        ``(N, columns)`` float64.

    Raises:
        UserError: If the file is missing, is not text, or a line does not hold `columns` numbers.
    """
    return parse_rows(read_text(path), str(path), columns, codes=False)


def parse_rows(text: str, place: str, columns: int = 4, first_row: int = 1, codes: bool = True) -> np.ndarray:
    r"""Parse a text that holds the same number of numbers on each line.

    Numbers are integers or decimals, including NaN and infinity, separated by commas, semicolons, tabs or spaces. A row
    may end with a separator and may be in brackets. Empty lines at the end are ignored. Where four columns are asked
    for, they are a box:

    - eight numbers are the corners of a polygon, and become its enclosing box;
    - a single 0, 1 or 2 is a code of VOT (skipped, initialized, lost), and becomes a row of NaN.

    Args:
        text: Content of a file.
        place: Origin of the text, for error messages.
        columns: Number of numbers on a line.
        first_row: Number of the first line, for error messages.
        codes: Accept VOT's codes, which only results have.

    Returns:
        ``(N, columns)`` float64.

    Raises:
        UserError: If a line does not hold `columns` numbers, or all lines are codes.

    >>> parse_rows("1,2\n3\t4.5\n", "here", columns=2).tolist()
    [[1.0, 2.0], [3.0, 4.5]]
    >>> parse_rows("[1, 2, 3, 4]\n10,20,40,20,40,60,10,60,\n2", "here").tolist()
    [[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0], [nan, nan, nan, nan]]
    """
    text = text.rstrip()
    if not text:
        return np.empty((0, columns))
    values = _plain_rows(text, columns)
    if values is not None:
        return values
    grammar = _Grammar(columns, codes)
    rows = [grammar.row(line, f"{place}, row {number}") for number, line in enumerate(_lines(text), first_row)]
    if grammar.num_codes == len(rows):
        raise UserError(f"{place}: every row is one number, a code of VOT, and none is a box; give the file of boxes.")
    return np.array(rows).reshape(-1, columns)


def row_faults(text: str, columns: int = 4) -> dict[int, str]:
    """Describe every line that is no row of numbers, by its number from 1.

    Args:
        text: Content of a file.
        columns: Number of numbers on a line.
    """
    text = text.rstrip()
    if not text or _plain_rows(text, columns) is not None:
        return {}
    grammar, faults = _Grammar(columns, codes=False), {}
    for number, line in enumerate(_lines(text), 1):
        try:
            grammar.row(line, f"row {number}")
        except UserError as error:
            faults[number] = str(error)
    return faults


def _lines(text: str) -> list[str]:
    """Split at line breaks alone; `str.splitlines` also splits at separators of other kinds."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _plain_rows(text: str, columns: int) -> np.ndarray | None:
    """Decode rows or polygons of plain numbers, each row with a separator at its end or none; None for other texts."""
    if text[-1] in ",;":
        text = text[:-1].replace(f"{text[-1]}\n", "\n").replace(f"{text[-1]}\r\n", "\n")
    values = _plain_numbers(text, columns)
    if values is None and columns == 4 and not ("," in text and ";" in text):
        corners = _plain_numbers(text, 8)
        if corners is not None:
            corners = corners.reshape(-1, 4, 2)
            return np.concatenate([corners.min(1), np.ptp(corners, axis=1)], axis=1)
    return None if values is None else values.reshape(-1, columns)


def _plain_numbers(text: str, columns: int) -> np.ndarray | None:
    """Decode rows of finite numbers that single separators part; None for any other text."""
    data = (text + "\n").encode(errors="replace")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    data = data.translate(_PLAIN)
    if _OTHER in data:
        return None
    chars = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(chars <= _GAP)
    row_ends = chars[ends[columns - 1 :: columns]]
    num_lines = np.count_nonzero(chars == _NEWLINE)
    if len(ends) % columns or num_lines != len(row_ends) or (row_ends != _NEWLINE).any():
        return None
    has_dots, has_minuses = _DOT in data, _MINUS in data
    has_exponents = any(byte in data for byte in b"+eE")
    values = None if has_exponents else _whole_numbers(data.translate(None, b".-") if has_dots or has_minuses else data)
    if values is None:
        return _json_numbers(data)
    if has_minuses:
        values = _negate(values, np.flatnonzero(chars == _MINUS), ends)
    if values is not None and has_dots:
        values = _shift_points(values, chars)
    return values


def _json_numbers(data: bytes) -> np.ndarray | None:
    """Decode numbers with many digits or exponents, each followed by one separator; None if JSON has no such number."""
    text = data.translate(_COMMAS)
    if len(text) == 1 or b"-0," in text:  # an integer has no negative zero
        return None
    try:
        return np.array(orjson.loads(b"[" + text[:-1] + b"]"), np.float64)
    except ValueError:
        return None


def _whole_numbers(data: bytes) -> np.ndarray | None:
    """Decode numbers of digits alone, each followed by one separator; None if one has no digit or too many."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) <= _GAP)
    lengths = np.diff(ends, prepend=-1) - 1
    longest = lengths.max()
    if lengths.min() < 1 or longest > _MAX_DIGITS:
        return None
    values = _eight_digits(data, ends, lengths)
    if longest > 8:
        values += 1e8 * _eight_digits(data, ends - 8, np.maximum(lengths - 8, 0))
    return values


def _eight_digits(data: bytes, ends: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Decode the last eight digits, or as many as there are, of the numbers that end before given positions.

    Eight characters are one integer of 64 bits. Neighboring digits, pairs and fours are joined by one product each.
    """
    padded = bytes(16) + data
    eights = np.ndarray(len(data) + 9, dtype="<u8", buffer=padded, strides=(1,)).take(ends + 8)
    shifts = (64 - 8 * np.minimum(lengths, 8)).astype(np.uint64)
    # A number without a digit here is shifted by 64 bits, which gives 0 in numpy.
    digits = eights >> shifts << shifts & 0x0F0F0F0F0F0F0F0F
    pairs = digits * (10 * 2**8 + 1) >> 8 & 0x00FF00FF00FF00FF
    fours = pairs * (100 * 2**16 + 1) >> 16 & 0x0000FFFF0000FFFF
    values: np.ndarray = (fours * (10_000 * 2**32 + 1) >> 32).astype(np.float64)
    return values


def _shift_points(values: np.ndarray, chars: np.ndarray) -> np.ndarray | None:
    """Divide numbers by the power of ten that their decimal points ask for; None if one has two points.

    No minus sign may stand behind a point. The quotient of two exact numbers is rounded once, so it is the number that
    `float` returns.
    """
    marks = np.flatnonzero((chars <= _GAP) | (chars == _DOT))
    dots = np.flatnonzero(chars[marks] == _DOT)
    if (np.diff(dots) == 1).any():
        return None
    values[dots - np.arange(len(dots))] /= _POWERS[marks[dots + 1] - marks[dots] - 1]
    return values


def _negate(values: np.ndarray, minuses: np.ndarray, ends: np.ndarray) -> np.ndarray | None:
    """Negate the numbers that begin with a minus sign; None if one stands elsewhere."""
    indices = np.searchsorted(ends, minuses)
    if (minuses != np.where(indices > 0, ends[indices - 1] + 1, 0)).any():
        return None
    values[indices] *= -1.0
    return values


class _Grammar:
    """Parser of single rows.

    Args:
        columns: Number of numbers on a line.
        codes: Accept VOT's codes.

    Attributes:
        num_codes: Number of codes among the rows that were parsed.
    """

    def __init__(self, columns: int, codes: bool) -> None:
        self.columns, self.codes = columns, codes
        self.num_codes = 0

    def row(self, line: str, place: str) -> list[float]:
        """Parse one line.

        Args:
            line: Line without its break.
            place: Origin of the line, for error messages.

        Raises:
            UserError: If the line is not a row of `columns` numbers.
        """
        bare = _without_brackets(line)
        bare = bare[:-1].rstrip() if bare.endswith((",", ";")) else bare
        try:
            row = [] if "_" in bare else [float(part) for part in _SEPARATOR.split(bare)]  # `float` takes 1_000
        except ValueError:
            row = []
        if len(row) == self.columns:
            return row
        if self.columns == 4 and len(row) == 8 and not ("," in bare and ";" in bare):
            return _enclosing_box(row)
        if self.columns == 4 and len(row) == 1 and self.codes and row[0] in (0, 1, 2):
            self.num_codes += 1
            return [np.nan] * 4
        numbers = "1 number" if self.columns == 1 else f"{self.columns} numbers"
        raise UserError(f"{place}: a row must be {numbers}, got {line.strip()[:80]!r}; {self._remedy(row, bare)}.")

    def _remedy(self, row: list[float], line: str) -> str:
        if self.columns != 4:
            return "correct the file"
        if len(row) > 4 and "," in line and ";" in line:
            return "numbers must have a decimal point, not a comma: correct the file"
        if len(row) == 5:
            cause = "the last column may be a score" if 0 <= row[-1] <= 1 else "one column may be an index or a score"
            return f"{cause}: keep the 4 columns of the box"
        if len(row) > 4:
            return "keep the 4 columns of the box, without indices, labels and scores"
        if not row and _HEADER.fullmatch(line):
            return "this looks like a header: remove this line"
        return "correct the file"


def _without_brackets(text: str) -> str:
    text = text.strip()
    bracketed = _BRACKETED.fullmatch(text)
    return bracketed[1].strip() if bracketed else text


def _enclosing_box(corners: list[float]) -> list[float]:
    """Return the xywh box around a polygon of corners x1, y1, x2, y2, ...; NaN if a corner is NaN."""
    x, y = np.array(corners[::2]), np.array(corners[1::2])
    return [float(value) for value in (x.min(), y.min(), x.max() - x.min(), y.max() - y.min())]


def format_rows(rows: np.ndarray) -> str:
    r"""Return numbers as text, one row a line, separated by commas; `read_rows` gives the same numbers back.

    Args:
        rows: ``(N, C)``, written as float64.

    >>> format_rows(np.array([[1.5, 2.0], [0.1, 1e-17]]))
    '1.5,2.0\n0.1,1e-17\n'
    >>> format_rows(np.zeros((2, 3)))
    '0.0,0.0,0.0\n0.0,0.0,0.0\n'
    """
    if not np.isfinite(rows).all():  # JSON has no such numbers
        return "".join(",".join(map(repr, row)) + "\n" for row in rows.tolist())
    lists = orjson.dumps(np.ascontiguousarray(rows, np.float64), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return lists[2:-2].replace("],[", "\n") + "\n" if len(rows) else ""


def folder_name(text: str) -> str:
    """Convert a text to the name of a folder: one word of letters, digits and ``_.+-``, no path.

    Args:
        text: Any text.

    >>> folder_name("self:2"), folder_name("cmd:python3 mine.py --fast"), folder_name("../SiamRPN++")
    ('self_2', 'cmd_python3_mine.py_--fast', 'SiamRPN++')
    """
    return re.sub(r"[^\w.+-]+", "_", text).strip("_.")[:100]


def decode_text(content: bytes, place: str) -> str:
    """Decode UTF-8 with or without a byte order mark.

    Args:
        content: Content of a file.
        place: Origin of the content, for error messages.

    Raises:
        UserError: If the content is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not a text file (byte {error.start}); restore it.") from error


def read_flags(path: Path) -> np.ndarray:
    """Read flags 0 and 1, separated by commas, semicolons, spaces or line breaks, in brackets or not.

    Args:
        path: Path of the file.

    Returns:
        ``(N,)`` bool.

    Raises:
        UserError: If the file is missing, is not text, or holds anything else.
    """
    text = _without_brackets(read_text(path))
    data = text.encode(errors="replace").translate(_FLAGS)
    chars = np.frombuffer(data, dtype=np.uint8)
    is_flag = chars != _GAP
    if _OTHER not in data and not (is_flag[1:] & is_flag[:-1]).any():
        return np.asarray(chars[is_flag] == _ONE)
    flags = text.replace(",", " ").replace(";", " ").split()
    strange = next((flag for flag in flags if flag not in ("0", "1")), None)
    if strange is not None:
        raise UserError(f"{path}: a flag must be 0 or 1, got {strange!r}; correct the file.")
    return np.array([flag == "1" for flag in flags])


def read_names(path: Path) -> list[str]:
    """Read a list of names, one a line.

    Args:
        path: Path of the file.

    Raises:
        UserError: If the file is missing, is not text, or names nothing.
    """
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
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
    try:
        return decode_text(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the disk and its permissions.") from error
