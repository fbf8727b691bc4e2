"""Videos that are written and read back, and other sources of frames."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.video.frames import CameraSource, FileSource, ImageSource, TimedFrame, open_source
from alpharefine.video.writer import CODECS, VideoWriter

SIZE = (48, 64)


def picture(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth picture, so that codecs change it little: brighter to the right, redder with the index."""
    frame = np.zeros((*size, 3), np.uint8)
    frame[..., 1] = np.linspace(40, 200, size[1], dtype=np.uint8)
    frame[..., 0] = 12 * index
    return frame


def write(path: Path, times: list[float], size: tuple[int, int] = SIZE) -> Path:
    with VideoWriter(path) as writer:
        for index, time_s in enumerate(times):
            writer.write(picture(index, size), time_s)
    return path


def read(source: str | Path) -> list[TimedFrame]:
    return list(open_source(str(source)).frames())


@pytest.mark.parametrize("suffix", CODECS)
def test_frames_keep_their_order_and_varying_times(tmp_path: Path, suffix: str) -> None:
    times = [0.0, 0.04, 0.05, 0.3, 1.0, 1.01]
    path = write(tmp_path / f"clip{suffix}", times)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    source = open_source(str(path))
    assert isinstance(source, FileSource)
    assert source.name == path.name
    frames = list(source.frames())
    np.testing.assert_allclose([frame.time_s for frame in frames], times, atol=2e-3)
    for index, frame in enumerate(frames):
        assert frame.pixels.shape == (*SIZE, 3)
        assert frame.pixels.dtype == np.uint8
        assert np.abs(frame.pixels.astype(int) - picture(index)).mean() < 8


def test_the_number_of_frames_is_known(tmp_path: Path) -> None:
    times = [i / 30 for i in range(15)]
    assert FileSource(write(tmp_path / "clip.mp4", times)).num_frames == 15
    assert FileSource(write(tmp_path / "clip.webm", times)).num_frames == pytest.approx(15, abs=1)  # by its duration


def test_odd_sides_are_padded(tmp_path: Path) -> None:
    (frame, *_) = read(write(tmp_path / "clip.mp4", [0.0, 0.1], size=(47, 61)))
    assert frame.pixels.shape == (48, 62, 3)
    assert np.abs(frame.pixels[:47, :61].astype(int) - picture(0, (47, 61))).mean() < 8


def test_equal_times_are_set_apart(tmp_path: Path) -> None:
    assert len(read(write(tmp_path / "clip.mp4", [0.0, 0.0, 0.0]))) == 3


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_turned_videos_are_read_upright(tmp_path: Path, degrees: int) -> None:
    path = tmp_path / "phone.mp4"
    upright = picture(3, (48, 64))
    stored = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream("libx264", rate=30, options={"crf": "10"}))
        stream.height, stream.width = stored.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(degrees)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")), *stream.encode()]:
            container.mux(packet)
    (frame,) = read(path)
    assert frame.pixels.shape == upright.shape
    assert np.abs(frame.pixels.astype(int) - upright).mean() < 8


def test_a_video_that_is_cut_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = cast(av.VideoStream, container.add_stream("libx264", rate=30, options={"crf": "1"}))
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        rng = np.random.default_rng(0)
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (*SIZE, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        num_frames = len(read(path))
    except UserError as error:
        assert str(error).startswith(f"{path}, frame ")  # noqa: PT017 - either is right
    else:
        assert 0 < num_frames < 20
        assert f"{path} ends after {num_frames} of 20 frames" in caplog.text


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0" * 8000)
    cv2.imwrite(str(tmp_path / "1.jpg"), picture(0))
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("text.mp4", r"text\.mp4: cannot read this video \(.*\); restore or convert it"),
        ("sound.wav", r"sound\.wav has no video, only other streams"),
        ("1.jpg", r"1\.jpg is one image; give its folder, or a pattern such as '.*/\*\.jpg'"),
        ("absent.mp4", r"INPUT: no file or folder .*absent\.mp4"),
        ("empty", r"empty has no frames"),
        ("*.png", r"INPUT: no image matches '.*\*\.png'"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path / source)


def test_images(tmp_path: Path) -> None:
    folder = tmp_path / "clip" / "img"
    folder.mkdir(parents=True)
    for index in range(12):
        cv2.imwrite(str(folder / f"{index}.png"), picture(index))
    (tmp_path / "clip" / "groundtruth.txt").write_text("1,2,3,4\n")
    for source, box_file in (
        (tmp_path / "clip", tmp_path / "clip" / "groundtruth.txt"),
        (folder, None),
        (folder / "*.png", None),
        (tmp_path / "*" / "img" / "?*.png", None),
    ):
        opened = open_source(str(source), rate=10)
        assert isinstance(opened, ImageSource)
        assert opened.box_file == box_file
        assert opened.paths is not None
        assert [path.name for path in opened.paths] == [f"{index}.png" for index in range(12)]
        frames = list(opened.frames())
        assert opened.num_frames == len(frames) == 12
        np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(12) / 10)
        np.testing.assert_array_equal(frames[10].pixels[..., ::-1], picture(10))
    cv2.imwrite(str(folder / "5.png"), picture(5, (10, 10)))
    with pytest.raises(UserError, match=r"5\.png: all frames must have the size of the first, 64x48, got 10x10"):
        read(folder)


class FakeCamera:
    """Stands in for `cv2.VideoCapture`: BGR pictures, then none."""

    released = 0

    def __init__(self, number: int) -> None:
        self._left = 3 if number == 7 else 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self._left -= 1
        return (True, picture(self._left)[..., ::-1]) if self._left >= 0 else (False, None)

    def release(self) -> None:
        FakeCamera.released += 1


def test_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    source = open_source("7")
    assert isinstance(source, CameraSource)
    frames = source.frames()
    first = next(frames)
    np.testing.assert_array_equal(first.pixels, picture(2))
    assert first.time_s <= next(frames).time_s
    frames.close()
    assert FakeCamera.released == 1
    with pytest.raises(UserError, match=r"Camera 1 gives no picture; connect it, or give another number"):
        read("1")
    assert FakeCamera.released == 2


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`--output` must end in \.mp4, \.mov, \.mkv, \.webm, got .*clip\.avi"):
        VideoWriter(tmp_path / "clip.avi")
    with pytest.raises(UserError, match=r"absent/clip\.mp4: cannot be written"):
        VideoWriter(tmp_path / "absent" / "clip.mp4")
    with VideoWriter(tmp_path / "clip.mp4"):
        pass
    assert list(tmp_path.iterdir()) == [], "a video without frames leaves no file"


def test_an_error_leaves_a_playable_video(tmp_path: Path) -> None:
    with pytest.raises(KeyError), VideoWriter(tmp_path / "clip.mp4") as writer:  # noqa: PT012
        for index in range(5):
            writer.write(picture(index), index / 30)
        raise KeyError
    assert len(read(tmp_path / "clip.mp4")) == 5
