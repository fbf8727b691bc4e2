"""What the trackers of the SiamRPN family have in common: the square crop with context, and the ranking of candidates.

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
    """Side of the square of a box with its context: ``sqrt((w + c) * (h + c))``, ``c = (w + h) / 2``.

    Args:
        size: ``(2, ...)``, width and height in pixels.
        half_perimeter: width plus height where it is rounded; None for the exact one.

    Returns:
        ``(...)`` in pixels.
    """
    context = 0.5 * (size.sum(axis=0) if half_perimeter is None else half_perimeter)
    return np.sqrt((size + context).prod(axis=0))


def cut_square(
    frame: np.ndarray, x0: int, y0: int, side: int, crop_size: int, color: Sequence[float] | None = None
) -> np.ndarray:
    """Cut a square out of a frame and resize it. Only its own pixels are read where it lies inside of the frame.

    Args:
        frame: ``(H, W, 3)`` uint8.
        x0: left edge in image pixels; the square may reach over the borders.
        y0: top edge in image pixels.
        side: of the square in image pixels, at least 1.
        crop_size: side of the result in pixels.
        color: of the pixels outside of the frame; None for the frame's mean.

    Returns:
        ``(crop_size, crop_size, 3)`` uint8.
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
    """Softmax over background and target.

    Args:
        logits: ``(2, ...)``, background first.

    Returns:
        ``(...)`` in 0..1.
    """
    exponentials: np.ndarray = np.exp(logits - logits.max(axis=0))
    prob: np.ndarray = exponentials[1] / exponentials.sum(axis=0)
    return prob


def change_penalty(scale_ratio: np.ndarray, aspect_ratio: np.ndarray, strength: float) -> np.ndarray:
    """Factor in 0..1 that lowers the score of candidates whose size or shape differs from the last one's.

    Args:
        scale_ratio: ``(...)``, scale of the candidate over that of the last box.
        aspect_ratio: ``(...)``, aspect of the last box over that of the candidate.
        strength: of the penalty.
    """
    change = np.maximum(scale_ratio, 1 / scale_ratio) * np.maximum(aspect_ratio, 1 / aspect_ratio)
    penalty: np.ndarray = np.exp(-strength * (change - 1))
    return penalty


def hanning_window(size: int) -> np.ndarray:
    """``(size, size)`` float32: OpenCV's window, the root of the product of two Hann windows, 1 in the middle."""
    return cv2.createHanningWindow((size, size), cv2.CV_32F)


class Candidate(NamedTuple):
    """The box of one anchor.

    Attributes:
        position: anchor, row, column.
        shift: ``(2,)``, from the middle of the search crop to the box's center in its pixels.
        size: ``(2,)``, width and height in pixels of the search crop.
        score: probability of being the target.
        penalty: for its change of size and shape, a factor in 0..1.
    """

    position: tuple[int, int, int]
    shift: np.ndarray
    size: np.ndarray
    score: float
    penalty: float


class AnchorGrid:
    """Five anchors of different aspects at each position of a score map of stride 8 (SiamRPN, section 3.2).

    Args:
        window: ``(S, S)``, what each position is preferred by.
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
        """Rank all boxes by score, likeness to the last one and window, and decode the first.

        Args:
            logits: ``(2, 5, S, S)``, background first.
            deltas: ``(4, 5, S, S)``, shift x, y over the anchor's size, logarithm of width, height over it.
            last_size: ``(2,)``, width and height of the last box in pixels of the search crop.
            penalty_strength: of changes in size and shape.
            window_influence: weight of the window, 0..1.
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
    """``(5, 2)`` float32: width and height in pixels of the search crop, cut to whole strides."""
    widths = [int(sqrt(_STRIDE * _STRIDE / ratio)) for ratio in _ANCHOR_RATIOS]
    sizes = [(width, int(width * ratio)) for width, ratio in zip(widths, _ANCHOR_RATIOS, strict=True)]
    return np.array(sizes, dtype=np.float32) * _ANCHOR_SCALE


def smooth_box(
    center: np.ndarray, size: np.ndarray, last_size: np.ndarray, rate: float, image_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Follow the candidate's center at once and its size at a rate, inside of the picture.

    Args:
        center: ``(2,)`` x, y in image pixels.
        size: ``(2,)`` width, height in image pixels.
        last_size: ``(2,)``.
        rate: 0 keeps the last size, 1 takes the candidate's.
        image_size: height and width of the picture.

    Returns:
        Center ``(2,)`` inside of the picture and size ``(2,)``, each side between 10 px and the picture's.
    """
    return limit_box(center, rate * size + (1 - rate) * last_size, image_size)


def limit_box(center: np.ndarray, size: np.ndarray, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Keep a center ``(2,)`` inside of the picture and each side of a size ``(2,)`` between 10 px and the picture's.

    Args:
        center: x, y in image pixels.
        size: width, height in image pixels.
        image_size: height and width of the picture.
    """
    limit = np.array(image_size[::-1], dtype=np.float64)
    return np.clip(center, 0, limit), np.maximum(np.minimum(size, limit), 10)
