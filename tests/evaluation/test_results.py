"""Files of a run: written whole, continued, refused, overwritten."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.results import (
    RunFolder,
    median_times,
    read_result,
    read_run_settings,
    run_folders,
    write_whole,
)
from alpharefine.evaluation.run import SequenceResult
from alpharefine.evaluation.settings import RunSettings
from tests.evaluation.settings import run_settings

SETTINGS = run_settings("oracle", data_root=Path("data"))
RESULT = SequenceResult(
    np.array([[1.5, 2, 3, 4], [0.1 + 0.2, 1e-17, np.nan, 1e9]]),
    np.array([[1.0, 2, 3], [4, 5, 6]]),
    counts={"frames": 1, "invalid_box": 1},
)
FILES_OF_TWO = [
    *("a-1.txt", "a-2.txt", "counts/a-1.json", "counts/a-2.json", "settings.json", "times/a-1.txt", "times/a-2.txt")
]


def files_in(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return sorted(str(path.relative_to(folder)) for path in files)


def test_boxes_and_times_come_back_as_they_were(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out" / "base", SETTINGS)
    assert not folder.is_done("a-1")
    folder.write("a-1", RESULT)
    assert folder.is_done("a-1")
    assert not folder.is_done("a-2")
    np.testing.assert_array_equal(read_rows(folder.boxes_path("a-1")), RESULT.boxes_xywh)
    stored = read_result(folder.path, "a-1", RESULT.boxes_xywh)
    np.testing.assert_array_equal(stored.boxes_xywh, RESULT.boxes_xywh)
    np.testing.assert_array_equal(stored.times_ms, RESULT.times_ms)
    assert stored.counts == RESULT.counts
    assert files_in(folder.path) == ["a-1.txt", "counts/a-1.json", "settings.json", "times/a-1.txt"]
    settings = json.loads((folder.path / "settings.json").read_text())
    assert (settings["version"], settings["stamp"]["tracker"]) == (1, "oracle")
    assert settings["stamp"]["data_root"] == settings["settings"]["dataset"]["root"] == str(Path("data").resolve())
    assert set(settings["created"]) == {"alpharefine", "date"}
    assert read_run_settings(folder.path) == {**settings["settings"], "created": settings["created"]}


def test_masks_of_a_refused_result_are_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", SETTINGS)
    folder.write("a-1", RESULT)
    other = RunFolder(tmp_path / "run", SETTINGS, overwrite=True)
    other.write("a-1", RESULT)
    (tmp_path / ".masks-0").mkdir()
    with pytest.raises(UserError, match="was overwritten by another command"):
        folder.write("a-2", replace(RESULT, mask_folder=tmp_path / ".masks-0"))
    assert not (tmp_path / ".masks-0").exists()


def test_files_have_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_whole(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_nothing_is_made_before_there_is_a_result(tmp_path: Path) -> None:
    RunFolder(tmp_path / "out" / "base", SETTINGS)
    assert not list(tmp_path.iterdir())


def test_two_commands_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    one, other, third = (
        RunFolder(tmp_path / "base", settings) for settings in (SETTINGS, SETTINGS, run_settings("mil"))
    )
    one.write("a-1", RESULT)
    other.write("a-2", RESULT)
    with pytest.raises(UserError, match="holds a run with other settings"):
        third.write("a-3", RESULT)
    assert files_in(tmp_path / "base") == FILES_OF_TWO


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    RunFolder(tmp_path / "base", SETTINGS).write("a-1", RESULT)
    folder = RunFolder(tmp_path / "base", SETTINGS)
    assert folder.is_done("a-1")
    folder.write("a-2", RESULT)
    assert files_in(tmp_path / "base") == FILES_OF_TWO


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (run_settings("oracle-size", data_root=Path("data")), "tracker"),
        (run_settings("oracle", data_root=Path("elsewhere")), "data_root"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, settings: RunSettings, name: str) -> None:
    RunFolder(tmp_path / "base", SETTINGS).write("a-1", RESULT)
    with pytest.raises(UserError, match=rf"other settings \({name}: .* there, .* now\).*`--overwrite`"):
        RunFolder(tmp_path / "base", settings)
    assert RunFolder(tmp_path / "base", SETTINGS).is_done("a-1")


@pytest.mark.parametrize("change", [{"feedback": False}, {"min_score": 0.3}, {"flip_test": True}], ids=str)
def test_another_refinement_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    ckpt = tmp_path / "last.ckpt"
    ckpt.write_text("one")
    RunFolder(tmp_path / "refined", run_settings(ckpt=str(ckpt))).write("a-1", RESULT)
    ((name, value),) = change.items()
    with pytest.raises(UserError, match=rf"other settings \({name}: .* there, {value} now\)"):
        RunFolder(tmp_path / "refined", run_settings(ckpt=str(ckpt), **change))


def test_other_content_of_the_same_file_is_refused(tmp_path: Path) -> None:
    ckpt = tmp_path / "last.ckpt"
    ckpt.write_text("one")
    settings = run_settings(ckpt=str(ckpt))
    RunFolder(tmp_path / "refined", settings).write("a-1", RESULT)
    assert RunFolder(tmp_path / "refined", settings).is_done("a-1")
    ckpt.write_text("two")
    with pytest.raises(UserError, match=r"other settings \(ckpt: "):
        RunFolder(tmp_path / "refined", settings)


def test_another_spelling_of_the_same_file_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "last.ckpt").write_text("one")
    RunFolder(tmp_path / "refined", run_settings(ckpt=str(tmp_path / "last.ckpt"))).write("a-1", RESULT)
    monkeypatch.chdir(tmp_path)
    assert RunFolder(tmp_path / "refined", run_settings(ckpt="last.ckpt")).is_done("a-1")


def test_other_published_boxes_are_refused(tmp_path: Path) -> None:
    settings = run_settings("replay")
    RunFolder(tmp_path / "base", settings, results_digest="one").write("a-1", RESULT)
    assert RunFolder(tmp_path / "base", settings, results_digest="one").is_done("a-1")
    with pytest.raises(UserError, match=r"other settings \(results: "):
        RunFolder(tmp_path / "base", settings, results_digest="other")


def test_a_run_that_was_overwritten_is_not_continued(tmp_path: Path) -> None:
    one = RunFolder(tmp_path / "base", SETTINGS)
    one.write("a-1", RESULT)
    RunFolder(tmp_path / "base", SETTINGS, overwrite=True).write("a-2", RESULT)
    with pytest.raises(UserError, match="was overwritten by another command"):
        one.write("a-3", RESULT)
    assert files_in(tmp_path / "base") == ["a-2.txt", "counts/a-2.json", "settings.json", "times/a-2.txt"]


def test_commands_that_start_at_the_same_moment_keep_each_others_boxes(tmp_path: Path) -> None:
    num_commands = 8
    barrier = threading.Barrier(num_commands)

    def start(i: int) -> None:
        barrier.wait()
        RunFolder(tmp_path / "base", SETTINGS).write(f"a-{i}", RESULT)

    with ThreadPoolExecutor(num_commands) as pool:
        list(pool.map(start, range(num_commands)))
    assert {f"a-{i}.txt" for i in range(num_commands)} <= set(files_in(tmp_path / "base"))


def test_changed_code_of_a_tracker_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "my_tracker_module.py"
    code.write_text("class Mine:\n    def initialize(self): ...\n    track = set_box = initialize\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = run_settings("my_tracker_module:Mine")
    RunFolder(tmp_path / "base", settings).write("a-1", RESULT)
    assert RunFolder(tmp_path / "base", settings).is_done("a-1")
    code.write_text(code.read_text() + "# changed\n")
    with pytest.raises(UserError, match=r"other settings \(tracker_code: "):
        RunFolder(tmp_path / "base", settings)


def test_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "model.onnx" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_text(str(path))
    settings = run_settings(weights=paths)
    RunFolder(tmp_path / "base", settings).write("a-1", RESULT)
    paths[0].write_text("another")
    with pytest.raises(UserError, match="other settings"):
        RunFolder(tmp_path / "base", settings)


def test_a_file_of_the_settings_that_is_not_there(tmp_path: Path) -> None:
    for settings in (run_settings(ckpt="absent.ckpt"), run_settings(weights=["absent.onnx"])):
        with pytest.raises(UserError, match=r"No file absent\..*; check `--ckpt` and `--tracker_weights`"):
            RunFolder(tmp_path / "base", settings)


def test_overwriting_discards_everything_with_the_first_result(tmp_path: Path) -> None:
    old = RunFolder(tmp_path / "base", SETTINGS)
    old.write("a-1", RESULT)
    old.write("a-2", RESULT)
    new = RunFolder(tmp_path / "base", run_settings("mil"), overwrite=True)
    assert not new.is_done("a-1")
    assert RunFolder(tmp_path / "base", SETTINGS).is_done("a-1"), "nothing is lost yet"
    new.write("a-2", RESULT)
    assert (new.is_done("a-1"), new.is_done("a-2")) == (False, True)
    assert files_in(tmp_path / "base") == ["a-2.txt", "counts/a-2.json", "settings.json", "times/a-2.txt"]
    with pytest.raises(UserError, match="tracker: mil there, oracle now"):
        RunFolder(tmp_path / "base", SETTINGS)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [("thesis.tex", "x"), ("settings.json", "[1]"), ("settings.json", "{"), ("settings.json", '{"theme": "dark"}')],
)
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, overwrite: bool, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="is not empty and holds no run"):
        RunFolder(tmp_path, SETTINGS, overwrite)
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("below", ["file", "file/base", "file/far/below"])
def test_a_file_where_the_folder_should_be(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"`--output_dir`: .*file is not a writable folder"):
        RunFolder(tmp_path / below, SETTINGS)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"a\.txt cannot be written \(No space left on device\)"):
        write_whole(path, "new text")
    assert files_in(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


# ---- damaged files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        pytest.param("a-1.txt", "1,2,3,4\n", "has 1 rows, the sequence has 2 frames", id="short"),
        pytest.param("a-1.txt", "1,2,3\n1,2,3\n", "a-1.txt, row 1", id="three numbers"),
        pytest.param("a-1.txt", None, "no such file", id="no boxes"),
        pytest.param("times/a-1.txt", None, "no such file", id="no times"),
        pytest.param("times/a-1.txt", "1,2,3\n", "has 1 rows", id="short times"),
        pytest.param("times/a-1.txt", "1,2,3\nnan,2,3\n", "must hold milliseconds", id="times not finite"),
        pytest.param("times/a-1.txt", "1,2,3\n-1,2,3\n", "must hold milliseconds", id="negative times"),
        pytest.param("times/a-1.txt", "1,2,3\n1e308,2,3\n", "must hold milliseconds", id="endless times"),
        pytest.param("times/a-1.txt", "\x00\x01", "times/a-1.txt", id="times that are no text"),
        pytest.param("counts/a-1.json", "[1]", "must hold numbers of frames", id="counts in a list"),
        pytest.param("counts/a-1.json", "{", "must hold numbers of frames", id="half of the counts"),
        pytest.param("counts/a-1.json", '{"frames": "many"}', "must hold numbers of frames", id="counts in words"),
        pytest.param("counts/a-1.json", "[" * 100_000, "must hold numbers of frames", id="nested counts"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    folder = RunFolder(tmp_path / "base", SETTINGS)
    folder.write("a-1", RESULT)
    if content is None:
        (folder.path / file).unlink()
    else:
        (folder.path / file).write_text(content)
    with pytest.raises(UserError, match=message):
        read_result(folder.path, "a-1", RESULT.boxes_xywh)


def test_a_file_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "base", SETTINGS)
    folder.write("a-1", RESULT)
    for file in ("a-1.txt", "times/a-1.txt", "counts/a-1.json"):
        whole = (folder.path / file).read_bytes()
        with (folder.path / file).open("r+b") as opened:
            opened.truncate(1 << 40)
        with pytest.raises(UserError, match=rf"{file} is larger than 64 MiB"):
            read_result(folder.path, "a-1", RESULT.boxes_xywh)
        (folder.path / file).write_bytes(whole)


def test_boxes_from_elsewhere_have_no_counts(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "base", SETTINGS)
    folder.write("a-1", RESULT)
    (folder.path / "counts" / "a-1.json").unlink()
    assert read_result(folder.path, "a-1", RESULT.boxes_xywh).counts == {}


def test_a_long_name_is_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "base", SETTINGS)
    folder.write("a" * 240, RESULT)
    assert folder.is_done("a" * 240)


def test_the_median_leaves_out_first_frames() -> None:
    times = [np.array([[900.0, 0, 0], [1, 2, 3]]), np.array([[900.0, 0, 0], [3, 2, 1]])]
    assert median_times(times) == {"decode": 2.0, "base": 2.0, "refine": 2.0}
    assert median_times([]) == {"decode": 0.0, "base": 0.0, "refine": 0.0}


@pytest.mark.parametrize(
    "content",
    ['{"version": 1, "id": 3, "stamp": {}, "settings": {}}', '{"version": 1, "id": "a", "stamp": [], "settings": {}}'],
)
def test_tampered_settings_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(UserError, match="is not empty and holds no run"):
        RunFolder(tmp_path, SETTINGS)


def test_a_folder_without_a_known_run_is_no_tracker(tmp_path: Path) -> None:
    RunFolder(tmp_path / "mil" / "base", SETTINGS).write("a-1", RESULT)
    (tmp_path / "notes" / "other").mkdir(parents=True)
    (tmp_path / "notes" / "other" / "settings.json").write_text("{}")
    assert run_folders(tmp_path) == {"mil": {"base": tmp_path / "mil" / "base"}}
