"""`alpharefine track`: what it writes, whether its boxes are those of an evaluation, and how it refuses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from alpharefine.cli import track
from alpharefine.cli.command import INTERRUPTED_CODE, USER_ERROR_CODE, run_command
from alpharefine.data.images import read_image
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation import refined_tracker
from alpharefine.inference.backend import CropPredictions
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.synthetic.benchmarks import write_videos
from alpharefine.trackers import Track
from alpharefine.training.task import RefineTask
from alpharefine.video import window
from alpharefine.video.drawing import BASE, GIVEN, MASK_COLOR, REFINED
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
def test_the_boxes_are_those_of_an_evaluation(
    clip: Path, work: Path, checkpoint: Path, tracker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clip, "--tracker", tracker, "--ckpt", checkpoint)
    printed = capsys.readouterr().out
    assert re.match(r"6 frames in \d+\.\d s, \d+\.\d frames a second\n", printed)
    assert printed.endswith(
        "video: ellipse-1_refined.mp4\nrefined boxes: ellipse-1_refined.txt\n"
        "boxes of the tracker: ellipse-1_refined_base.txt\n"
    )
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
        assert has_color(body, BASE.color) == has_color(body, REFINED.color) == (index > 0)
        assert index > 0 or has_color(body, GIVEN.color), "the first box is that of nobody"
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
        (
            ValueError("no idea"),
            USER_ERROR_CODE,
            r"error: ellipse-1, frame 4: ValueError: no idea \(.*test_track\.py, line \d+\)\.",
        ),
        (SystemExit(3), USER_ERROR_CODE, r"error: ellipse-1, frame 4: SystemExit: 3 \(.*test_track\.py, line \d+\)\."),
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
    printed = capsys.readouterr()
    assert re.fullmatch(message, printed.err.splitlines()[-1])
    assert printed.out.startswith("3 frames in ")
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


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the windows of OpenCV: pictures that were shown, keys to press, and whether the window is open."""
    screen = SimpleNamespace(shown=[], keys=[], closes_at=None, is_open=False, drawn=[0, 0, 0, 0])

    def open_window(_title: str, flags: int) -> None:
        assert flags & cv2.WINDOW_NORMAL == cv2.WINDOW_NORMAL
        screen.is_open = True

    def wait_key(_: int) -> int:
        screen.is_open = len(screen.shown) != screen.closes_at
        return screen.keys.pop(0) if screen.keys else 255

    def select(_title: str, frame: np.ndarray) -> list[int]:
        screen.shown.append(frame)
        return list(screen.drawn)

    def close(_title: str) -> None:
        assert screen.is_open, "OpenCV raises an error for a window that is not open"
        screen.is_open = False

    monkeypatch.setattr(window, "require_screen", lambda _: None)
    monkeypatch.setattr(cv2, "namedWindow", open_window)
    monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, frame: screen.shown.append(frame))
    monkeypatch.setattr(cv2, "waitKey", wait_key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: float(screen.is_open))
    monkeypatch.setattr(cv2, "selectROI", select)
    monkeypatch.setattr(cv2, "destroyWindow", close)
    return screen


def test_a_box_drawn_with_the_mouse(
    clip: Path, work: Path, box: str, checkpoint: Path, screen: SimpleNamespace
) -> None:
    screen.drawn = [int(float(value)) for value in box.split(",")]
    pattern = clip / "*.jpg"
    run(pattern, "--ckpt", checkpoint, "--max_frames", 2, "--output", "out.mp4")
    np.testing.assert_array_equal(screen.shown[0][..., ::-1], read_image(clip / "1.jpg"))
    assert read_rows(work / "out.txt")[0].tolist() == screen.drawn
    assert not screen.is_open
    screen.drawn = [5, 5, 0, 0]
    with pytest.raises(UserError, match="No box was drawn"):
        run(pattern, "--ckpt", checkpoint, "--output", "none.mp4")
    assert not list(work.glob("*none*"))


@pytest.mark.parametrize(
    ("keys", "closes_at", "num_frames"),
    [([], None, NUM_FRAMES), ([255, 255, ord("q")], None, 3), ([27], None, 1), ([], 2, 2)],
    ids=["to the end", "a key", "Escape at once", "the button of the window"],
)
def test_the_live_view(
    clip: Path,
    work: Path,
    checkpoint: Path,
    screen: SimpleNamespace,
    keys: list[int],
    closes_at: int | None,
    num_frames: int,
) -> None:
    screen.keys, screen.closes_at = list(keys), closes_at
    run(clip, "--ckpt", checkpoint, "--show")
    written = frames_of(work / "ellipse-1_refined.mp4")
    assert len(read_rows(work / "ellipse-1_refined.txt")) == len(written) == len(screen.shown) == num_frames
    for shown, frame in zip(screen.shown, written, strict=True):  # each frame when it is written, also the last
        assert np.abs(shown[..., ::-1].astype(int) - frame.pixels).mean() < 8
    assert not screen.is_open


