"""Functions that read images and masks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from alpharefine.crops import CROP_SIZE, Window
from alpharefine.data.jpeg import decode_jpeg, jpeg_header
from alpharefine.data.label_images import LabelImage, labels_of_picture
from alpharefine.data.picture_files import read_picture
from alpharefine.errors import UserError

_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION

_REDUCTIONS = (8, 4, 2)
"""Factors by which a JPEG decoder reduces the resolution at no cost."""


def read_image(path: Path) -> np.ndarray:
    """Read an image as stored.

    The EXIF orientation is ignored, because annotations refer to the stored pixels.

    Args:
        path: Path of the image.

    Returns:
        RGB image of shape ``(H, W, 3)``, uint8.

    Raises:
        UserError: If the file does not exist, is cut or damaged, or cannot be decoded.
    """
    return decode_image(read_picture(path), path)


def decode_image(content: bytes, path: Path) -> np.ndarray:
    """Decode a whole image as stored.

    Args:
        content: Content of the file.
        path: Path of the file, for messages.

    Returns:
        RGB image of shape ``(H, W, 3)``, uint8.

    Raises:
        UserError: If the image cannot be decoded.
    """
    data = np.frombuffer(content, dtype=np.uint8)
    try:
        image = cv2.imdecode(data, _AS_STORED) if data.size else None
    except cv2.error as error:  # too many pixels, or no memory for them
        reason = " ".join(str(error.err).split())
        raise UserError(f"{path}: cannot decode this image ({reason}); restore it.") from error
    if image is None:
        raise UserError(f"{path}: cannot decode this image; restore it.")
    return np.asarray(image)


class Region(NamedTuple):
    """Upper rows of an image, from which windows are cut.

    Attributes:
        pixels: RGB image of shape ``(H, W, 3)``, uint8. It ends below the windows, or at the end of the image.
        reduction: Ratio of the resolution of the image to that of `pixels`: 1, 2, 4 or 8.
        image_size: Height and width of the whole image.
    """

    pixels: np.ndarray
    reduction: int
    image_size: tuple[int, int]

    def cut(self, window: Window) -> np.ndarray:
        """Cut the crop of a window.

        Args:
            window: Window in pixels of the image, one of those that the region was decoded for.

        Returns:
            Crop of shape ``(S, S, 3)``, uint8, with S = `CROP_SIZE`.
        """
        return window.cut(self.pixels) if self.reduction == 1 else window.cut_reduced(self.pixels, self.reduction)


def decode_region(content: bytes, path: Path, windows: Sequence[Window], reduced: bool) -> Region:
    """Decode the part of an image that windows show. Only JPEG images are decoded in part.

    Args:
        content: Content of the file.
        path: Path of the file, for messages.
        windows: Windows in pixels of the image.
        reduced: Reduce the resolution if each window is shrunk by at least the reduction, so that no pixel is enlarged.
            Otherwise the crops are those of the whole image.

    Raises:
        UserError: If the image cannot be decoded.
    """
    header = jpeg_header(content)
    if header is None:
        image = decode_image(content, path)
        return Region(image, 1, image.shape[:2])
    shrinking = min(min(window.width, window.height) for window in windows) / CROP_SIZE
    reduction = next((factor for factor in _REDUCTIONS if reduced and factor <= shrinking), 1)
    num_rows = max(window.y0 + window.height for window in windows)
    try:
        pixels = decode_jpeg(content, header, num_rows, reduction)
    except ValueError as error:
        raise UserError(f"{path}: cannot decode this image ({' '.join(str(error).split())}); restore it.") from error
    return Region(pixels, reduction, (header.height, header.width))


def read_label_image(path: Path) -> np.ndarray:
    """Read a mask image as labels; see `read_labels`.

    Args:
        path: Path of the mask image.

    Returns:
        Labels of shape ``(H, W)``, uint8.

    Raises:
        UserError: If the file does not exist, is damaged, or its labels are ambiguous.
    """
    return read_labels(path).labels


def read_labels(path: Path) -> LabelImage:
    """Read a mask image as labels, and the color of its target; see `decode_labels`.

    Args:
        path: Path of the mask image.

    Raises:
        UserError: If the file does not exist, is damaged, or its labels are ambiguous.
    """
    return decode_labels(read_picture(path), path)


def decode_labels(content: bytes, path: Path) -> LabelImage:
    """Decode a mask image as labels, and the color of its target.

    `alpharefine.data.label_images.labels_of_picture` states which masks are read, and as which labels.

    Args:
        content: Content of the file.
        path: Path of the mask image, for messages.

    Raises:
        UserError: If the image is damaged, or its labels are ambiguous.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
    except Exception as error:  # the decoders raise errors of a dozen types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot read this mask ({reason}); restore it.") from error
    return labels_of_picture(picture, path)


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    """Compute the bounding box of the non-zero pixels of a mask.

    Args:
        mask: Mask of shape ``(H, W)``.

    Returns:
        Box of shape ``(4,)``, float64 xywh in pixels. All zeros if the mask is empty.

    >>> box_of_mask(np.array([[0, 0, 0], [0, 1, 1]])).tolist()
    [1.0, 1.0, 2.0, 1.0]
    """
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not columns.size:
        return np.zeros(4)
    x, y = columns[0], rows[0]
    return np.array([x, y, columns[-1] + 1 - x, rows[-1] + 1 - y], dtype=np.float64)
