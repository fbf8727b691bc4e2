"""Which files are frames, and their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpharefine.data.frames import first_gap, list_frames
from alpharefine.errors import UserError


def folder_of(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).touch()
    return path


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"{i}.jpg" for i in (1, 2, 9, 10, 11, 100)], id="numbers without leading zeros"),
        pytest.param(["00000001.JPG", "00000002.jpg", "00000010.Jpg"], id="suffixes in any case"),
        pytest.param(["a1_2.png", "a1_10.png", "a2_1.png", "a10_1.png"], id="two numbers"),
        pytest.param(["first.bmp", "second.bmp"], id="no numbers"),
        pytest.param(["0.jpeg"], id="one frame"),
    ],
)
def test_order(tmp_path: Path, names: list[str]) -> None:
    assert list_frames(folder_of(tmp_path, *reversed(names))) == names


def test_other_files_are_ignored(tmp_path: Path) -> None:
    folder_of(tmp_path, "1.jpg", ".2.jpg", "._1.jpg", "Thumbs.db", "groundtruth.txt", "jpg")
    (tmp_path / "@eaDir").mkdir()
    assert list_frames(tmp_path) == ["1.jpg"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has no frames .* found an empty folder"),
        (["a.txt", "b.GIF", "c"], r"has no frames \(\.jpg, .*\), found \.gif, \.txt, no suffix"),
        (["1.jpg", "2.png"], r"the same suffix, got \.jpg and \.png"),
        (["1.jpg", "2.jpg", "cover.jpg"], r"cover\.jpg has no number, unlike the other frames"),
        (["1.jpg", "01.jpg"], r"frames .*1\.jpg and .*1\.jpg have the same number"),
    ],
)
def test_a_bad_folder(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list_frames(folder_of(tmp_path, *names))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="img: no such folder"):
        list_frames(tmp_path / "img")


def test_gaps() -> None:
    assert first_gap(["a1.jpg", "a2.jpg", "a3.jpg"]) == first_gap(["a.jpg", "b.jpg"]) == ""
    assert first_gap(["1.jpg", "2.jpg", "4.jpg", "9.jpg"]) == " (no frame between 2.jpg and 4.jpg)"


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); check the disk"):
        list_frames(tmp_path)
