"""Axis-aligned boxes: the one place where box formats meet.

Every box inside the library is float and in continuous pixel coordinates: pixel ``i`` covers ``[i, i + 1)``, a picture
spans ``[0, W] x [0, H]`` and a box covers ``[x1, x2] x [y1, y2]``. Two formats are used and every variable says which
one it holds: ``xyxy`` (two corners) and ``xywh`` (top-left corner and size).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def xywh_to_xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    """Convert corner-and-size boxes to two-corner boxes.

    Args:
        boxes_xywh: ``(..., 4)``, x, y, width, height.

    Returns:
        ``(..., 4)``, x1, y1, x2, y2, a new array.

    >>> xywh_to_xyxy(np.array([10.0, 20.0, 30.0, 40.0])).tolist()
    [10.0, 20.0, 40.0, 60.0]
    """
    x, y, w, h = (boxes_xywh[..., i] for i in range(4))
    return np.stack([x, y, x + w, y + h], axis=-1)


def xyxy_to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Convert two-corner boxes to corner-and-size boxes.

    Args:
        boxes_xyxy: ``(..., 4)``, x1, y1, x2, y2.

    Returns:
        ``(..., 4)``, x, y, width, height, a new array. Sizes are negative where
        corners are out of order.

    >>> xyxy_to_xywh(np.array([10.0, 20.0, 40.0, 60.0])).tolist()
    [10.0, 20.0, 30.0, 40.0]
    """
    x1, y1, x2, y2 = (boxes_xyxy[..., i] for i in range(4))
    return np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1)


def paired_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Intersection over union of the boxes that stand at the same place in two lists.

    Boxes whose corners are out of order count as empty. The IoU of two empty boxes is 0.

    Args:
        a_xyxy: ``(..., 4)``.
        b_xyxy: ``(..., 4)``.

    Returns:
        ``(...)``, in 0..1.

    >>> paired_iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 2.0, 2.0])).item()
    0.5
    """
    low = torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = _area(a_xyxy) + _area(b_xyxy) - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def _area(boxes_xyxy: Tensor) -> Tensor:
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0).prod(-1)


def clip_to_image(boxes_xyxy: np.ndarray, image_size: tuple[int, int], min_size: float = 10.0) -> np.ndarray:
    """Put boxes inside the picture, corners in order, no side shorter than a least size.

    Deviation: the original's clip can leave boxes of 3 x 4 px and corners out of order; this one orders the corners,
    clamps them, and widens a side that is too short about its centre, shifted to stay inside.

    Args:
        boxes_xyxy: ``(..., 4)`` in image pixels.
        image_size: height and width of the picture.
        min_size: least side in pixels; no more than the picture's own side is asked for.

    Returns:
        ``(..., 4)`` xyxy, inside ``[0, W] x [0, H]``.

    >>> clip_to_image(np.array([-5.0, 50.0, 2.0, 20.0]), (100, 200)).tolist()
    [0.0, 20.0, 10.0, 50.0]
    """
    height, width = image_size
    length = np.array([width, height], dtype=np.float64)
    least = np.minimum(min_size, length)
    corners = np.asarray(boxes_xyxy, dtype=np.float64)
    low = np.minimum(corners[..., :2], corners[..., 2:]).clip(0, length)
    high = np.maximum(corners[..., :2], corners[..., 2:]).clip(0, length)
    centre = ((low + high) / 2).clip(least / 2, length - least / 2)
    short = high - low < least
    low = np.where(short, centre - least / 2, low)
    high = np.where(short, centre + least / 2, high)
    return np.concatenate([low, high], axis=-1)


def clip_as_original(boxes_xyxy: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Put boxes inside the picture as the authors' code does; it can leave 3 x 4 px and corners out of order.

    Args:
        boxes_xyxy: ``(..., 4)`` in image pixels.
        image_size: height and width of the picture.

    Returns:
        ``(..., 4)`` xyxy.

    >>> clip_as_original(np.array([-5.0, 50.0, 2.0, 20.0]), (100, 200)).tolist()
    [0.0, 50.0, 10.0, 20.0]
    """
    margin = 10.0
    length = np.array(image_size[::-1], dtype=np.float64)
    corners = np.asarray(boxes_xyxy, dtype=np.float64)
    low = np.maximum(0, np.minimum(corners[..., :2], length - margin))
    high = np.maximum(margin, np.minimum(corners[..., 2:], length))
    return np.concatenate([low, high], axis=-1)


def is_valid(boxes_xywh: np.ndarray) -> np.ndarray:
    """Tell which boxes are finite and have a positive width and height.

    Args:
        boxes_xywh: ``(..., 4)``.

    Returns:
        ``(...)`` bool.
    """
    valid: np.ndarray = np.isfinite(boxes_xywh).all(-1) & (boxes_xywh[..., 2:] > 0).all(-1)
    return valid
