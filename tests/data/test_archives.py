"""Text files in folders and archives, as different programs write them."""

from __future__ import annotations

import gzip
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from alpharefine.data import archives
from alpharefine.data.archives import contents_of, text_files
from alpharefine.errors import UserError


def found(place: Path) -> list[tuple[tuple[str, ...], str]]:
    return sorted((file.folders, file.stem) for file in text_files(place))


def test_backslashes_and_suffixes_in_any_case(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "Windows.ZIP", "w") as archive:
        for name in ("DiMP\\car-1.txt", "DiMP\\car-2.TXT", "ATOM/car-1.Txt", "__MACOSX\\x.txt"):
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            archive.writestr(info, "1,2,3,4\n")
        archive.writestr("ATOM/car-2.TXT.GZ", gzip.compress(b"1,2,3,4\n"))
    expected = [(("Windows", "ATOM"), "car-1"), (("Windows", "ATOM"), "car-2")]
    expected += [(("Windows", "DiMP"), "car-1"), (("Windows", "DiMP"), "car-2")]
    assert found(tmp_path) == found(tmp_path / "Windows.ZIP") == expected
    assert {file.content for file in text_files(tmp_path)} == {b"1,2,3,4\n"}


def test_suffixes_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.TXT").write_text("1")
    (tmp_path / "b.Txt.Gz").write_bytes(gzip.compress(b"1"))
    assert found(tmp_path) == [((), "a"), ((), "b")]


def test_what_was_there_instead(tmp_path: Path) -> None:
    assert contents_of(tmp_path) == "nothing"
    for name in ("Good.rar", "a.csv", "b.csv", "c.mat", "README", ".hidden", "d.7Z"):
        (tmp_path / name).touch()
    assert contents_of(tmp_path) == (
        "Good.rar (unpack it), d.7Z (unpack it), 2 files .csv, 1 file without suffix, 1 file .mat"
    )
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.mat", "")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "a.csv", "x/a.csv")
    assert contents_of(tmp_path / "a.zip") == "1 file .mat"
    assert contents_of(tmp_path / "b.tar") == "1 file .csv"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"a\.txt is a pipe or a device, not a file; remove it"):
        found(tmp_path)


def test_the_texts_of_an_archive_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ARCHIVE_SIZE", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}.txt", "1" * 2**18)
    assert len(found(tmp_path)) == 4
    with zipfile.ZipFile(tmp_path / "a.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.txt", "1")
    with pytest.raises(UserError, match=r"a\.zip has more than 1 MiB of text"):
        found(tmp_path)