def test_a_camera_starts_when_the_network_is_loaded(
    clip: Path, work: Path, box: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    class Camera:
        def __init__(self, _number: int) -> None:
            steps.append("camera")
            self._pictures = [read_image(clip / f"{index}.jpg")[..., ::-1] for index in (1, 1, 1, 1, 1, 2, 3)]

        def read(self) -> tuple[bool, np.ndarray | None]:
            return (True, self._pictures.pop(0)) if self._pictures else (False, None)

        grab = read

        def release(self) -> None:
            steps.append("released")

    load = refined_tracker.load_refiner
    monkeypatch.setattr(refined_tracker, "load_refiner", lambda *given: steps.append("network") or load(*given))
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    run(0, "--box", box, "--ckpt", checkpoint)
    assert steps == ["network", "camera", "released"]
    assert len(read_rows(work / "camera-0_refined.txt")) == 3


@pytest.mark.parametrize("link", ["", "symbolic", "hard"])
def test_an_input_is_never_replaced(clip: Path, work: Path, box: str, checkpoint: Path, link: str) -> None:
    with VideoWriter(work / "in.mp4") as writer:
        for index in range(2):
            writer.write(read_image(clip / f"{index + 1}.jpg"), index / 30)
    content = (work / "in.mp4").read_bytes()
    source = work / ("in.mp4" if not link else "other.mp4")
    if link == "symbolic":
        source.symlink_to(work / "in.mp4")
    elif link == "hard":
        source.hardlink_to(work / "in.mp4")
    with pytest.raises(UserError, match=r"`--output`: .*in\.mp4 is an input, which would be lost; give another name"):
        run(source, "--box", box, "--ckpt", checkpoint, "--output", work / "in.mp4", "--overwrite")
    assert (work / "in.mp4").read_bytes() == content


def test_the_boxes_and_frames_of_an_input_are_never_replaced(
    clip: Path, work: Path, box: str, checkpoint: Path
) -> None:
    folder = shutil.copytree(clip, work / "clip")
    (work / "given.txt").write_text(box)
    (work / "frame.mp4").symlink_to(folder / "2.jpg")
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    for output, given in (
        (folder / "groundtruth.mp4", ()),
        (work / "given.mp4", ("--box", work / "given.txt")),
        (work / "frame.mp4", ()),
    ):
        with pytest.raises(UserError, match="is an input, which would be lost"):
            run(folder, *given, "--ckpt", checkpoint, "--output", output, "--overwrite")
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_a_name_with_a_dot_is_kept(clip: Path, work: Path, checkpoint: Path) -> None:
    shutil.copytree(clip, work / "clip.v2")
    run("clip.v2", "--ckpt", checkpoint, "--max_frames", 2)
    assert (work / "clip.v2_refined.mp4").is_file()


def test_only_the_first_row_of_a_box_file_is_read(clip: Path, work: Path, box: str, checkpoint: Path) -> None:
    (work / "box.txt").write_text(f"\n{box}\nno row\n")
    folder = shutil.copytree(clip, work / "clip")
    (folder / "groundtruth.txt").write_text(f"{box}\n1,2\n")
    for given in (("--box", "box.txt"), ()):
        run(folder, *given, "--ckpt", checkpoint, "--max_frames", 2, "--output", "out.mp4", "--overwrite")
        np.testing.assert_allclose(read_rows(work / "out.txt")[0], [float(value) for value in box.split(",")])


@pytest.mark.parametrize("form", [("--box", "-10,20,40,30"), ("--box=-10,20,40,30",)], ids=str)
def test_a_box_may_leave_the_frame(clip: Path, work: Path, checkpoint: Path, form: tuple[str, ...]) -> None:
    run(clip, *form, "--ckpt", checkpoint, "--max_frames", 2, "--output", "out.mp4")
    assert read_rows(work / "out.txt")[0].tolist() == [-10, 20, 40, 30]


def test_predictions_that_are_not_finite(
    clip: Path, work: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = TorchBackend.predict

    def spoil(self: TorchBackend, *given: Any) -> CropPredictions:
        found = predict(self, *given)
        assert found.crop_xyxy is not None
        return found._replace(crop_xyxy=np.full_like(found.crop_xyxy, np.nan))

    monkeypatch.setattr(TorchBackend, "predict", spoil)
    with pytest.raises(
        UserError, match="mil: no frame was refined, because the predictions of the network are not finite"
    ):
        run(clip, "--ckpt", checkpoint)
    assert "mil, refined: 0 of 5 frames refined; 5 predictions not finite\n" in capsys.readouterr().out


def test_a_network_without_masks_says_so(
    clip: Path, work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.random.fork_rng():
        task = RefineTask(backbone="resnet18", backbone_weights=None, heads=("corner",))
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}, tmp_path / "corner.ckpt")
    run(clip, "--ckpt", "corner.ckpt", "--max_frames", 3)
    assert caplog.text.count("corner.ckpt has no mask head: no mask is drawn.") == 1
    caplog.clear()
    run(clip, "--ckpt", "corner.ckpt", "--max_frames", 2, "--no-mask", "--overwrite")
    assert "no mask" not in caplog.text


def test_bad_arguments_are_told_of_before_torch_is_loaded(clip: Path, work: Path) -> None:
    """In a process of its own, with an import of torch that fails."""
    wrong = ["--box 1,2,3", "--box 500,2,30,40", "--tracker nosuch", "--tracker replay", "--ckpt nosuch",
             "--tracker nano --tracker_weights a.onnx,b.onnx"]  # fmt: skip
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from alpharefine.cli import track\nfrom alpharefine.errors import UserError\n"
        f"for given in {wrong}:\n"
        "    try: track.main([sys.argv[1], *given.split()])\n"
        "    except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(clip)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(wrong)
    assert lines[0] == "`--box`: no file 1,2,3, and not x,y,width,height in pixels (4 numbers); correct it."
    assert lines[1].startswith("`--box`: the first box 500,2,30,40 lies outside")
    assert lines[2].startswith("--tracker nosuch is not a known tracker.")
    assert "oracle" not in lines[2]
    assert "replay" not in lines[2]
    assert lines[4] == "`--ckpt`: no file nosuch; give a checkpoint, or the name of shipped weights: ar18_cm."
    assert lines[5] == "`--tracker_weights`: no file a.onnx; correct the path."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.mp4",), "INPUT: no file or folder absent.mp4"),
        (("CLIP", "--tracker", "oracle"), "--tracker oracle runs only in an evaluation"),
        (("CLIP", "--tracker", "oracle:mil"), "--tracker oracle:mil runs only in an evaluation"),
        (("CLIP", "--tracker", "replay"), "--tracker replay runs only in an evaluation; choose one of dimp, "),
        (("CLIP", "--device", "cuda:99"), r"`--device` must be auto, cpu or a device .* such as cuda:0, got 'cuda:99'"),
        (("CLIP", "--device", "gpu"), "`--device` must be auto, cpu or a device .* such as cuda:0, got 'gpu'"),
        (("CLIP", "--tracker", "nano"), "--tracker nano needs 2 weight files, got 0"),
        (("CLIP", "--tracker", "csrt", "--feedback"), "`--feedback`: csrt does not accept"),
        (("CLIP", "--ckpt", "absent.ckpt"), "absent.ckpt"),
        (("CLIP", "--output", "out.gif"), r"`--output` must end in \.mp4"),
        (("CLIP", "--output", "absent/out.mp4"), "`--output`: there is no folder absent"),
        (("CLIP", "--fps", "0"), "`--fps` must be a positive number, got 0.0"),
        (("CLIP", "--fps", "nan"), "`--fps` must be a positive number, got nan"),
        (("CLIP", "--max_frames", "-1"), "`--max_frames` must be a positive number, got -1"),
        (("VIDEO", "--fps", "10"), "`--fps` applies to images"),
        (
            ("VIDEO", "--box", "1,2,30,40", "--tracker", "cmd:true"),
            r"--tracker cmd:true reads image files, and in\.mp4 has none",
        ),
        (("VIDEO",), "give the box of the first frame by `--box x,y,w,h`"),
        (("CLIP", "--show"), "leave `--show` out"),
        (("CLIP", "--box", "1,2,3"), "`--box`: no file 1,2,3, and not x,y,width,height in pixels"),
        (("CLIP", "--box", "nofile.txt"), r"`--box`: no file nofile\.txt, and not x,y,width,height in pixels"),
        (("CLIP", "--box", "1,2,30,nan"), "`--box` must be finite x,y,w,h in pixels"),
        (
            ("CLIP", "--box", "1,2,-30,20"),
            "`--box` must be finite x,y,w,h in pixels with sides of at least 1 px, got 1,2,-30",
        ),
        (("CLIP", "--box", "0.1,0.2,0.3,0.4"), "`--box` must be .* Values in 0..1 are usually fractions"),
        (("CLIP", "--output", "folder.mp4", "--overwrite"), "`--output`: folder.mp4 is a folder"),
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
    (work / "folder.mp4").mkdir()
    with VideoWriter(work / "in.mp4") as writer:
        writer.write(read_image(clip / "1.jpg"), 0)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    places = {"CLIP": clip, "VIDEO": "in.mp4"}
    with pytest.raises(UserError, match=message):
        run(*(places.get(argument, argument) for argument in arguments))
    assert sorted(path.name for path in work.iterdir()) == ["empty.txt", "folder.mp4", "in.mp4"]
