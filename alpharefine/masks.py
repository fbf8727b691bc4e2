"""From a mask to a box."""

from __future__ import annotations

import cv2
import numpy as np

MASK_THRESHOLD = 0.5
"""A pixel belongs to the target if its probability is greater."""

MIN_CONTOUR_AREA = 100.0
"""Square pixels that the largest outline must enclose to be trusted (from the original's mask-to-box rule)."""


def mask_to_box(mask: np.ndarray, threshold: float = MASK_THRESHOLD) -> np.ndarray | None:
    """The box around the largest connected part of a mask.

    Args:
        mask: ``(H, W)`` probabilities.
        threshold: above which a pixel belongs to the target.

    Returns:
        ``(4,)`` float64 xywh, or None if the largest part's outline encloses no more than `MIN_CONTOUR_AREA`.
    """
    binary = (mask > threshold).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    largest = max(contours, key=cv2.contourArea)
    if cv2.contourArea(largest) <= MIN_CONTOUR_AREA:
        return None
    return np.array(cv2.boundingRect(largest), dtype=np.float64)
