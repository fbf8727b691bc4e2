"""Iteration over the text files of a folder and of the archives in it, without unpacking to disk."""

from __future__ import annotations

import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from alpharefine.errors import UserError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")

TEXT_SUFFIXES = (".txt", ".txt.gz")

MAX_FILE_SIZE = 2**26
"""Size limit of an unpacked text file in bytes; a million rows of boxes are smaller."""

MAX_ARCHIVE_SIZE = 2**30
"""Size limit of all unpacked text files of one archive in bytes; the boxes of 50 trackers on LaSOT are smaller."""

_FOREIGN_ARCHIVES = (".rar", ".7z", ".zst", ".gz", ".xz", ".bz2")
"""Suffixes of files that must be unpacked by another program."""

_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError),
    *(RuntimeError, NotImplementedError),  # raised by zipfile for encrypted members and unknown compression methods
)


class TextFile(NamedTuple):
    """Text file in a folder or archive.

    Attributes:
        folders: Names of the folders from the searched place to the file; an archive counts as a folder named without
            its suffixes.
        num_outside: Number of leading `folders` up to and including the archive; 0 if the file is in no archive.
        stem: File name without ``.txt`` or ``.txt.gz``.
        place: Path of the file, for error messages.
        content: Unpacked content.
        fault: Reason why the content cannot be read; empty if it was read.
    """

    folders: tuple[str, ...]
    num_outside: int
    stem: str
    place: str
    content: bytes
    fault: str = ""


def is_archive(path: Path) -> bool:
    """Return True if a file name has the suffix of an archive.

    Args:
        path: Path of the file.

    >>> [is_archive(Path(name)) for name in ("results_ATOM.tar.xz", "airplane-1.txt.gz", "dimp50.pth.tar")]
    [True, False, False]
    """
    name = path.name.lower()
    return name.endswith(ARCHIVE_SUFFIXES) and not name.endswith(".pth.tar")  # a checkpoint, despite its suffix


def archive_stem(path: Path) -> str:
    """Return the file name of an archive without its suffixes; other names are returned unchanged.

    Args:
        path: Path of the archive.

    >>> archive_stem(Path("results_ATOM.tar.xz")), archive_stem(Path("siam.fc"))
    ('results_ATOM', 'siam.fc')
    """
    return _stem(path.name, ARCHIVE_SUFFIXES)


def text_files(place: Path) -> Iterator[TextFile]:
    """Yield every ``.txt`` and ``.txt.gz`` file in a folder, its subfolders and their archives, or in one archive.

    Hidden files and folders are skipped, and so are links and names with ``..`` in archives.

    Args:
        place: Path of the folder or archive.

    Raises:
        UserError: If an archive is damaged or holds a file larger than `MAX_FILE_SIZE`, or a folder cannot be read.
    """
    if not place.is_dir():
        yield from _in_archive(place, (archive_stem(place),))
        return
    seen: set[str] = set()
    for name, below, files in os.walk(place, onerror=_refuse_folder, followlinks=True):
        folder, real = Path(name), os.path.realpath(name)
        below[:] = [] if real in seen else sorted(below)
        folders = folder.relative_to(place).parts
        if real in seen or _is_hidden(folders):
            continue
        seen.add(real)
        for path in (folder / file for file in sorted(files) if not _is_hidden((file,))):
            if not path.exists():
                raise UserError(f"{path} is a link to a file that is not there; restore or remove it.")
            if not path.is_file() and (is_archive(path) or _is_text(path.name)):
                raise UserError(f"{path} is a pipe or a device, not a file; remove it.")
            if is_archive(path):
                yield from _in_archive(path, (*folders, archive_stem(path)))
            elif _is_text(path.name):
                yield read_text_file(path, folders)


