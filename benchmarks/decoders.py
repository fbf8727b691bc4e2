"""Milliseconds of processor time for a JPEG frame, by decoder: ``python benchmarks/decoders.py FOLDER [WIDTH [kept]]``.

FOLDER holds JPEG frames, which are resized to WIDTH first. pyvips is measured if it is installed.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from alpharefine.data.jpeg import decode_jpeg, jpeg_header
from alpharefine.data.memory import keep_freed_memory
from benchmarks.rows import alternate, medians

NUM_FRAMES, ROUNDS = 8, 9


def decoders() -> dict[str, Callable[[bytes], Any]]:
    """Return the decoders that are installed, by name."""
    found: dict[str, Callable[[bytes], Any]] = {
        "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB),
        "OpenCV, 1/2": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_2),
        "OpenCV, 1/4": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_4),
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data))),
        "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, "RGB"),
        "simplejpeg, fast": lambda data: simplejpeg.decode_jpeg(data, "RGB", fastdct=True, fastupsample=True),
        "simplejpeg, 1/2": lambda data: _part(data, 1.0, 2),
        "simplejpeg, 1/4": lambda data: _part(data, 1.0, 4),
        "simplejpeg, upper 70 %": lambda data: _part(data, 0.7, 1),
    }
    try:
        import pyvips  # type: ignore[import-not-found]
    except ImportError:
        return found
    pyvips.cache_set_max(0)

    def middle(data: bytes) -> np.ndarray:
        image = pyvips.Image.new_from_buffer(data, "", access="sequential")
        return np.asarray(image.crop(image.width // 4, image.height // 4, image.width // 2, image.height // 2).numpy())

    found["pyvips"] = lambda data: pyvips.Image.new_from_buffer(data, "", access="sequential").numpy()
    found["pyvips, 1/2"] = lambda data: pyvips.Image.new_from_buffer(data, "", access="sequential", shrink=2).numpy()
    found["pyvips, middle quarter"] = middle
    return found


def _part(data: bytes, share: float, reduction: int) -> np.ndarray:
    header = jpeg_header(data)
    assert header is not None
    return decode_jpeg(data, header, int(share * header.height), reduction)


def main(args: list[str] | None = None) -> int:
    """Measure and print.

    Args:
        args: Words of the command line in place of those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("width", type=int, nargs="?", help="Width in pixels (default: that of the frames).")
    parser.add_argument("memory", nargs="?", choices=("default", "kept"), help="kept: as the workers of a training.")
    options = parser.parse_args(args)
    cv2.setNumThreads(0)
    if options.memory == "kept":
        keep_freed_memory()
    paths = sorted(options.folder.rglob("*.jpg"))
    if not paths:
        parser.error(f"no *.jpg file in {options.folder}; give a folder of JPEG frames.")
    frames = [_frame(path, options.width) for path in paths[:: max(1, len(paths) // NUM_FRAMES)][:NUM_FRAMES]]
    calls = {name: lambda decode=decode: [*map(decode, frames)] for name, decode in decoders().items()}
    print(f"{len(frames)} frames of {np.mean([*map(len, frames)]) / 1024:.0f} KiB")
    for name, seconds in medians(alternate(calls, ROUNDS, 2, process_time)).items():
        print(f"{name:24} {1e3 * seconds / len(frames):6.2f} ms")
    return 0


def _frame(path: Path, width: int | None) -> bytes:
    if width is None:
        return path.read_bytes()
    image = np.asarray(cv2.imread(str(path)))
    size = (width, round(width * image.shape[0] / image.shape[1]))
    return cv2.imencode(".jpg", cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), [cv2.IMWRITE_JPEG_QUALITY, 75])[
        1
    ].tobytes()


if __name__ == "__main__":
    sys.exit(main())
