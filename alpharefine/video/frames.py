"""Frames of a video file, a folder, a pattern of file names or a camera, one at a time."""

from __future__ import annotations

import contextlib
import glob
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from alpharefine.data.frames import has_frames, is_frame, list_frames, name_order
from alpharefine.data.images import read_image
from alpharefine.data.reader import note
from alpharefine.errors import UserError

DEFAULT_RATE = 30.0
"""Frames a second of images, which have no times."""


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
        name: Name of the source, for messages and file names.
        paths: Paths of the images in temporal order. None if the frames are not image files.
        num_frames: Number of frames, which may be an estimate. None if it is not known.
        box_file: Path of a text file with the box of the first frame. None if there is none beside the images.
    """

    name: str
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
        self.name, self.paths, self.num_frames, self._rate = name, paths, len(paths), rate
        self.box_file = box_file if box_file is not None and box_file.is_file() else None

    def frames(self) -> Generator[TimedFrame]:
        """Yield the images as stored, without regard to their EXIF orientation."""
        assert self.paths is not None
        size = None
        for index, path in enumerate(self.paths):
            pixels = read_image(path)
            size = size or pixels.shape
            _require_size(str(path), pixels, size)
            yield TimedFrame(pixels, index / self._rate)


class FileSource(FrameSource):
    """Video file. Frames are turned upright, and keep their times if the frame rate varies.

    Args:
        path: Path of the file.

    Raises:
        UserError: If the file cannot be opened or has no video.
    """

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.name, path
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
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    time_s = index / DEFAULT_RATE if frame.time is None else frame.time
                    start = time_s if start is None else start
                    pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                    size = size or pixels.shape
                    _require_size(f"{self._path}, frame {index + 1}", pixels, size)
                    yield TimedFrame(pixels, time_s - start)
                    index += 1
            except av.FFmpegError as error:
                raise UserError(
                    f"{self._path}, frame {index + 1}: cannot decode it ({error.strerror}); restore or convert the "
                    "video."
                ) from error
        if index == 0:
            raise UserError(f"{self._path} has no frames; restore or convert the video.")
        if index < self._counted:
            note(f"{self._path} ends after {index} of {self._counted} frames.")


class CameraSource(FrameSource):
    """Camera of this computer.

    Args:
        number: Number of the camera, from 0.
    """

    def __init__(self, number: int) -> None:
        self.name, self._number = f"camera-{number}", number

    def frames(self) -> Generator[TimedFrame]:
        """Yield frames until the camera ends.

        Raises:
            UserError: If the camera cannot be opened.
        """
        camera = cv2.VideoCapture(self._number)
        try:
            found, pixels = camera.read()
            if not found:
                raise UserError(f"Camera {self._number} gives no picture; connect it, or give another number.")
            start = time.monotonic()
            while found:
                yield TimedFrame(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), time.monotonic() - start)
                found, pixels = camera.read()
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
        folder = path if has_frames(path) else next((path / n for n in ("img", "imgs") if has_frames(path / n)), path)
        return ImageSource(
            path.resolve().name, [folder / name for name in list_frames(folder)], rate, path / "groundtruth.txt"
        )
    if source.isdecimal():
        return CameraSource(int(source))
    if glob.has_magic(source):
        paths = sorted(
            map(Path, glob.glob(source)),  # noqa: PTH207 - the pattern may hold folders
            key=lambda found: name_order(str(found)),
        )
        images = [found for found in paths if is_frame(found.name)]
        if not images:
            raise UserError(f"INPUT: no image matches '{source}'; correct the pattern.")
        return ImageSource(images[0].parent.resolve().name, images, rate)
    raise UserError(f"INPUT: no file or folder {source}; give a video file, a folder of images or a camera's number.")


def _require_size(place: str, pixels: np.ndarray, size: tuple[int, ...]) -> None:
    if pixels.shape != size:
        raise UserError(
            f"{place}: all frames must have the size of the first, {size[1]}x{size[0]}, got "
            f"{pixels.shape[1]}x{pixels.shape[0]}; restore it."
        )
