"""Reading of weight files, without running code in them and in bounded memory and time."""

from __future__ import annotations

import mmap
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import IO, Any, NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from alpharefine.checkpoints.pickles import PickleError, PickleScanner
from alpharefine.errors import UserError


class ForeignObject:
    """Stand-in for an unpickled instance of a foreign class: attributes without methods."""


class WeightFile(NamedTuple):
    """Content of a weight file.

    Attributes:
        content: Tensors and plain values; the tensors by their names for a .safetensors file.
        metadata: Header of a .safetensors file; None for a torch file.
    """

    content: dict[Any, Any]
    metadata: dict[str, str] | None


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

_LEGACY_PICKLES = 5
"""Number of pickles at the start of such a file: magic number, version, machine, content, keys of the storages."""

_REASON_LENGTH = 200


def read_weight_file(path: Path, option: str = "--ckpt") -> WeightFile:
    """Read a .safetensors file or a torch file; the format is detected from the content.

    Args:
        path: Path of the file.
        option: Command-line option that named the file, for messages.

    Raises:
        UserError: If the file is missing or damaged, is neither format, or requires code.
    """
    if not path.is_file():
        raise UserError(f"`{option}`: no file {path}; give a checkpoint.")
    if not is_safetensors(path):
        return WeightFile(read_torch_file(path, option), None)
    try:
        with safe_open(path, framework="pt") as file:
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return WeightFile(content, file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = shorten(str(error), _REASON_LENGTH)
        raise UserError(f"`{option}`: {path} is a damaged .safetensors file ({reason}); copy it again.") from error


def is_safetensors(path: Path) -> bool:
    """Return True if a file starts as .safetensors files do: the length of a header, then a JSON object.

    Args:
        path: Path of the file.
    """
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def read_torch_file(path: Path, option: str = "--ckpt") -> dict[Any, Any]:
    """Read a dict of tensors and plain values. Instances of the authors' classes become `ForeignObject`.

    Args:
        path: Path of a zip archive (torch 1.6 and later) or of a sequence of pickles (before).
        option: Command-line option that named the file, for messages.

    Raises:
        UserError: If the file is damaged, is not a torch file, requires any other class or function, or exceeds the
            bounds of `alpharefine.checkpoints.pickles`.
    """
    with path.open("rb") as file:
        is_legacy = file.read(len(_LEGACY_START)) == _LEGACY_START
    scanner = PickleScanner(_FOREIGN_PACKAGES)
    try:
        if is_legacy:
            _scan_legacy(path, scanner)
        else:
            scanner.scan(_pickle_of_archive(path, option))
        content = _load(path, scanner.foreign_globals)
    except UserError:
        raise
    except PickleError as error:
        raise UserError(_refusal(path, option, error)) from error
    except Exception as error:  # the readers of torch and of pickles raise errors of many types for damaged files
        # The first part of torch's message recommends reading the file unsafely.
        text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
        reason = shorten(f"{type(error).__name__}: {text[:_REASON_LENGTH]!r}", _REASON_LENGTH)
        raise UserError(
            f"`{option}`: {path} is damaged or holds something else than weights ({reason}); copy it again."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"`{option}`: {path} holds a {type(content).__name__}, no checkpoint; give another file.")
    _drop_attributes(content)
    return content


def _scan_legacy(path: Path, scanner: PickleScanner) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(_LEGACY_PICKLES):
            scanner.scan(cast("IO[bytes]", content))


def _pickle_of_archive(path: Path, option: str) -> bytes:
    """Return the pickle of an archive whose layout is that of torch and whose check sums are right.

    The layout is required, because another one can unpack to any size, or to different files in two readers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            pickles = [member for member in members if member.filename.endswith("/data.pkl")]
            names = {member.filename.lower() for member in members}
            is_stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            fits = sum(member.file_size for member in members) < path.stat().st_size
            starts_first = min((member.header_offset for member in members), default=0) == 0
            if not (is_stored and fits and starts_first and len(names) == len(members) and len(pickles) == 1):
                raise UserError(
                    f"`{option}`: {path} is damaged or holds something else than weights (torch.save writes one "
                    "data.pkl, no compressed and no repeated members); save the weights again with torch.save."
                )
            damaged = archive.testzip()
            content = archive.read(pickles[0])
    except UserError:
        raise
    except Exception as error:
        reason = shorten(str(error), _REASON_LENGTH)
        raise UserError(
            f"`{option}`: {path} is cut short or no checkpoint at all ({reason}); give another file."
        ) from error
    if damaged is not None:
        raise UserError(f"`{option}`: {path} is damaged (at {shorten(damaged, _REASON_LENGTH)}); copy it again.")
    return content


def _load(path: Path, foreign_globals: set[str]) -> Any:
    if len(foreign_globals) > _MAX_CLASSES:
        raise PickleError(f"names {len(foreign_globals)} foreign classes")
    foreign = [(ForeignObject, name) for name in foreign_globals]
    # Given a path that ends in .safetensors, torch would read the file as such.
    with (
        path.open("rb") as file,
        warnings.catch_warnings(),
        torch.serialization.safe_globals([*_NUMPY_SCALARS, *foreign]),
    ):
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)


def _refusal(path: Path, option: str, error: PickleError) -> str:
    if error.required is not None:
        return (
            f"`{option}`: {path} asks for {shorten(repr(error.required), _REASON_LENGTH)}, something else than weights "
            "and plain values. It was not loaded: it may be malicious; give a file from a trusted source."
        )
    return (
        f"`{option}`: {path} {error}; it was not loaded, because its content is damaged or malicious. Give a file from "
        "a trusted source."
    )


def _drop_attributes(content: dict[Any, Any]) -> None:
    """Delete attributes of dicts, which could hide their methods. A file can set them on an `OrderedDict`."""
    pending, seen = [content], {id(content)}
    while pending:
        value: Any = pending.pop()
        if hasattr(value, "__dict__") and isinstance(value, dict):
            vars(value).clear()
        for item in _items(value):
            if id(item) not in seen:
                seen.add(id(item))
                pending.append(item)


def _items(value: Any) -> Iterator[Any]:
    """Yield the values inside a container."""
    if isinstance(value, dict):
        yield from dict.values(value)
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, ForeignObject):
        yield from vars(value).values()
