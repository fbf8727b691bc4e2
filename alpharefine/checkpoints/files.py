"""Reading of torch files in either container, without running code in them."""

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


class ForeignObject:
    """Stand-in for an unpickled instance of a foreign class: attributes without methods."""


_FOREIGN_PACKAGES = ("ltr.", "dlframework.", "pytracking.")
"""Packages of the authors' code, whose classes become `ForeignObject`."""

_NUMPY_SCALARS: tuple[Any, ...] = (
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
)
"""Globals that unpickle numpy scalars."""

_MAX_CLASSES = 32
"""Maximum number of foreign classes in a file; files of the authors' code have about six."""

_LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""First bytes of files of torch before 1.6."""

_REASON_LENGTH = 200


def read_torch_file(path: Path, option: str = "--ckpt") -> dict[Any, Any]:
    """Read a dict of tensors and plain values. Instances of the authors' classes become `ForeignObject`.

    Args:
        path: Path of a zip archive (torch 1.6 and later) or of a sequence of pickles (before).
        option: Command-line option that named the file, for messages.

    Raises:
        UserError: If the file is damaged, is not a torch file, or requires any other class or function.
    """
    with path.open("rb") as file:
        is_legacy = file.read(len(_LEGACY_START)) == _LEGACY_START
    if not is_legacy:
        _require_whole(path, option)
    foreign: list[tuple[type[ForeignObject], str]] = []
    content = None
    while content is None:
        try:
            content = _load(path, foreign)
        except Exception as error:
            required = _required_global(error)
            is_known = required is not None and required.startswith(_FOREIGN_PACKAGES)
            if required is None or not is_known or len(foreign) == _MAX_CLASSES or (ForeignObject, required) in foreign:
                raise UserError(_refusal(path, option, error, required)) from error
            foreign.append((ForeignObject, required))
    if not isinstance(content, dict):
        raise UserError(f"`{option}`: {path} holds a {type(content).__name__}, no checkpoint; give another file.")
    return content


def _load(path: Path, foreign: list[tuple[type[ForeignObject], str]]) -> Any:
    # Given a path that ends in .safetensors, torch would read the file as such.
    with (
        path.open("rb") as file,
        warnings.catch_warnings(),
        torch.serialization.safe_globals([*_NUMPY_SCALARS, *foreign]),
    ):
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)


def _required_global(error: Exception) -> str | None:
    """Name of the class or function that torch refused to load; None for another error."""
    refused = re.search(r"GLOBAL (.+?) (?:was not an allowed|whose module .+? is blocked)", str(error), re.DOTALL)
    return refused.group(1) if refused else None


def _refusal(path: Path, option: str, error: Exception, required: str | None) -> str:
    if required is not None:
        return (
            f"`{option}`: {path} asks for {shorten(repr(required), _REASON_LENGTH)}, something else than weights and "
            "plain values. It was not loaded: it may be malicious; give a file from a trusted source."
        )
    # The first part of torch's message recommends reading the file unsafely.
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    reason = shorten(f"{type(error).__name__}: {text!r}", _REASON_LENGTH)
    return f"`{option}`: {path} is damaged or holds something else than weights ({reason}); copy it again."


def _require_whole(path: Path, option: str) -> None:
    """Verify the check sums of an archive before its content is used."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise UserError(
            f"`{option}`: {path} is cut short or no checkpoint at all ({error}); give another file."
        ) from error
    if damaged is not None:
        raise UserError(f"`{option}`: {path} is damaged (at {damaged}); copy it again.")
