"""Own videos: one folder of frames or several, full ground truth or first boxes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from alpharefine.data.text import read_rows
from alpharefine.synthetic.benchmarks import write_videos
from tests.evaluation.datasets.checks import SIZE, expect_error, frame_names, loaded, opened

FIRST_BOX = (5.0, 6.0, 20.0, 30.0)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    write_videos(tmp_path / "data", num_sequences=2, num_frames=12, frame_size=SIZE)
    return tmp_path / "data"


def test_a_folder_of_sequences(videos: Path) -> None:
    dataset = opened("folder", videos)
    assert dataset.names == ["ellipse-1", "polygon-2"]
    assert (dataset.scoring, dataset.default_protocol) == ("one_pass", "lasot")
    sequence = loaded(dataset, "polygon-2")
    assert frame_names(sequence) == [f"{i}.jpg" for i in range(1, 13)]
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, read_rows(videos / "polygon-2" / "groundtruth.txt"))


def test_one_sequence(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opened("folder", videos / "ellipse-1")
    assert dataset.names == ["ellipse-1"]
    assert len(loaded(dataset, "ellipse-1")) == 12
    monkeypatch.chdir(videos / "ellipse-1")
    assert opened("folder", Path()).names == ["ellipse-1"]


def test_a_folder_of_video_files(tmp_path: Path) -> None:
    (tmp_path / "clip.MP4").write_bytes(b"video")
    expect_error(lambda: opened("folder", tmp_path), r"has no folders; extract the frames of clip\.MP4 into one")


def test_frames_in_a_folder_below(videos: Path) -> None:
    frames = videos / "ellipse-1" / "img"
    frames.mkdir()
    for path in (videos / "ellipse-1").glob("*.jpg"):
        path.rename(frames / path.name)
    for root in (videos, videos / "ellipse-1"):
        assert len(loaded(opened("folder", root, sequences=("ellipse-1",)), "ellipse-1")) == 12


def test_first_boxes_in_files(tmp_path: Path) -> None:
    write_videos(tmp_path / "data", num_frames=12, only_first=True, frame_size=SIZE)
    dataset = opened("folder", tmp_path / "data")
    assert dataset.scoring == "none"
    sequence = loaded(dataset, "ellipse-1")
    assert len(sequence) == 12
    np.testing.assert_array_equal(
        sequence.truth.boxes_xywh[:1], read_rows(tmp_path / "data" / "ellipse-1" / "groundtruth.txt")
    )
    assert np.isnan(sequence.truth.boxes_xywh[1:]).all()


@pytest.mark.parametrize("below", [".", "ellipse-1"])
def test_a_first_box_as_option(videos: Path, below: str) -> None:
    (videos / "ellipse-1" / "groundtruth.txt").unlink()
    dataset = opened("folder", videos / below, sequences=("ellipse-1",), first_box=FIRST_BOX)
    assert dataset.scoring == "none"
    assert loaded(dataset, "ellipse-1").truth.boxes_xywh[0].tolist() == list(FIRST_BOX)


def test_frames_without_target(videos: Path) -> None:
    (videos / "ellipse-1" / "groundtruth.txt").write_text("5,5,9,9\n" * 10 + "0,0,0,0\nnan,nan,nan,nan\n")
    sequence = opened("folder", videos).load("ellipse-1")
    assert sequence.truth.absent.tolist() == [False] * 10 + [True] * 2


def test_other_files_do_not_matter(videos: Path) -> None:
    for name in (".hidden", "@eaDir", "__MACOSX"):
        (videos / name).mkdir()
    (videos / "notes.txt").touch()
    (videos / "ellipse-1" / "._1.jpg").touch()
    dataset = opened("folder", videos)
    assert dataset.names == ["ellipse-1", "polygon-2"]
    assert len(dataset.load("ellipse-1")) == 12


def test_bad_first_boxes(videos: Path) -> None:
    expect_error(lambda: opened("folder", videos, first_box=FIRST_BOX), "is the box of one sequence, .* holds 2")
    expect_error(
        lambda: opened("folder", videos / "ellipse-1", first_box=FIRST_BOX), r"and .*groundtruth\.txt are both given"
    )
    (videos / "ellipse-1" / "groundtruth.txt").unlink()
    expect_error(
        lambda: opened("folder", videos / "ellipse-1", first_box=(5, 6, 0, 30)).load("ellipse-1"),
        "first frame has no target",
    )


def test_bad_input(videos: Path) -> None:
    path = videos / "ellipse-1" / "groundtruth.txt"
    path.write_text("5,5,9,9\n" * 13)
    expect_error(lambda: opened("folder", videos).load("ellipse-1"), "found 13 rows and 12 frames")
    path.unlink()
    expect_error(
        lambda: opened("folder", videos).load("ellipse-1"), "Sequence ellipse-1 has no .*groundtruth.txt: write"
    )


@pytest.mark.parametrize("text", ["5,5,9,9\n", "", "x,y\n", None], ids=["one row", "empty", "no numbers", "no file"])
def test_one_sequence_does_not_decide_on_the_scores_of_the_others(videos: Path, text: str | None) -> None:
    path = videos / "ellipse-1" / "groundtruth.txt"
    path.unlink()
    if text is not None:
        path.write_text(text)
    dataset = opened("folder", videos)
    assert dataset.scoring == "one_pass"
    assert len(dataset.load("polygon-2")) == 12


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    expect_error(
        lambda: opened("folder", tmp_path / "clip.mp4"),
        r"clip\.mp4 is not a folder; extract the frames of the video, and give their folder",
    )


def test_a_shorter_annotation_ends_the_sequence(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (videos / "ellipse-1" / "groundtruth.txt").write_text("5,5,9,9\n" * 9)
    sequence = opened("folder", videos).load("ellipse-1")
    assert sequence.frame_paths is not None
    assert len(sequence) == len(sequence.frame_paths) == 9
    assert caplog.messages == [f"Sequence ellipse-1: {sequence.note}."]
    assert sequence.note.endswith("groundtruth.txt has 9 rows for 12 frames, so the sequence ends at frame 9")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0.1,0.2,0.3,0.4", "values are all between 0 and 1 .the first box is 0.1,0.2,0.3,0.4., so they are probably"),
        ("0.1,0.2,1,1", "values are all between 0 and 1"),
        ("120,80,0.5,0.25", "the first box must be x,y,w,h in pixels with sides of at least 1, got 120,80,0.5,0.25"),
    ],
)
def test_boxes_that_are_not_in_pixels(videos: Path, row: str, message: str) -> None:
    path = videos / "ellipse-1" / "groundtruth.txt"
    path.write_text(f"{row}\n" * 12)
    expect_error(lambda: opened("folder", videos).load("ellipse-1"), message)
    path.unlink()
    box = tuple(map(float, row.split(",")))
    expect_error(lambda: opened("folder", videos / "ellipse-1", first_box=box).load("ellipse-1"), message)


def test_the_root_one_level_too_high(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    above = videos.parent
    assert opened("folder", above).names == ["ellipse-1", "polygon-2"]
    assert f"using {videos}, the only folder in {above} with the layout" in caplog.text


def test_rows_as_labeling_tools_write_them(videos: Path) -> None:
    (videos / "ellipse-1" / "groundtruth.txt").write_text("[5, 5, 9, 9]\n" * 11 + "5,5,14,5,14,14,5,14,\n\n")
    np.testing.assert_array_equal(opened("folder", videos).load("ellipse-1").truth.boxes_xywh, [[5, 5, 9, 9]] * 12)


def test_a_sequence_with_the_name_of_a_system_folder_is_named(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (videos / "ellipse-1").rename(videos / "$x")
    (videos / "@eaDir" / "clip").mkdir(parents=True)
    shutil.copytree(videos / "$x", videos / ".hidden")
    assert opened("folder", videos).names == ["polygon-2"]
    assert caplog.messages == [
        f"{videos / '$x'} is not evaluated: names that start with $ are those of system folders; rename it."
    ]
