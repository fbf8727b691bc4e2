"""Generated videos: a textured square moves over a smooth background."""

from __future__ import annotations

import cv2
import numpy as np


def texture(rng: np.random.Generator, height: int, width: int, blur: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.random((height, width, 3)).astype(np.float32), (0, 0), blur)
    stretched = (noise - noise.min()) / (noise.max() - noise.min())
    return (255 * stretched).astype(np.uint8)


def moving_texture(
    num_frames: int, *, size: int = 40, growth: float = 1.0, step: tuple[float, float] = (3.0, 2.0), seed: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """RGB frames of 240 x 320 and the true boxes ``(N, 4)`` xywh of a square that starts at (60, 50)."""
    rng = np.random.default_rng(seed)
    background, patch = texture(rng, 240, 320, 12) // 2, texture(rng, 64, 64, 2)
    frames, boxes = [], []
    for index in range(num_frames):
        side = round(size * growth**index)
        x, y = round(60 + step[0] * index), round(50 + step[1] * index)
        frame = background.copy()
        frame[y : y + side, x : x + side] = cv2.resize(patch, (side, side))
        frames.append(frame)
        boxes.append((x, y, side, side))
    return frames, np.array(boxes, dtype=np.float64)


def bgr(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[..., ::-1])
