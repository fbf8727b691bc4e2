"""`alpharefine track`: what it writes, whether its boxes are those of an evaluation, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine.cli import track
from alpharefine.cli.command import INTERRUPTED_CODE, USER_ERROR_CODE, run_command
from alpharefine.data.images import read_image
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.synthetic.benchmarks import write_videos
from alpharefine.trackers import Track
from alpharefine.video import window
from alpharefine.video.drawing import BASE, MASK_COLOR, REFINED
from alpharefine.video.frames import TimedFrame, open_source
from alpharefine.video.writer import VideoWriter
from tests.cli.results import SURE, Sure
from tests.cli.results import run as evaluate

NUM_FRAMES = 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of frames with their ground truth; not to be changed."""
    root = tmp_path_factory.mktemp("videos") / "clips"
    write_videos(root, num_sequences=1, num_frames=NUM_FRAMES, frame_size=(96, 128))
    return root / "ellipse-1"


@pytest.fixture(scope="module")
def box(clip: Path) -> str:
    return (clip / "groundtruth.txt").read_text().splitlines()[0]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> None:
    track.main([str(argument) for argument in arguments])


def frames_of(path: Path) -> list[TimedFrame]:
    return list(open_source(str(path)).frames())


def has_color(frame: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(frame.astype(int) - color).max(-1) < 60).sum() > 5)


@pytest.mark.parametrize("tracker", ["mil", "self", SURE])
def test_the_boxes_are_those_of_an_evaluation(clip: Path, work: Path, checkpoint: Path, tracker: str) -> None:
    run(clip, "--tracker", tracker, "--ckpt", checkpoint)
    evaluate("--tracker", tracker, "--dataset", "folder", "--data_root", clip, "--ckpt", checkpoint,
             "--output_dir", work / "results")  # fmt: skip
    (expected,) = (work / "results").glob("*/refined/ellipse-1.txt")
    np.testing.assert_allclose(read_rows(work / "ellipse-1_refined.txt"), read_rows(expected), atol=1e-9)
    base = read_rows(work / "ellipse-1_refined_base.txt")
    assert base.shape == (NUM_FRAMES, 4)
    np.testing.assert_array_equal(base[0], read_rows(clip / "groundtruth.txt")[0])
    frames = frames_of(work / "ellipse-1_refined.mp4")
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(NUM_FRAMES) / 30, atol=1e-4)
    assert sorted(path.name for path in work.iterdir() if path.is_file()) == [
        "ellipse-1_refined.mp4",
        "ellipse-1_refined.txt",
        "ellipse-1_refined_base.txt",
    ]


