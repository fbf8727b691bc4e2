"""Decoding of image files, and the check that a file is complete.

Decoders accept a JPEG file that was cut: they fill the missing rows with gray. The marker that ends every JPEG and PNG
file distinguishes a whole file from a cut one, and the check takes less than a hundredth of the decoding time. Cameras
and editors append data to the picture, so anything may follow the marker.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from alpharefine.data.jpeg import START, segments
from alpharefine.errors import UserError

_PNG, _BMP = b"\x89PNG\r\n\x1a\n", b"BM"

_END_OF_IMAGE = b"\xff\xd9"

_BMP_HEADER = 26
"""Bytes of a BMP file up to the height of the picture."""


def read_picture(path: Path) -> bytes:
    """Read a picture file and check that it is whole.

    Args:
        path: Path of the picture.

    Returns:
        Content of the file, not decoded.

    Raises:
        UserError: If the file does not exist, cannot be read, or is not whole.
    """
    try:
        content = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise UserError(f"{path}: this image cannot be read ({error.strerror}); check the disk.") from error
    if content is None:
        raise UserError(f"{path}: this image does not exist; restore it.")
    fault = damage(content)
    if fault:
        raise UserError(f"{path}: this image is damaged ({fault}); restore it.")
    return content


def damage(content: bytes) -> str:
    """Describe the damage of a JPEG, PNG or BMP file, or return an empty string if there is none.

    Files of other formats, which are detected from their first bytes, are left to the decoder.

    Args:
        content: Content of the file.

    >>> damage(bytes.fromhex("ffd8 ffda 0002 12 34 ffd9")), damage(bytes.fromhex("ffd8 ffda 0002 12 34"))
    ('', 'the JPEG end marker is missing, so the file is cut')
    """
    if content.startswith(START):
        return _jpeg_damage(content)
    if content.startswith(_PNG):
        return _png_damage(content)
    if content.startswith(_BMP):
        return _bmp_damage(content)
    return ""


def _jpeg_damage(content: bytes) -> str:
    """Look for the end marker behind the header, which may hold a thumbnail with an end marker of its own."""
    try:
        *_, (_, _, end) = segments(content)
    except ValueError as error:
        return str(error)
    is_whole = content.endswith(_END_OF_IMAGE, end) or content.find(_END_OF_IMAGE, end) >= 0
    return "" if is_whole else "the JPEG end marker is missing, so the file is cut"


def _png_damage(content: bytes) -> str:
    """Check the sums of all chunks up to the last one."""
    position = len(_PNG)
    while position + 12 <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        if end + 4 > len(content):
            break
        if zlib.crc32(memoryview(content)[position + 4 : end]) != int.from_bytes(content[end : end + 4]):
            return f"the checksum of a PNG chunk is wrong at byte {position}"
        if kind == b"IEND":
            return ""
        position = end + 4
    return "the PNG end chunk is missing, so the file is cut"


def _bmp_damage(content: bytes) -> str:
    """Compare the number of bytes with the size in the header; a compressed BMP is left to the decoder."""
    if len(content) < _BMP_HEADER:
        return "the BMP header is cut"
    start, header = (int.from_bytes(content[at : at + 4], "little") for at in (10, 14))
    if header < 40:
        return ""
    width, height = (int.from_bytes(content[at : at + 4], "little", signed=True) for at in (18, 22))
    bits, compression = (int.from_bytes(content[at : at + size], "little") for at, size in ((28, 2), (30, 4)))
    expected = start + (abs(width) * bits + 31) // 32 * 4 * abs(height)
    if compression in (0, 3) and len(content) < expected:
        return f"the BMP header asks for {expected} bytes, the file has {len(content)}"
    return ""
