"""Reading torch files, in either container, executing nothing that is in them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch

from alpharefine.errors import UserError


class Record:
    """What a foreign class becomes when it is unpickled: its attributes, and nothing that could be called."""


_FOREIGN_PACKAGES = ("ltr.", "dlframework.", "pytracking.")
"""Of the authors' code; any class of theirs becomes a `Record`."""

_NUMPY_SCALARS: tuple[Any, ...] = (
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
)
"""What numbers of numpy are rebuilt with."""

_MAX_RECORDS = 32
"""Kinds of records that a file may hold; the authors' have half a dozen."""

_LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""What files of torch before 1.6 begin with."""

_REASON_LENGTH = 200


def read_torch_file(path: Path, option: str = "--ckpt") -> dict[Any, Any]:
    """Read a dict of tensors and plain values; records of the authors' own classes become `Record`.

    Args:
        path: of the file, a zip archive (torch 1.6 and later) or a row of pickles (before).
        option: of the command line that the file was given by, for messages.

    Raises:
        UserError: if the file is damaged, no torch file, or asks for anything else.
    """
    with path.open("rb") as file:
        is_legacy = file.read(len(_LEGACY_START)) == _LEGACY_START
    if not is_legacy:
        _require_whole(path, option)
    records: list[tuple[type[Record], str]] = []
    content = None
    while content is None:
        try:
            content = _load(path, records)
        except Exception as error:
            asked = _asked_for(error)
            is_record = asked is not None and asked.startswith(_FOREIGN_PACKAGES) and len(records) < _MAX_RECORDS
            if asked is None or not is_record or (Record, asked) in records:
                raise UserError(_refusal(path, option, error, asked)) from error
            records.append((Record, asked))
    if not isinstance(content, dict):
        raise UserError(f"`{option}`: {path} holds a {type(content).__name__}, no checkpoint; give another file.")
    return content


def _load(path: Path, records: list[tuple[type[Record], str]]) -> Any:
    # The open file, not its path: torch takes any path that ends in .safetensors for such a file.
    with (
        path.open("rb") as file,
        warnings.catch_warnings(),
        torch.serialization.safe_globals([*_NUMPY_SCALARS, *records]),
    ):
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)


def _asked_for(error: Exception) -> str | None:
    """The name of what a file asks for and does not get, if it is that what ended the reading."""
    asked = re.search(r"GLOBAL (.+?) (?:was not an allowed|whose module .+? is blocked)", str(error), re.DOTALL)
    return asked.group(1) if asked else None


def _refusal(path: Path, option: str, error: Exception, asked: str | None) -> str:
    if asked is not None:
        return (
            f"`{option}`: {path} asks for {shorten(repr(asked), _REASON_LENGTH)}, something else than weights and "
            "plain values, and is not read any further: it may be malicious."
        )
    # torch's message also tells how to read the file unsafely; what went wrong stands behind this.
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    reason = shorten(f"{type(error).__name__}: {text!r}", _REASON_LENGTH)
    return f"`{option}`: {path} is damaged or holds something else than weights ({reason})."


def _require_whole(path: Path, option: str) -> None:
    """Archives have check sums, which tell a damaged file before anything in it is looked at."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise UserError(
            f"`{option}`: {path} is cut short or no checkpoint at all ({error}); give another file."
        ) from error
    if damaged is not None:
        raise UserError(f"`{option}`: {path} is damaged (at {damaged}); copy it anew.")
