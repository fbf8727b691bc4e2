"""Frames of a video file, a folder, a pattern of file names or a camera, one at a time."""

from __future__ import annotations

import contextlib
import glob
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace

from alpharefine.data.frame_checks import require_size
from alpharefine.data.frames import (
    VIDEO_SUFFIXES,
    find_frame_folder,
    frame_order,
    is_frame,
    list_frames,
    name_order,
    require_series,
)
from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.notes import note

DEFAULT_RATE = 30.0
"""Frames a second of images, which have no times."""

_HD_HEIGHT = 720
"""Height from which players take colors for BT.709 in files that do not name their color space; below for BT.601."""

_UNSPECIFIED = 2
"""FFmpeg's code of a color space that the file does not name."""

_NUM_BUFFERED = 4
"""Number of pictures that a camera's driver keeps for a program that does not fetch them; OpenCV's default on Linux."""


class TimedFrame(NamedTuple):
    """Frame with its time.

    Attributes:
        pixels: ``(H, W, 3)`` RGB uint8.
        time_s: Seconds since the first frame.
    """

    pixels: np.ndarray
    time_s: float


class FrameSource(ABC):
    """Source of the frames of one video. All frames have one size.

    Attributes:
        name: Name of the source, for messages.
        stem: Name of the source without the suffix of a file, for the names of other files.
        files: Paths of the files that are read. Empty for a camera.
        paths: Paths of the images in temporal order. None if the frames are not image files.
        is_live: Whether the frames are taken when they are fetched.
        num_frames: Number of frames, which may be an estimate. None if it is not known.
        box_file: Path of a text file with the box of the first frame. None if there is none beside the images.
    """

    name: str
    stem: str
    files: Sequence[Path] = ()
    is_live = False
    paths: Sequence[Path] | None = None
    num_frames: int | None = None
    box_file: Path | None = None

    @abstractmethod
    def frames(self) -> Generator[TimedFrame]:
        """Yield the frames in temporal order.

        Raises:
            UserError: If a frame cannot be read or has another size than the first.
        """


class ImageSource(FrameSource):
    """Image files at a constant frame rate.

    Args:
        name: Name of the source.
        paths: Paths of the images in temporal order.
        rate: Frames a second.
        box_file: Path of a text file with the box of the first frame. It need not exist.
    """

    def __init__(
        self, name: str, paths: Sequence[Path], rate: float = DEFAULT_RATE, box_file: Path | None = None
    ) -> None:
        self.name = self.stem = name
        self.files = self.paths = paths
        self.num_frames, self._rate = len(paths), rate
        self.box_file = box_file if box_file is not None and box_file.is_file() else None

    def frames(self) -> Generator[TimedFrame]:
        """Yield the images as stored, without regard to their EXIF orientation."""
        assert self.paths is not None
        size = None
        for index, path in enumerate(self.paths):
            pixels = read_image(path)
            size = size or pixels.shape
            require_size(str(path), pixels, size)
            yield TimedFrame(pixels, index / self._rate)


