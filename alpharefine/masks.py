"""Conversion of masks to boxes."""

from __future__ import annotations

import cv2
import numpy as np

MASK_THRESHOLD = 0.5
"""Pixels with a higher probability belong to the target."""

MIN_CONTOUR_AREA = 100.0
"""Area in square pixels that the largest contour must exceed (mask-to-box rule of the original code)."""


def mask_to_box(mask: np.ndarray, threshold: float = MASK_THRESHOLD) -> np.ndarray | None:
    """Compute the bounding box of the largest connected component of a mask.

    Args:
        mask: Probability map of shape ``(H, W)``.
        threshold: Pixels with a higher probability belong to the target.

    Returns:
        Box of shape ``(4,)``, float64 xywh in pixels, or None if the largest contour does not enclose more than
        `MIN_CONTOUR_AREA`.
    """
    binary = (mask > threshold).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    largest = max(contours, key=cv2.contourArea)
    if cv2.contourArea(largest) <= MIN_CONTOUR_AREA:
        return None
    return np.array(cv2.boundingRect(largest), dtype=np.float64)
