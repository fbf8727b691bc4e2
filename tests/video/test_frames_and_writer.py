"""Videos that are written and read back, and other sources of frames."""

from __future__ import annotations

import resource
import wave
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, cast

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.folder import FolderDataset
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
    with av.open(str(path)) as container:
        assert not container.streams.video[0].start_time, "players show the first frame at once"
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


def noisy_video(path: Path, num_frames: int, **options: str) -> list[av.Packet]:
    """Write a video whose packets have about one size, and return them with their places in the file."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = cast(av.VideoStream, container.add_stream("libx264", rate=30, options={"crf": "20", "g": "30"}))
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for _ in range(num_frames):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (*SIZE, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(container.streams.video[0]) if packet.size]


@pytest.mark.parametrize("rest", [0, 0.05, 0.5], ids=["between frames", "at the start of a frame", "within a frame"])
@pytest.mark.parametrize("last", [12, 30], ids=["any frame", "key frame"])
def test_a_video_that_is_cut_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture, last: int, rest: float) -> None:
    path = tmp_path / "cut.mp4"
    packets = noisy_video(path, 40, movflags="faststart")
    assert packets[last].pos is not None
    path.write_bytes(path.read_bytes()[: packets[last].pos + int(rest * packets[last].size)])
    assert len(read(path)) == last
    assert f"{path} ends after {last} of 40 frames" in caplog.text


def test_a_video_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    packets = noisy_video(path, 40)
    content, packet = bytearray(path.read_bytes()), packets[12]
    assert packet.pos is not None
    content[packet.pos : packet.pos + packet.size] = bytes([255]) * packet.size
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.mp4, frame \d+: cannot decode it \(.*\); restore or convert"):
        read(path)


def test_a_trimmed_video_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stream copy from a time between key frames keeps the frames before it, which its edit list hides."""
    noisy_video(tmp_path / "whole.mp4", 60)
    path = tmp_path / "trimmed.mp4"
    with (
        av.open(str(tmp_path / "whole.mp4")) as whole,
        av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as trimmed,
    ):
        stream = whole.streams.video[0]
        copy = trimmed.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.dts is not None and packet.pts is not None and stream.time_base is not None:
                start = int(Fraction(1, 2) / stream.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
                trimmed.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 60
    frames = read(path)
    assert len(frames) == 45
    assert frames[-1].time_s == pytest.approx(44 / 30)
    assert not caplog.text


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
        (tmp_path / "clip" / "." / "img" / ".." / "img", None),
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
    with pytest.raises(UserError, match=r"5\.png has 10x10 px, the first frame of its sequence has 64x48 px"):
        read(folder)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("preview.png", r"preview\.png has no number, unlike the other frames"),
        ("01.png", r"frames 01\.png and 1\.png have the same number|frames 1\.png and 01\.png have the same number"),
        ("3.jpg", r"all frames must have the same suffix, got \.jpg and \.png"),
    ],
)
def test_a_pattern_obeys_the_rules_of_a_folder(tmp_path: Path, other: str, message: str) -> None:
    for name in ("1.png", "2.png", other):
        cv2.imwrite(str(tmp_path / name), picture(0))
    for source in (tmp_path, tmp_path / "*"):
        with pytest.raises(UserError, match=message):
            open_source(str(source))


def test_a_folder_is_read_as_by_an_evaluation(tmp_path: Path) -> None:
    folder = tmp_path / "clip" / "img"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "1.png"), picture(1))
    cv2.imwrite(str(tmp_path / "clip" / "preview.jpg"), picture(2))
    (tmp_path / "clip" / "groundtruth.txt").write_text("1,2,3,4\n")
    source = open_source(str(tmp_path / "clip"))
    sequence = FolderDataset(DatasetConfig("folder", tmp_path / "clip")).load("clip")
    assert list(source.paths or []) == list(sequence.frame_paths or []) == [folder / "1.png"]


