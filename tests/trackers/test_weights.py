"""Where published files are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import TRACKER_NAMES
from alpharefine.trackers.weights import OFFICIAL_FILES, WEIGHTS_VARIABLE, resolve_weights

TRACKER = "siamrpnpp"
OFFICIAL = "siamrpn_r50_l234_dwxcorr/model.pth"


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of weights with one file."""
    (tmp_path / OFFICIAL).parent.mkdir()
    (tmp_path / OFFICIAL).touch()
    return tmp_path


def test_every_official_file_is_of_a_tracker() -> None:
    assert set(OFFICIAL_FILES) <= set(TRACKER_NAMES)
    assert OFFICIAL_FILES[TRACKER] == OFFICIAL


def test_a_file_or_its_folder_is_given(folder: Path) -> None:
    assert resolve_weights(TRACKER, [folder]) == (folder / OFFICIAL,)
    other = folder / "other.pth"
    other.touch()
    assert resolve_weights(TRACKER, [other]) == (other,)


def test_the_variable_names_a_folder_and_gives_way_to_the_argument(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(folder))
    assert resolve_weights(TRACKER, []) == (folder / OFFICIAL,)
    other = tmp_path / "other.pth"
    other.touch()
    assert resolve_weights(TRACKER, [other]) == (other,)


def test_trackers_without_an_official_file_keep_what_is_given() -> None:
    assert resolve_weights("nano", [Path("a.onnx"), Path("b.onnx")]) == (Path("a.onnx"), Path("b.onnx"))
    assert resolve_weights("mil", []) == ()


def test_nothing_given_is_refused() -> None:
    with pytest.raises(UserError, match=rf"needs its authors' file {OFFICIAL}; .* or set {WEIGHTS_VARIABLE}"):
        resolve_weights(TRACKER, [])


def test_several_files_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=rf"needs one file, {OFFICIAL}, got 2"):
        resolve_weights(TRACKER, [folder, folder])


@pytest.mark.parametrize("place", ["--tracker_weights", WEIGHTS_VARIABLE])
def test_a_missing_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    given = [tmp_path] if place == "--tracker_weights" else []
    with pytest.raises(UserError, match=f"{place}: no file {tmp_path / OFFICIAL}; --tracker {TRACKER} needs"):
        resolve_weights(TRACKER, given)
