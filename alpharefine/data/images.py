"""Reading pictures and masks from disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from alpharefine.errors import UserError

_HALF_GREY = 127

_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: Path) -> np.ndarray:
    """Read a picture as it is stored: annotations do not know of a camera's note that it be shown rotated.

    Returns:
        ``(H, W, 3)`` RGB uint8.

    Raises:
        UserError: if the file is missing or does not decode.
    """
    image = cv2.imread(str(path), _AS_STORED) if path.is_file() else None
    if image is None:
        fault = "this picture does not decode" if path.is_file() else "no such picture"
        raise UserError(f"{path}: {fault}; restore it from the data set's archive.")
    return np.asarray(image)


def read_label_image(path: Path) -> np.ndarray:
    """Read a mask picture as labels: palette indices of a palette PNG, 0/1 of a grey or binary one.

    A grey mask is cut above half grey, as its edges may be smoothed.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        UserError: if the file is missing or does not decode, or is a grey one without anything above half grey though
            it is not black: its values are labels then, and cannot be told from shades.
    """
    try:
        with Image.open(path) as image:
            if image.mode == "P":
                return np.array(image, dtype=np.uint8)
            grey = np.array(image.convert("L"))
    except (FileNotFoundError, UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: this mask is missing or does not decode ({error}); restore it.") from error
    if 0 < grey.max() <= _HALF_GREY:
        raise UserError(
            f"{path}: a grey mask must be brighter than {_HALF_GREY} on the target, and this one is at most "
            f"{grey.max()}; save labels as a palette picture, or the target as 255."
        )
    return (grey > _HALF_GREY).astype(np.uint8)


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    """The smallest box around the non-zero pixels.

    Args:
        mask: ``(H, W)``.

    Returns:
        ``(4,)`` float64 xywh; all zero if the mask is empty.

    >>> box_of_mask(np.array([[0, 0, 0], [0, 1, 1]])).tolist()
    [1.0, 1.0, 2.0, 1.0]
    """
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not columns.size:
        return np.zeros(4)
    x, y = columns[0], rows[0]
    return np.array([x, y, columns[-1] + 1 - x, rows[-1] + 1 - y], dtype=np.float64)
