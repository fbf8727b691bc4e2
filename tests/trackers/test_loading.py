"""Checks of a tracker's arguments, and the places of published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alpharefine.errors import UserError
from alpharefine.options import WEIGHTS_VARIABLE
from alpharefine.trackers import TimeLimits, check_arguments, find_tracker, load_tracker

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


def check(name: str, *weights: Path | str, **arguments: Any) -> tuple[Path, ...]:
    return check_arguments(find_tracker(name), weights=[Path(path) for path in weights], **arguments)


# ---- official files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [TRACKER, f"oracle:{TRACKER}"])
def test_an_official_file_or_its_folder_is_given(folder: Path, name: str) -> None:
    assert check(name, folder) == (folder / OFFICIAL,)
    other = folder / "other.pth"
    other.touch()
    assert check(name, other) == (other,)


def test_the_argument_takes_precedence_over_the_variable(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(folder))
    assert check(TRACKER) == (folder / OFFICIAL,)
    other = tmp_path / "other.pth"
    other.touch()
    assert check(TRACKER, other) == (other,)


def test_an_official_file_that_is_not_given_is_refused() -> None:
    with pytest.raises(UserError, match=rf"needs its authors' file {OFFICIAL}; .* or set {WEIGHTS_VARIABLE}"):
        check(TRACKER)


def test_several_official_files_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=rf"needs one file, {OFFICIAL}, got 2"):
        check(TRACKER, folder, folder)


@pytest.mark.parametrize("place", ["--tracker_weights", WEIGHTS_VARIABLE])
def test_a_missing_official_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=f"{place}: no file {tmp_path / OFFICIAL}; --tracker {TRACKER} needs"):
        check(TRACKER, *([tmp_path] if place == "--tracker_weights" else []))


# ---- other files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights"),
    [("nano", ["a.onnx", "b.onnx"]), ("mil", []), ("package.module:Class", ["a", "b", "c"]), ("a:B", [])],
)
def test_files_are_returned_in_their_order(name: str, weights: list[str]) -> None:
    assert check(name, *weights) == tuple(map(Path, weights))


@pytest.mark.parametrize("name", ["mil", "csrt", "oracle", "oracle-size", "cmd:true", "oracle:mil"])
def test_weights_of_trackers_without_any_are_refused(name: str) -> None:
    with pytest.raises(
        UserError, match=f"--tracker {name} takes no weights, got --tracker_weights a,b; leave them out"
    ):
        check(name, "a", "b")


@pytest.mark.parametrize(
    ("name", "needed", "roles"),
    [
        ("nano", "2 weight files", "<backbone>.onnx,<head>.onnx"),
        ("vit", "1 weight file", "<vittrack>.onnx"),
        ("dasiamrpn", "3 weight files", "<model>.onnx,<kernel_cls1>.onnx,<kernel_r1>.onnx"),
    ],
)
@pytest.mark.parametrize("given", [0, 4])
def test_a_wrong_number_of_files_is_refused(name: str, needed: str, roles: str, given: int) -> None:
    with pytest.raises(
        UserError, match=rf"{name} needs {needed}, got {given} .*; give `--tracker_weights {roles}` with"
    ):
        load_tracker(name, weights=[Path("a.onnx")] * given)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.onnx is not a file"):
        load_tracker("vit", weights=[tmp_path / "nowhere.onnx"])


@pytest.mark.parametrize("content", [b"", b"no network" * 20])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.onnx cannot be read as an ONNX network"):
        load_tracker("vit", weights=[path])


# ---- other arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mil", "oracle", "package.module:Class", "cmd:true"])
def test_a_results_folder_is_for_replays_only(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--results_dir is for --tracker replay, got .* with --tracker {name}; leave"):
        check(name, results_dir=tmp_path)


def test_a_replay_needs_a_results_folder(tmp_path: Path) -> None:
    assert check("replay", results_dir=tmp_path) == ()
    with pytest.raises(UserError, match="--tracker replay needs --results_dir"):
        check("replay")


@pytest.mark.parametrize("name", ["mil", "oracle", "package.module:Class"])
def test_time_limits_are_for_programs_only(name: str) -> None:
    assert check("cmd:true", limits=TimeLimits()) == ()
    with pytest.raises(
        UserError, match=f"`--startup_limit` and `--frame_limit` are for --tracker cmd:.* got .* {name};"
    ):
        check(name, limits=TimeLimits())


@pytest.mark.parametrize("name", ["self", "self:2"])
def test_a_tracker_without_its_refiner_is_refused(name: str) -> None:
    assert check(name, has_refiner=True) == ()
    with pytest.raises(UserError, match=f"--tracker {name} needs --ckpt"):
        load_tracker(name)
