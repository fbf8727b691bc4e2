"""Crops with context and ranking of candidates, shared by the trackers of the SiamRPN family.

Sources: SiamFC (arXiv 1606.09549, section 2.4) for the context, SiamRPN (CVPR 2018, section 4.3) for the penalties.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, NamedTuple

import cv2
import numpy as np

_STRIDE = 8
_ANCHOR_RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)
_ANCHOR_SCALE = 8


def context_side(size: np.ndarray, half_perimeter: float | None = None) -> Any:
    """Return the side of the square around a box with context: ``sqrt((w + c) * (h + c))`` with ``c = (w + h) / 2``.

    Args:
        size: Width and height in pixels, ``(2, ...)``.
        half_perimeter: Rounded sum of width and height; None for the exact sum.

    Returns:
        Side in pixels, ``(...)``.
    """
    context = 0.5 * (size.sum(axis=0) if half_perimeter is None else half_perimeter)
    return np.sqrt((size + context).prod(axis=0))


def cut_square(
    frame: np.ndarray, x0: int, y0: int, side: int, crop_size: int, color: Sequence[float] | None = None
) -> np.ndarray:
    """Crop a square of a frame and resize it. If the square lies inside the frame, only its pixels are read.

    Args:
        frame: Frame, ``(H, W, 3)`` uint8.
        x0: Left edge of the square in image pixels; it may lie outside the frame.
        y0: Top edge of the square in image pixels; it may lie outside the frame.
        side: Side of the square in image pixels, at least 1.
        crop_size: Side of the result in pixels.
        color: Color of the pixels outside the frame; None for the mean color of the frame.

    Returns:
        Crop, ``(crop_size, crop_size, 3)`` uint8.
    """
    height, width = frame.shape[:2]
    left, top = max(x0, 0), max(y0, 0)
    right, bottom = min(x0 + side, width), min(y0 + side, height)
    patch = frame[top : max(bottom, top), left : max(right, left)]
    if patch.shape[:2] != (side, side):
        color = cv2.mean(frame) if color is None else color
        if patch.size == 0:
            return np.full((crop_size, crop_size, 3), np.rint(color[:3]), dtype=np.uint8)
        borders = (top - y0, y0 + side - bottom, left - x0, x0 + side - right)
        patch = cv2.copyMakeBorder(patch, *borders, cv2.BORDER_CONSTANT, value=color)
    return cv2.resize(patch, (crop_size, crop_size))


def target_prob(logits: np.ndarray) -> np.ndarray:
    """Return the probability of the target: softmax over background and target.

    Args:
        logits: Logits ``(2, ...)``, background first.

    Returns:
        Probabilities ``(...)`` in 0..1.
    """
    exponentials: np.ndarray = np.exp(logits - logits.max(axis=0))
    prob: np.ndarray = exponentials[1] / exponentials.sum(axis=0)
    return prob


def change_penalty(scale_ratio: np.ndarray, aspect_ratio: np.ndarray, strength: float) -> np.ndarray:
    """Return factors in 0..1 that reduce the scores of candidates whose size or aspect ratio differs from the last box.

    Args:
        scale_ratio: Ratio of the candidate's scale to that of the last box, ``(...)``.
        aspect_ratio: Ratio of the last box's aspect ratio to that of the candidate, ``(...)``.
        strength: Strength of the penalty.
    """
    change = np.maximum(scale_ratio, 1 / scale_ratio) * np.maximum(aspect_ratio, 1 / aspect_ratio)
    penalty: np.ndarray = np.exp(-strength * (change - 1))
    return penalty


def hanning_window(size: int) -> np.ndarray:
    """Return OpenCV's window ``(size, size)`` float32: the root of the product of two Hann windows, 1 in the middle.

    Args:
        size: Side of the window in cells.
    """
    return cv2.createHanningWindow((size, size), cv2.CV_32F)


class Candidate(NamedTuple):
    """Candidate box of one anchor.

    Attributes:
        position: Indices of anchor, row and column.
        shift: Vector from the middle of the search crop to the center of the box, ``(2,)`` in crop pixels.
        size: Width and height in crop pixels, ``(2,)``.
        score: Probability of the target.
        penalty: Factor in 0..1 for the change of size and aspect ratio.
    """

    position: tuple[int, int, int]
    shift: np.ndarray
    size: np.ndarray
    score: float
    penalty: float


class AnchorGrid:
    """Five anchors with different aspect ratios at each position of a score map of stride 8 (SiamRPN, section 3.2).

    Args:
        window: Preference of each position, ``(S, S)``.
    """

    def __init__(self, window: np.ndarray) -> None:
        self._window = window
        self.sizes = anchor_sizes()
        self.offsets = (np.arange(len(window), dtype=np.float32) - len(window) // 2) * _STRIDE

    def best(
        self,
        logits: np.ndarray,
        deltas: np.ndarray,
        last_size: np.ndarray,
        penalty_strength: float,
        window_influence: float,
    ) -> Candidate:
        """Return the candidate with the highest combination of score, penalty and window.

        Args:
            logits: Logits ``(2, 5, S, S)``, background first.
            deltas: Box deltas ``(4, 5, S, S)``: shift x and y divided by the anchor's size, logarithms of the ratios of
                width and height.
            last_size: Width and height of the last box in crop pixels, ``(2,)``.
            penalty_strength: Strength of the penalty for changes of size and aspect ratio.
            window_influence: Weight of the window in 0..1.
        """
        sizes = np.exp(deltas[2:]) * self.sizes.T[:, :, None, None]
        aspect_ratio = (last_size[0] / last_size[1]) / (sizes[0] / sizes[1])
        score = target_prob(logits)
        penalty = change_penalty(context_side(sizes) / context_side(last_size), aspect_ratio, penalty_strength)
        ranking = penalty * score * (1 - window_influence) + self._window * window_influence

        anchor, row, column = (int(i) for i in np.unravel_index(ranking.argmax(), ranking.shape))
        best = anchor, row, column
        shift = deltas[:2, *best] * self.sizes[anchor] + self.offsets[[column, row]]
        return Candidate(best, shift, sizes[:, *best], float(score[best]), float(penalty[best]))


def anchor_sizes() -> np.ndarray:
    """Return width and height of the anchors in crop pixels, ``(5, 2)`` float32, truncated to whole strides."""
    widths = [int(sqrt(_STRIDE * _STRIDE / ratio)) for ratio in _ANCHOR_RATIOS]
    sizes = [(width, int(width * ratio)) for width, ratio in zip(widths, _ANCHOR_RATIOS, strict=True)]
    return np.array(sizes, dtype=np.float32) * _ANCHOR_SCALE


def smooth_box(
    center: np.ndarray, size: np.ndarray, last_size: np.ndarray, rate: float, image_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a box with the candidate's center and a smoothed size, limited to the image.

    Args:
        center: Center x and y of the candidate, ``(2,)`` in image pixels.
        size: Width and height of the candidate, ``(2,)`` in image pixels.
        last_size: Width and height of the last box, ``(2,)`` in image pixels.
        rate: Weight of the candidate's size in 0..1.
        image_size: Height and width of the image in pixels.

    Returns:
        Center ``(2,)`` inside the image, and size ``(2,)`` with sides between 10 px and those of the image.
    """
    return limit_box(center, rate * size + (1 - rate) * last_size, image_size)


def limit_box(center: np.ndarray, size: np.ndarray, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Limit a center to the image, and each side of a size to the range from 10 px to the side of the image.

    Args:
        center: Center x and y, ``(2,)`` in image pixels.
        size: Width and height, ``(2,)`` in image pixels.
        image_size: Height and width of the image in pixels.
    """
    limit = np.array(image_size[::-1], dtype=np.float64)
    return np.clip(center, 0, limit), np.maximum(np.minimum(size, limit), 10)
