"""Writing of video files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np

from alpharefine.errors import UserError

CODECS = {
    ".mp4": ("libx264", {"crf": "20", "preset": "veryfast"}),
    ".mov": ("libx264", {"crf": "20", "preset": "veryfast"}),
    ".mkv": ("libx264", {"crf": "20", "preset": "veryfast"}),
    ".webm": ("libvpx-vp9", {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}),
}
"""Codec and its options by the suffix of the file."""

_TICKS = 90_000
"""Ticks a second, in which times are written."""


class VideoWriter:
    """Video file that is written frame by frame. It gets its name when it is closed, so that it is always playable.

    Args:
        path: Path of the file. The suffix selects the format, see `CODECS`.

    Raises:
        UserError: If the format is unknown, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        require_format(path)
        codec, options = CODECS[path.suffix.lower()]
        self._path, self._part = path, path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            self._part.touch()
            self._container = av.open(str(self._part), "w")
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another `--output`.") from error
        self._stream = cast(av.VideoStream, self._container.add_stream(codec, rate=30, options=options))
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._last = -1

    def write(self, pixels: np.ndarray, time_s: float) -> None:
        """Append a frame.

        Args:
            pixels: ``(H, W, 3)`` RGB uint8, of the size of the first frame. A last odd row or column is repeated,
                because the codecs need even sides.
            time_s: Seconds since the first frame. Frames are at least a tick apart.
        """
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._last < 0:
            self._stream.height, self._stream.width = pixels.shape[:2]
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._last = max(round(time_s * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file. Without frames, no file is left."""
        if self._last >= 0:
            self._container.mux(self._stream.encode())
        self._container.close()
        if self._last >= 0:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

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