class FileSource(FrameSource):
    """Video file. Frames are turned upright, and keep their times if the frame rate varies.

    Args:
        path: Path of the file.

    Raises:
        UserError: If the file cannot be opened or has no video.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.stem, self.files, self._path = path.name, path.stem, (path,), path
        with self._open() as container:
            stream = container.streams.video[0]
            self._counted = stream.frames  # 0 where the format does not say
            self.num_frames = self._counted or None
            if self.num_frames is None and container.duration is not None and stream.average_rate is not None:
                self.num_frames = round(container.duration / av.time_base * float(stream.average_rate))

    @contextlib.contextmanager
    def _open(self) -> Iterator[av.container.InputContainer]:
        try:
            container = av.open(str(self._path))
        except av.FFmpegError as error:
            raise UserError(
                f"{self._path}: cannot read this video ({error.strerror}); restore or convert it."
            ) from error
        with container:
            if not container.streams.video:
                raise UserError(f"{self._path} has no video, only other streams; give another file.")
            yield container

    def frames(self) -> Generator[TimedFrame]:
        """Yield the frames. A file that ends too early is noted."""
        index, start, size = 0, None, None
        with self._open() as container:
            try:
                for frame in self._decode(container):
                    time_s = index / DEFAULT_RATE if frame.time is None else frame.time
                    start = time_s if start is None else start
                    pixels = _upright(frame)
                    size = size or pixels.shape
                    require_size(f"{self._path}, frame {index + 1}", pixels, size)
                    yield TimedFrame(pixels, time_s - start)
                    index += 1
            except av.FFmpegError as error:
                raise UserError(
                    f"{self._path}, frame {index + 1}: cannot decode it ({error.strerror}); restore or convert the "
                    "video."
                ) from error
        if index == 0:
            raise UserError(f"{self._path} has no frames; restore or convert the video.")

    def _decode(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        """Yield the decoded frames. A packet that is cut at the end of the file is left out."""
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        num_packets = 0  # also those that a trimmed file keeps and does not show
        cut = None
        for packet in container.demux(stream):
            if packet.size and cut is not None:  # the file goes on
                yield from cut.decode()
                cut, num_packets = None, num_packets + 1
            if packet.is_corrupt:
                cut = packet
            else:
                yield from packet.decode()
                num_packets += packet.size > 0
        if num_packets < self._counted:
            note(f"{self._path} ends after {num_packets} of {self._counted} frames.")


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Return the pixels of a frame in RGB, turned as the file asks for."""
    space = None  # that of the file
    if frame.colorspace == _UNSPECIFIED:
        space = Colorspace.ITU709 if frame.height >= _HD_HEIGHT else Colorspace.ITU601
    pixels = frame.to_ndarray(format="rgb24", src_colorspace=space)
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))


class CameraSource(FrameSource):
    """Camera of this computer.

    Args:
        number: Number of the camera, from 0.
    """

    is_live = True

    def __init__(self, number: int) -> None:
        self.name = self.stem = f"camera-{number}"
        self._number = number

    def frames(self) -> Generator[TimedFrame]:
        """Yield frames until the camera ends.

        Time stands still while the caller works on the first frame, on which a user may draw the target. The pictures
        that the camera has kept meanwhile are left out.

        Raises:
            UserError: If the camera cannot be opened, or changes its size.
        """
        camera = cv2.VideoCapture(self._number)
        try:
            found, pixels = camera.read()
            if not found:
                raise UserError(f"Camera {self._number} gives no picture; connect it, or give another number.")
            first_size = pixels.shape
            yield TimedFrame(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), 0.0)
            start = time.monotonic()
            for _ in range(_NUM_BUFFERED):
                camera.grab()
            while True:
                found, pixels = camera.read()
                if not found:
                    return
                require_size(f"Camera {self._number}", pixels, first_size)
                yield TimedFrame(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), time.monotonic() - start)
        finally:
            camera.release()


def open_source(source: str, rate: float = DEFAULT_RATE) -> FrameSource:
    """Open a source of frames.

    Args:
        source: Path of a video file or of a folder of images, pattern of image files such as ``clip/*.png``, or number
            of a camera.
        rate: Frames a second of images.

    Raises:
        UserError: If there is no such source, or it has no frames.
    """
    path = Path(source)
    if path.is_file():
        if is_frame(path.name):
            raise UserError(
                f"{path} is one image; give its folder, or a pattern such as '{path.parent}/*{path.suffix}'."
            )
        return FileSource(path)
    if path.is_dir():
        folder = find_frame_folder(path)
        if folder is None:
            videos = sorted(each.name for each in path.iterdir() if each.suffix.lower() in VIDEO_SUFFIXES)
            if videos:
                raise UserError(f"INPUT: {path} has no images, but {videos[0]}; give the video file itself.")
            folder = path
        return ImageSource(
            path.resolve().name, [folder / name for name in list_frames(folder)], rate, path / "groundtruth.txt"
        )
    if source.isdecimal():
        return CameraSource(int(source))
    if glob.has_magic(source):
        found = [Path(name) for name in glob.glob(source) if is_frame(Path(name).name)]  # noqa: PTH207 - it may hold folders
        if not found:
            raise UserError(f"INPUT: no image matches '{source}'; correct the pattern.")
        paths = sorted(found, key=lambda each: (name_order(str(each.parent)), frame_order(each.name)))
        for folder, images in groupby(paths, key=attrgetter("parent")):
            require_series(folder, [image.name for image in images])
        return ImageSource(paths[0].parent.resolve().name, paths, rate)
    raise UserError(f"INPUT: no file or folder {source}; give a video file, a folder of images or a camera's number.")
