"""Crops of the golden sequences, compared with those that the originals cut."""

from __future__ import annotations

import platform
import zlib

import numpy as np


def crc32(array: np.ndarray) -> int:
    """Return the CRC-32 of an array's bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def assert_same_crop(crop: np.ndarray, expected_crc32: int, every_16th: np.ndarray) -> None:
    """Fail unless a crop equals the original's; OpenCV's resizing on other processors may differ by a gray level.

    Args:
        crop: ``(256, 256, 3)`` uint8.
        expected_crc32: Checksum of the original's crop.
        every_16th: ``(16, 16, 3)`` uint8, every 16th row and column of the original's crop.
    """
    assert np.abs(crop[::16, ::16].astype(int) - every_16th).max() <= 1
    assert crc32(crop) == expected_crc32 or platform.machine() not in ("x86_64", "AMD64")
