"""Decoding of the part of a JPEG file that a crop shows: its upper rows, at full or reduced resolution.

simplejpeg decodes to the same pixels as OpenCV in less time, see `docs/speed.md`. Rows below the crop are left out by a
smaller height in the header: the decoder then stops at that row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg

START = b"\xff\xd8"
"""First bytes of a JPEG file."""

START_OF_SCAN = 0xDA

_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
"""Markers of the frame headers of baseline, extended and progressive files."""

_ROW_STEP = 16
"""Rows of a block of pixels with subsampled colors."""


class JpegHeader(NamedTuple):
    """Frame header of a JPEG file.

    Attributes:
        position: Position of the marker in the file.
        height: Height in pixels.
        width: Width in pixels.
    """

    position: int
    height: int
    width: int


def segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, the position and the end of each segment of a JPEG header, up to the first scan.

    Args:
        content: Content of the file.

    Raises:
        ValueError: If a marker is missing, or the header is cut.
    """
    position = len(START)
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            raise ValueError("a JPEG marker is missing in its header")
        marker = content[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4])
        yield marker, position, end
        if marker == START_OF_SCAN:
            return
        position = end
    raise ValueError("the JPEG header is cut")


def jpeg_header(content: bytes) -> JpegHeader | None:
    """Return the frame header of a JPEG file that `decode_jpeg` reads: 8 bits, gray or three colors, Huffman code.

    Args:
        content: Content of a whole file, see `alpharefine.data.picture_files.damage`.

    Returns:
        Frame header. None for other files.
    """
    if not content.startswith(START):
        return None
    for marker, position, end in segments(content):
        if marker in _HUFFMAN_FRAMES and end - position >= 10:
            bits, num_colors = content[position + 4], content[position + 9]
            height, width = (int.from_bytes(content[position + at : position + at + 2]) for at in (5, 7))
            is_read = bits == 8 and num_colors in (1, 3) and height and width
            return JpegHeader(position, height, width) if is_read else None
    return None


def decode_jpeg(content: bytes, header: JpegHeader, num_rows: int, reduction: int) -> np.ndarray:
    """Decode the upper rows of a JPEG file. EXIF orientation and damage inside of the data are ignored.

    Args:
        content: Content of the file.
        header: Frame header of the file.
        num_rows: Number of rows of the full resolution that are needed.
        reduction: Ratio of the full to the decoded resolution: 1, 2, 4 or 8.

    Returns:
        RGB image of shape ``(H, W, 3)``, uint8, with at least the rows that are needed, or all rows of the file.

    Raises:
        ValueError: If the file cannot be decoded.
    """
    # One row more than needed: colors of the last decoded row are interpolated without the row below.
    height = -(-(max(num_rows, 0) + 1) // _ROW_STEP) * _ROW_STEP
    if height < header.height:
        at = header.position + 5
        content = content[:at] + height.to_bytes(2) + content[at + 2 :]
    else:
        height = header.height
    image: np.ndarray = simplejpeg.decode_jpeg(
        content,
        "RGB",
        min_height=-(-height // reduction),
        min_width=-(-header.width // reduction),
        strict=False,
    )
    return image
