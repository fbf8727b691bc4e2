"""Functions that read images and masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from alpharefine.errors import UserError

_MID_GRAY = 127

_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: Path) -> np.ndarray:
    """Read an image as stored.

    The EXIF orientation is ignored, because annotations refer to the stored pixels.

    Args:
        path: Path of the image.

    Returns:
        RGB image of shape ``(H, W, 3)``, uint8.

    Raises:
        UserError: If the file does not exist or cannot be decoded.
    """
    image = cv2.imread(str(path), _AS_STORED) if path.is_file() else None
    if image is None:
        fault = "cannot decode this image" if path.is_file() else "this image does not exist"
        raise UserError(f"{path}: {fault}; restore it from the data set's archive.")
    return np.asarray(image)


def read_label_image(path: Path) -> np.ndarray:
    """Read a mask image as labels: palette indices of a palette PNG, 0 and 1 of a grayscale or binary image.

    Grayscale masks are thresholded at mid-gray, because their edges may be smoothed.

    Args:
        path: Path of the mask image.

    Returns:
        Labels of shape ``(H, W)``, uint8.

    Raises:
        UserError: If the file does not exist or cannot be decoded, or if a grayscale mask has non-zero values but none
            above mid-gray. Such values are probably labels.
    """
    try:
        with Image.open(path) as image:
            if image.mode == "P":
                return np.array(image, dtype=np.uint8)
            gray = np.array(image.convert("L"))
    except (FileNotFoundError, UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: cannot read this mask ({error}); restore it from the data set's archive.") from error
    if 0 < gray.max() <= _MID_GRAY:
        raise UserError(
            f"{path}: a grayscale mask must be brighter than {_MID_GRAY} on the target, but its maximum is "
            f"{gray.max()}; save labels as a palette image, or the target as 255."
        )
    return (gray > _MID_GRAY).astype(np.uint8)


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