def test_what_is_drawn(clip: Path, work: Path, box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[np.ndarray] = []
    monkeypatch.setattr(VideoWriter, "write", lambda _, pixels, __: written.append(pixels))
    run(clip, "--box", box, "--tracker", SURE, "--no-feedback")
    for index, picture in enumerate(written):
        plain = read_image(clip / f"{index + 1}.jpg")
        assert (picture != plain).any()
        assert (picture[60:, :20] == plain[60:, :20]).all(), "the rest of the frame is as it was"
        body = picture[40:]  # without the legend
        assert has_color(body, BASE.color)
        assert has_color(body, REFINED.color) == (index > 0)
    masked = [np.abs(picture[40:].astype(int) - MASK_COLOR).max(-1).min() < 60 for picture in written]
    assert any(masked[1:])
    written.clear()
    run(clip, "--box", box, "--tracker", SURE, "--no-mask", "--output", "plain.mp4")
    assert not any(np.abs(picture[40:].astype(int) - MASK_COLOR).max(-1).min() < 60 for picture in written[1:])


def test_a_video_file_with_varying_times(clip: Path, work: Path, box: str, checkpoint: Path) -> None:
    times = [0.0, 0.1, 0.15, 0.5, 0.6, 2.0]
    with VideoWriter(work / "in.webm") as writer:
        for time_s, frame in zip(times, open_source(str(clip)).frames(), strict=True):
            writer.write(frame.pixels, time_s)
    (work / "box.txt").write_text(f"{box}\n1,2,3,4\n")
    run("in.webm", "--box", "box.txt", "--ckpt", checkpoint, "--output", "out.mp4", "--max_frames", 5)
    assert len(read_rows(work / "out.txt")) == len(read_rows(work / "out_base.txt")) == 5
    np.testing.assert_allclose([frame.time_s for frame in frames_of(work / "out.mp4")], times[:5], atol=2e-3)


class Interrupted(Sure):
    """Ends the program in its third frame."""

    error: BaseException = KeyboardInterrupt()

    def track(self, frame: np.ndarray) -> Track:
        frame[:] = 0
        if self.index == 2:
            raise self.error
        return super().track(frame)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), INTERRUPTED_CODE, "interrupted"),
        (ValueError("no idea"), USER_ERROR_CODE, r"error: ellipse-1, frame 4: ValueError: no idea \(.*test_track\.py"),
        (SystemExit(3), USER_ERROR_CODE, "error: ellipse-1, frame 4: SystemExit: 3"),
    ],
    ids=repr,
)
def test_what_was_done_before_an_error_is_kept(
    clip: Path,
    work: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(Interrupted, "error", error)
    assert run_command(lambda: run(clip, "--tracker", f"{__name__}:Interrupted", "--ckpt", checkpoint)) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith(message.partition(" \\(")[0])
    frames = frames_of(work / "ellipse-1_refined.mp4")
    assert len(frames) == len(read_rows(work / "ellipse-1_refined.txt")) == 3
    assert frames[2].pixels.mean() > 20, "what the tracker paints is not in the video"


class Unwilling(Sure):
    """Fails in its first frame, after it has painted it."""

    def initialize(self, frame: np.ndarray, _box_xywh: np.ndarray) -> None:
        frame[:] = 0
        raise cv2.error("no target")


def test_an_error_in_the_first_frame_leaves_nothing(clip: Path, work: Path, checkpoint: Path) -> None:
    with pytest.raises(UserError, match="ellipse-1, frame 1: error: no target"):
        run(clip, "--tracker", f"{__name__}:Unwilling", "--ckpt", checkpoint)
    assert not list(work.iterdir())


def test_files_that_exist_are_replaced_only_on_request(clip: Path, work: Path, checkpoint: Path) -> None:
    (work / "out_base.txt").write_text("mine")
    arguments = (clip, "--ckpt", checkpoint, "--output", "out.mp4", "--max_frames", 2)
    with pytest.raises(UserError, match=r"out_base\.txt exists; give another `--output`, or `--overwrite`"):
        run(*arguments)
    assert (work / "out_base.txt").read_text() == "mine"
    run(*arguments, "--overwrite")
    assert len(read_rows(work / "out_base.txt")) == 2


def test_a_box_drawn_with_the_mouse(
    clip: Path, work: Path, box: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[np.ndarray] = []
    drawn = [int(float(value)) for value in box.split(",")]
    monkeypatch.setattr(window, "require_screen", lambda _: None)
    monkeypatch.setattr(cv2, "selectROI", lambda _, frame: shown.append(frame) or drawn)
    monkeypatch.setattr(cv2, "destroyWindow", lambda _: None)
    pattern = clip / "*.jpg"
    run(pattern, "--ckpt", checkpoint, "--max_frames", 2, "--output", "out.mp4")
    np.testing.assert_array_equal(shown[0][..., ::-1], read_image(clip / "1.jpg"))
    assert read_rows(work / "out.txt")[0].tolist() == drawn
    drawn[2:] = [0, 0]
    with pytest.raises(UserError, match="No box was drawn"):
        run(pattern, "--ckpt", checkpoint, "--output", "none.mp4")
    assert not list(work.glob("*none*"))


def test_the_live_view_ends_with_a_key(
    clip: Path, work: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [255, 255, ord("q")]
    monkeypatch.setattr("alpharefine.video.window.require_screen", lambda _: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, __: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: keys.pop(0))
    run(clip, "--ckpt", checkpoint, "--show")
    assert len(read_rows(work / "ellipse-1_refined.txt")) == len(frames_of(work / "ellipse-1_refined.mp4")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.mp4",), "INPUT: no file or folder absent.mp4"),
        (("CLIP", "--tracker", "oracle"), "--tracker oracle runs only in an evaluation"),
        (("CLIP", "--tracker", "oracle:mil"), "--tracker oracle:mil runs only in an evaluation"),
        (("CLIP", "--tracker", "replay"), "--tracker replay needs --results_dir"),
        (("CLIP", "--tracker", "nano"), "--tracker nano needs 2 weight files, got 0"),
        (("CLIP", "--tracker", "csrt", "--feedback"), "`--feedback`: csrt does not accept"),
        (("CLIP", "--ckpt", "absent.ckpt"), "absent.ckpt"),
        (("CLIP", "--output", "out.gif"), r"`--output` must end in \.mp4"),
        (("CLIP", "--output", "absent/out.mp4"), "`--output`: there is no folder absent"),
        (("CLIP", "--fps", "0"), "`--fps` must be a positive number, got 0.0"),
        (("CLIP", "--fps", "nan"), "`--fps` must be a positive number, got nan"),
        (("CLIP", "--max_frames", "-1"), "`--max_frames` must be a positive number, got -1"),
        (("VIDEO", "--fps", "10"), "`--fps` applies to images"),
        (("VIDEO", "--tracker", "cmd:true"), r"--tracker cmd:true reads image files, and in\.mp4 has none"),
        (("VIDEO",), "give the box of the first frame by `--box x,y,w,h`"),
        (("CLIP", "--show"), "leave `--show` out"),
        (("CLIP", "--box", "1,2,3"), r"`--box 1,2,3`.* 4 numbers"),
        (("CLIP", "--box", "1,2,30,nan"), "the first box must be finite"),
        (("CLIP", "--box", "0.1,0.2,0.3,0.4"), "the first box must be finite x,y,w,h in pixels with sides of at least"),
        (("CLIP", "--box", "500,2,30,40"), "`--box`: the first box 500,2,30,40 lies outside the first frame"),
        (("CLIP", "--box", "60,50,100,90"), "`--box` must be x,y,w,h in pixels, but its boxes leave .* x1,y1,x2,y2"),
        (("CLIP", "--box", "empty.txt"), r"empty\.txt must hold one box"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_arguments(
    clip: Path, work: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    (work / "empty.txt").touch()
    with VideoWriter(work / "in.mp4") as writer:
        writer.write(read_image(clip / "1.jpg"), 0)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    places = {"CLIP": clip, "VIDEO": "in.mp4"}
    with pytest.raises(UserError, match=message):
        run(*(places.get(argument, argument) for argument in arguments))
    assert sorted(path.name for path in work.iterdir()) == ["empty.txt", "in.mp4"]
