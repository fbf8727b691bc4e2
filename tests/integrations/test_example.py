"""`examples/refine_detections.py`: with its own video, with boxes of the user, and with bad input."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.synthetic import SyntheticCrowd, generate_crowd
from alpharefine.video.frames import open_source

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "refine_detections.py"


@pytest.fixture
def example() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT), run_name="example")


@pytest.fixture
def small(example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the generated video small."""

    def crowd(seed: int, num_objects: int, num_frames: int, frame_size: tuple[int, int]) -> SyntheticCrowd:
        assert (num_objects, num_frames, frame_size) == (5, 90, (480, 640))
        return generate_crowd(seed, 2, 4, (120, 160))

    monkeypatch.setitem(example["main"].__globals__, "generate_crowd", crowd)


@pytest.mark.usefixtures("small")
def test_the_generated_video_then_the_same_as_the_users(
    example: dict[str, Any], tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "refined.mp4"
    example["main"](["--output", str(output), "--ckpt", str(checkpoint)])
    assert f"{output}: 6 of 8 boxes in 4 frames refined" in capsys.readouterr().out, "no ids in the first frame"
    assert np.loadtxt(tmp_path / "crowd.txt", delimiter=",").shape == (8, 7)
    drawn = [frame.pixels for frame in open_source(str(output)).frames()]
    plain = [frame.pixels for frame in open_source(str(tmp_path / "crowd.mp4")).frames()]
    assert len(drawn) == len(plain) == 4
    assert np.abs(drawn[3].astype(int) - plain[3]).max() > 100

    boxes = tmp_path / "tracks.txt"  # a tracker's file, with ids, and without boxes in the last frames
    boxes.write_text("1,3,20,20,40,30,0.9\n2,3,22,20,40,30,0.9\n")
    again = tmp_path / "again.mp4"
    words = [str(tmp_path / "crowd.mp4"), "--boxes", str(boxes), "--output", str(again), "--ckpt", str(checkpoint)]
    example["main"](words)
    assert f"{again}: 2 of 2 boxes in 4 frames refined" in capsys.readouterr().out

    with pytest.raises(UserError, match=r"`--output`: .*again\.mp4 exists, and is not overwritten"):
        example["main"](words)
    boxes.write_text("5,3,20,20,40,30,0.9\n")
    with pytest.raises(UserError, match=r"has frame 5, the video has 4 frames"):
        example["main"]([*words[:-3], str(tmp_path / "third.mp4"), *words[-2:]])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clip.mp4"], "A video needs `--boxes`"),
        (["--boxes", "det.txt"], "and `--boxes` a video"),
        (["clip.mp4", "--boxes", "det.txt"], r"`--boxes det.txt`: .*not found"),
        (["clip.mp4", "--boxes", "short.txt"], r"`--boxes short.txt`: .*at least 6 columns"),
        (["clip.mp4", "--boxes", "zero.txt"], r"`--boxes zero.txt`: frame 0; the frames are counted from 1"),
    ],
)
def test_bad_input(
    example: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("1,2,3\n")
    (tmp_path / "zero.txt").write_text("0,3,20,20,40,30,0.9\n")
    with pytest.raises(UserError, match=message):
        example["main"](words)
    assert {path.name for path in tmp_path.iterdir()} == {"short.txt", "zero.txt"}
