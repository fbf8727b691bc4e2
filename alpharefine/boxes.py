"""Axis-aligned boxes and conversions between box formats.

Inside the library, boxes are floating point and in continuous pixel coordinates: pixel ``i`` covers ``[i, i + 1)``, an
image spans ``[0, W] x [0, H]`` and a box covers ``[x1, x2] x [y1, y2]``. There are two formats, and every variable name
states its format: ``xyxy`` (two corners) and ``xywh`` (top-left corner and size).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

ImageSize: TypeAlias = tuple[int, int] | tuple[np.ndarray, np.ndarray]
"""Height and width of an image, or two arrays ``(N,)`` with those of N images."""

LEAVING_SHARE = 0.2
"""Share of boxes that leave the image above which their format is in doubt."""

MARGIN = 0.1
"""Part of the image's side that a box may leave it by before it counts as leaving."""


def xywh_to_xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    """Convert boxes from xywh to xyxy format.

    Args:
        boxes_xywh: Boxes of shape ``(..., 4)``: x, y, width, height.

    Returns:
        New array of shape ``(..., 4)`` with x1, y1, x2, y2.

    >>> xywh_to_xyxy(np.array([10.0, 20.0, 30.0, 40.0])).tolist()
    [10.0, 20.0, 40.0, 60.0]
    """
    low, size = boxes_xywh[..., :2], boxes_xywh[..., 2:]
    return np.concatenate([low, low + size], axis=-1)


def xyxy_to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Convert boxes from xyxy to xywh format.

    Args:
        boxes_xyxy: Boxes of shape ``(..., 4)``: x1, y1, x2, y2.

    Returns:
        New array of shape ``(..., 4)`` with x, y, width, height. The size is negative where the corners are out of
        order.

    >>> xyxy_to_xywh(np.array([10.0, 20.0, 40.0, 60.0])).tolist()
    [10.0, 20.0, 30.0, 40.0]
    """
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([low, high - low], axis=-1)


def are_corners(boxes_xywh: np.ndarray, image_size: tuple[int, int]) -> bool:
    """Return True if more than `LEAVING_SHARE` of the boxes leave the image, and all fit it as x1, y1, x2, y2.

    Args:
        boxes_xywh: Boxes of shape ``(N, 4)`` in pixels; those without a finite positive size are ignored.
        image_size: Height and width of the image.

    >>> are_corners(np.array([[200.0, 150, 220, 200]]), (240, 360))
    True
    >>> are_corners(np.array([[200.0, 150, 160, 90]]), (240, 360))
    False
    """
    x, y, w, h = boxes_xywh[is_valid(boxes_xywh)].T
    height, width = image_size
    leaving = (x + w > (1 + MARGIN) * width) | (y + h > (1 + MARGIN) * height)
    fits = (w > x) & (h > y) & (w <= width + 1) & (h <= height + 1)
    return bool(len(x) and leaving.mean() > LEAVING_SHARE and fits.all())


def paired_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Compute the intersection over union of corresponding boxes.

    A box with corners out of order is empty. The IoU of two empty boxes is 0.

    Args:
        a_xyxy: Boxes of shape ``(..., 4)``.
        b_xyxy: Boxes of shape ``(..., 4)``.

    Returns:
        IoU in [0, 1] of shape ``(...)``.

    >>> import torch
    >>> paired_iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 2.0, 2.0])).item()
    0.5
    """
    import torch  # The data set readers import this module and do not need torch.

    low = torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = _area(a_xyxy) + _area(b_xyxy) - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def _area(boxes_xyxy: Tensor) -> Tensor:
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0).prod(-1)


def clip_to_image(boxes_xyxy: np.ndarray, image_size: ImageSize, min_size: float = 10.0) -> np.ndarray:
    """Clip boxes to an image, order their corners and enforce a minimum side length.

    Deviation: clipping in the original code can leave boxes of 3 x 4 pixels and corners out of order. This function
    orders the corners, clamps them, and expands short sides about their center, shifted to stay inside the image.

    Args:
        boxes_xyxy: Boxes of shape ``(..., 4)`` in image pixels.
        image_size: Height and width of the image, or two arrays ``(N,)`` with those of the images of N boxes.
        min_size: Minimum side length in pixels. An image side shorter than this is the minimum along its axis.

    Returns:
        Boxes of shape ``(..., 4)``, xyxy inside ``[0, W] x [0, H]``.

    >>> clip_to_image(np.array([-5.0, 50.0, 2.0, 20.0]), (100, 200)).tolist()
    [0.0, 20.0, 10.0, 50.0]
    """
    length = np.array(image_size[::-1]).T
    least = np.minimum(min_size, length)
    # Outside the image, `low` exceeds `high`, which makes the box short.
    low = np.maximum(0, np.minimum(boxes_xyxy[..., :2], boxes_xyxy[..., 2:]))
    high = np.minimum(length, np.maximum(boxes_xyxy[..., :2], boxes_xyxy[..., 2:]))
    short = high - low < least
    if short.any():
        center = ((low + high) / 2).clip(least / 2, length - least / 2)
        low = np.where(short, center - least / 2, low)
        high = np.where(short, center + least / 2, high)
    return np.concatenate([low, high], axis=-1)


def clip_as_original(boxes_xyxy: np.ndarray, image_size: ImageSize) -> np.ndarray:
    """Clip boxes to an image as the original code does.

    The result can be as small as 3 x 4 pixels and have corners out of order.

    Args:
        boxes_xyxy: Boxes of shape ``(..., 4)`` in image pixels.
        image_size: Height and width of the image, or two arrays ``(N,)`` with those of the images of N boxes.

    Returns:
        Boxes of shape ``(..., 4)``, xyxy.

    >>> clip_as_original(np.array([-5.0, 50.0, 2.0, 20.0]), (100, 200)).tolist()
    [0.0, 50.0, 10.0, 20.0]
    """
    margin = 10.0
    length = np.array(image_size[::-1]).T
    low = np.maximum(0, np.minimum(boxes_xyxy[..., :2], length - margin))
    high = np.maximum(margin, np.minimum(boxes_xyxy[..., 2:], length))
    return np.concatenate([low, high], axis=-1)


def is_valid(boxes_xywh: np.ndarray) -> np.ndarray:
    """Test which boxes are finite and have a positive width and height.

    Args:
        boxes_xywh: Boxes of shape ``(..., 4)``.

    Returns:
        Boolean array of shape ``(...)``.
    """
    valid: np.ndarray = np.isfinite(boxes_xywh).all(-1) & (boxes_xywh[..., 2:] > 0).all(-1)
    return valid
