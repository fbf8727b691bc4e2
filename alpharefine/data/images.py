"""Functions that read images and masks."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from alpharefine.data.label_images import LabelImage, labels_of_picture
from alpharefine.data.picture_files import read_picture
from alpharefine.errors import UserError

_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


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
    content = np.frombuffer(read_picture(path), dtype=np.uint8)
    try:
        image = cv2.imdecode(content, _AS_STORED) if content.size else None
    except cv2.error as error:  # too many pixels, or no memory for them
        reason = " ".join(str(error.err).split())
        raise UserError(f"{path}: cannot decode this image ({reason}); restore it.") from error
    if image is None:
        raise UserError(f"{path}: cannot decode this image; restore it.")
    return np.asarray(image)


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
    """Read a mask image as labels, and the color of its target.

    `alpharefine.data.label_images.labels_of_picture` states which masks are read, and as which labels.

    Args:
        path: Path of the mask image.

    Raises:
        UserError: If the file does not exist, is damaged, or its labels are ambiguous.
    """
    try:
        with Image.open(io.BytesIO(read_picture(path))) as picture:
            picture.load()
    except UserError:
        raise
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