def test_a_folder_of_videos(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", [0.0])
    with pytest.raises(UserError, match=r"has no images, but clip\.mp4; give the video file itself"):
        read(tmp_path)


class FakeCamera:
    """Stands in for `cv2.VideoCapture`: BGR pictures, then none."""

    released = 0
    pictures: ClassVar[list[np.ndarray]] = []

    def __init__(self, number: int) -> None:
        self._left = list(self.pictures) if number == 7 else []

    def read(self) -> tuple[bool, np.ndarray | None]:
        return (True, self._left.pop(0)[..., ::-1]) if self._left else (False, None)

    def grab(self) -> bool:
        return self.read()[0]

    def release(self) -> None:
        FakeCamera.released += 1


def test_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr(FakeCamera, "pictures", [picture(index) for index in range(8)])
    monkeypatch.setattr(FakeCamera, "released", 0)
    now = iter([100.0, 100.1, 100.2, 100.3])
    monkeypatch.setattr("alpharefine.video.frames.time.monotonic", lambda: next(now))
    source = open_source("7")
    assert isinstance(source, CameraSource)
    frames = list(source.frames())
    for frame, index in zip(frames, (0, 5, 6, 7), strict=True):  # those that were kept meanwhile are left out
        np.testing.assert_array_equal(frame.pixels, picture(index))
    assert [round(frame.time_s, 6) for frame in frames] == [0, 0.1, 0.2, 0.3], "the first frame may take its time"
    assert FakeCamera.released == 1
    with pytest.raises(UserError, match=r"Camera 1 gives no picture; connect it, or give another number"):
        read("1")
    assert FakeCamera.released == 2


def test_a_camera_that_changes_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr(FakeCamera, "pictures", [*[picture(0)] * 6, picture(0, (24, 32))])
    with pytest.raises(UserError, match=r"Camera 7 has 32x24 px, the first frame of its sequence has 64x48 px"):
        read("7")


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


@pytest.mark.parametrize("suffix", CODECS)
def test_a_full_disk_leaves_what_was_written(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files stands in for the disk."""
    path, rng = tmp_path / f"clip{suffix}", np.random.default_rng(0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        with (  # noqa: PT012
            pytest.raises(
                UserError, match=rf"clip\{suffix} cannot be written any further \(File too large\), and ends"
            ),
            VideoWriter(path) as writer,
        ):
            for index in range(500):
                writer.write(rng.integers(0, 255, (96, 128, 3), np.uint8), index / 30)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [path]
    assert len(read(path)) > 30


def test_a_video_that_cannot_get_its_name_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    writer = VideoWriter(path)
    writer.write(picture(0), 0)
    path.mkdir()
    with pytest.raises(UserError, match=r"clip\.mp4 cannot be written \(.*\); the video is in .*mp4: rename it"):
        writer.close()
    (part,) = (each for each in tmp_path.iterdir() if each.is_file())
    assert len(read(part)) == 1


def test_videos_of_one_name_are_written_side_by_side(tmp_path: Path) -> None:
    first, second = VideoWriter(tmp_path / "clip.mp4"), VideoWriter(tmp_path / "clip.mp4")
    for index in range(2):
        first.write(picture(0), index / 30)
        second.write(picture(10), index / 30)
    second.close()
    first.close()
    assert read(tmp_path / "clip.mp4")[0].pixels[..., 0].mean() < 20


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("size", [(48, 64), (720, 1280)], ids=str)
def test_colors_are_those_of_the_frames(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    """The matrix is checked by the formulas of BT.709, which players follow because the file names it."""
    path, color = tmp_path / f"clip{suffix}", np.array([200, 40, 30])
    with VideoWriter(path) as writer:
        writer.write(np.broadcast_to(color.astype(np.uint8), (*size, 3)).copy(), 0)
    with av.open(str(path)) as container:
        frame = next(container.decode(container.streams.video[0]))
    assert isinstance(frame, av.VideoFrame)
    assert (frame.colorspace, frame.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
    red, green, blue = color / 255
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
    planes = [np.frombuffer(plane, np.uint8)[0] for plane in frame.planes]  # type: ignore[call-overload]
    np.testing.assert_allclose(planes, expected, atol=2)
    np.testing.assert_allclose(read(path)[0].pixels[4, 4], color, atol=4)


@pytest.mark.parametrize(("height", "space"), [(480, Colorspace.ITU601), (720, Colorspace.ITU709)])
def test_files_without_a_color_space_are_read_as_players_do(tmp_path: Path, height: int, space: Colorspace) -> None:
    path, color = tmp_path / "clip.mp4", np.array([200, 40, 30], np.uint8)
    frame = av.VideoFrame.from_ndarray(np.broadcast_to(color, (height, 64, 3)).copy(), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=space, dst_color_range=ColorRange.MPEG)
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream("libx264", rate=30))
        stream.height, stream.width, stream.pix_fmt = height, 64, "yuv420p"
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    np.testing.assert_allclose(read(path)[0].pixels[4, 4], color, atol=4)