def contents_of(place: Path) -> str:
    """Describe the files of a folder or archive, for messages that say that nothing was found in it.

    Args:
        place: Path of the folder or archive.

    Returns:
        Numbers of files by suffix, and the names of files that must be unpacked first; ``nothing`` if it is empty.
    """
    names = sorted(_names_in(place))
    packed = [name for name in names if name.lower().endswith(_FOREIGN_ARCHIVES) and not _is_text(name)]
    packed = [name for name in packed if not is_archive(Path(name))]
    counts = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in names if name not in packed)
    found = [f"{name} (unpack it)" for name in packed[:3]]
    found += [f"{count} file{'s' * (count > 1)} {suffix}" for suffix, count in counts.most_common(5)]
    return ", ".join(found) or "nothing"


def _names_in(place: Path) -> Iterator[str]:
    if place.is_dir():
        for folder, below, files in os.walk(place):
            below[:] = [name for name in below if not _is_hidden((name,))]
            yield from (str((Path(folder) / name).relative_to(place)) for name in files if not _is_hidden((name,)))
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            yield from (member.filename.replace("\\", "/") for member in archive.infolist() if not member.is_dir())
    elif tarfile.is_tarfile(place):
        with tarfile.open(place) as tar:
            yield from (member.name for member in tar if member.isfile())


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read ({error.strerror}); make it readable or remove it.")


def read_text_file(path: Path, folders: tuple[str, ...] = ()) -> TextFile:
    """Read a ``.txt`` or ``.txt.gz`` file. A damaged file has a `TextFile.fault`, because the others can be used.

    Args:
        path: Path of the file.
        folders: Names of the folders that lead to the file; see `TextFile`.
    """
    content, fault = b"", ""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise UserError(f"{path} is not a regular file; remove it.")
        with path.open("rb") as file:
            content = _content(file, str(path))
    except (UserError, OSError) as error:
        fault = str(error)
    return TextFile(folders, 0, _stem(path.name, TEXT_SUFFIXES), str(path), content, fault)


def _in_archive(path: Path, folders: tuple[str, ...]) -> Iterator[TextFile]:
    size = 0
    try:
        members = _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path)
        for name, file in members:
            parts = PurePosixPath(name).parts
            if not _is_hidden(parts) and _is_text(name):
                place = f"{path}/{name}"
                content = _content(file, place)
                size += len(content)
                if size > MAX_ARCHIVE_SIZE:
                    raise UserError(
                        f"{path} has more than {MAX_ARCHIVE_SIZE >> 20} MiB of text, which no archive of boxes has; "
                        "remove it, or unpack and give what is needed of it."
                    )
                yield TextFile((*folders, *parts[:-1]), len(folders), _stem(parts[-1], TEXT_SUFFIXES), place, content)
    except _DAMAGED as error:
        raise UserError(
            f"{path} cannot be unpacked ({_reason(error)}); get it again, or unpack it yourself."
        ) from error


def _zip_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and _is_text(member.filename):
                with archive.open(member) as file:
                    yield member.filename.replace("\\", "/"), file  # some programs on Windows write backslashes


def _tar_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                yield member.name, file


def _content(file: IO[bytes], place: str) -> bytes:
    """Read and unpack a file up to the size limit."""
    try:
        if place.lower().endswith(".gz"):
            with gzip.open(file) as unpacked:
                content = unpacked.read(MAX_FILE_SIZE + 1)
        else:
            content = file.read(MAX_FILE_SIZE + 1)
    except _DAMAGED as error:
        raise UserError(f"{place} cannot be read ({_reason(error)}); download it again.") from error
    if len(content) > MAX_FILE_SIZE:
        raise UserError(f"{place} is larger than {MAX_FILE_SIZE >> 20} MiB, which no file of boxes is; remove it.")
    return content


def _reason(error: Exception) -> str:
    """Return the first line of an error message."""
    return str(error).partition("\n")[0].rstrip(":") or type(error).__name__


def _is_text(name: str) -> bool:
    return name.lower().endswith(TEXT_SUFFIXES)


def _stem(name: str, suffixes: tuple[str, ...]) -> str:
    suffix = max((suffix for suffix in suffixes if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in parts)
