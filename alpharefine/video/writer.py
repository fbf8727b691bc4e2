"""Writing of video files."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from alpharefine.errors import UserError

# No B-frames: their delay would shift the times of a fragmented file.
_H264 = ("libx264", {"crf": "20", "preset": "veryfast", "bf": "0"})

CODECS = {
    ".mp4": _H264,
    ".mov": _H264,
    ".mkv": _H264,
    ".webm": ("libvpx-vp9", {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}),
}
"""Codec and its options by the suffix of the file."""

_FRAGMENTS = {"movflags": "hybrid_fragmented", "frag_duration": "1000000"}
"""Options of .mp4 and .mov: until it is closed, the file consists of parts of a second, which can be played."""

_TICKS = 90_000
"""Ticks a second, in which times are written."""


class VideoWriter:
    """Video file that is written frame by frame. It gets its name when it is closed, so that it is always playable.

    Colors are converted by BT.709 and the file says so.

    Args:
        path: Path of the file. The suffix selects the format, see `CODECS`.

    Raises:
        UserError: If the format is unknown, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        require_format(path)
        codec, options = CODECS[path.suffix.lower()]
        self._path, self._part = path, path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
        self._last, self._has_failed = -1, False
        try:
            self._part.touch()
            self._container = av.open(
                str(self._part), "w", options=_FRAGMENTS if path.suffix.lower() in (".mp4", ".mov") else {}
            )
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another place.") from error
        self._stream = cast(av.VideoStream, self._container.add_stream(codec, rate=30, options=options))
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def write(self, pixels: np.ndarray, time_s: float) -> None:
        """Append a frame.

        Args:
            pixels: ``(H, W, 3)`` RGB uint8, of the size of the first frame. A last odd row or column is repeated,
                because the codecs need even sides.
            time_s: Seconds since the first frame. Frames are at least a tick apart.

        Raises:
            UserError: If the frame cannot be written, such as on a full disk. The file keeps the frames before it.
        """
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._last < 0:
            self._stream.height, self._stream.width = pixels.shape[:2]
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        self._last = max(round(time_s * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        with self._noting_failure():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file. Without frames, no file is left.

        Raises:
            UserError: If the end of the file cannot be written. The frames before it are kept.
        """
        try:
            if self._last >= 0 and not self._has_failed:
                with self._noting_failure():
                    self._container.mux(self._stream.encode())
        finally:
            try:
                with self._noting_failure():
                    self._container.close()
            finally:
                self._name()

    @contextlib.contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Turn the first error of the disk into a `UserError`, and ignore those that follow from it."""
        try:
            yield
        except av.FFmpegError as error:
            if self._has_failed:
                return
            self._has_failed = True
            raise UserError(
                f"{self._path} cannot be written any further ({error.strerror}), and ends there; free disk space, or "
                "give another place."
            ) from error

    def _name(self) -> None:
        try:
            if self._last >= 0:
                self._part.replace(self._path)
            else:
                self._part.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be written ({error.strerror}); the video is in {self._part}: rename it."
            ) from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def require_format(path: Path) -> None:
    """Check that the suffix of a file is that of a known video format.

    Args:
        path: Path of a video file to write.

    Raises:
        UserError: If it is not.
    """
    if path.suffix.lower() not in CODECS:
        raise UserError(f"`--output` must end in {', '.join(CODECS)}, got {path}; give another name.")
