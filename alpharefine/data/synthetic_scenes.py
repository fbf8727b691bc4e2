"""Synthetic video and pictures with exact boxes and masks.

A scene is a textured object over a textured background. The object wanders, turns, grows and shrinks in width and height
apart, is passed by an occluder, and in some sequences leaves the picture and comes back. A sequence depends on its seed,
its index, its length and its frame size alone: the same four give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from alpharefine.data.synthetic_drawing import (
    SHAPES,
    Layer,
    Palette,
    Shape,
    Sprite,
    draw_background,
    scale_and_rotate,
)
from alpharefine.errors import UserError

FRAME_SIZE = (240, 320)
"""Height and width of a frame in pixels unless others are asked for."""

FULL_OCCLUSION_RATIO = 0.05
"""A target of which less than this share is visible counts as fully occluded."""

_MIN_SIDE = 48
_MIN_VISIBLE_PIXELS = 30
"""Objects in a picture of which less than this is visible are not annotated."""

_EVENT_FRAMES, _MIN_EVENT_FRAMES = 60, 12
"""Each stretch of so many frames holds one event at most; a last stretch that is shorter than the second holds none."""

_NOISE_MARGIN = 64
"""The sensor noise of a frame is cut at random from a field that is larger than the frame by this much."""

_SEQUENCE_STREAM, _PICTURE_STREAM = 1, 2
"""First word of the random seed, which keeps sequence i and picture i apart."""


@dataclass(frozen=True)
class SyntheticSequence:
    """A generated video with its ground truth.

    Attributes:
        name: class and number in LaSOT's manner, such as ``blob-3``.
        frames: N pictures ``(H, W, 3)`` RGB uint8.
        boxes_xywh: ``(N, 4)`` float64 in pixels, the tight box of the whole target, occluded parts included, clipped to the
            picture; zeros where the target is out of view.
        masks: ``(N, H, W)`` uint8, 1 on the visible part of the target.
        full_occlusion: ``(N,)`` bool, in view but less than 5 % of the whole target is visible.
        out_of_view: ``(N,)`` bool, no pixel of the target lies in the picture.
        visible_ratio: ``(N,)`` float64 in 0..1, visible share of the whole target.
        cut_by_image: ``(N,)`` bool, a border of the picture cuts the target.
    """

    name: str
    frames: list[np.ndarray]
    boxes_xywh: np.ndarray
    masks: np.ndarray
    full_occlusion: np.ndarray
    out_of_view: np.ndarray
    visible_ratio: np.ndarray
    cut_by_image: np.ndarray

    @property
    def shape(self) -> str:
        """The class of the target, the first part of the name."""
        return self.name.rpartition("-")[0]


@dataclass(frozen=True)
class _Actor:
    """A sprite and where it goes: centres ``(N, 2)``, matrices ``(N, 2, 2)``, and ``(N,)`` whether it is drawn."""

    sprite: Sprite
    centres: np.ndarray
    matrices: np.ndarray
    present: np.ndarray

    def layer(self, frame: int) -> Layer:
        return self.sprite.place(self.matrices[frame], self.centres[frame])

    def half_extents(self) -> np.ndarray:
        """Half the width and height of the sprite's box in each frame, ``(N, 2)``."""
        return np.asarray(np.abs(self.sprite.outline_px @ self.matrices.swapaxes(1, 2)).max(axis=1))


def generate_sequence(
    seed: int, index: int, num_frames: int = 60, frame_size: tuple[int, int] = FRAME_SIZE
) -> SyntheticSequence:
    """Generate one video.

    In every stretch of 60 frames (a last one may be shorter, from 12 on) the target may be occluded in part, occluded wholly,
    or leave the picture and come back. The first frame always shows the whole target.

    Args:
        seed: of the data set, at least 0.
        index: of the sequence in the data set, at least 0.
        num_frames: length, at least 1.
        frame_size: height and width in pixels, at least 48 each.

    Raises:
        UserError: if an argument is below its least value.
    """
    _check(seed, index, frame_size)
    if num_frames < 1:
        raise UserError(f"`num_frames` must be at least 1, got {num_frames}; ask for a longer sequence.")
    rng = np.random.default_rng([_SEQUENCE_STREAM, seed, index])
    shape = SHAPES[index % len(SHAPES)]
    background_palette = Palette.draw(rng, rng.random(), rng.uniform(0.25, 0.75))
    target_palette = Palette.apart_from(rng, background_palette)
    target = _target(rng, shape, num_frames, frame_size, target_palette)
    occluders = _stage_events(rng, target, frame_size, target_palette)
    backgrounds = _pan(rng, num_frames, frame_size, background_palette)
    shots = [_shoot(picture, frame, target, occluders) for frame, picture in enumerate(backgrounds)]
    amodal, visible, whole_areas = (list(column) for column in zip(*shots, strict=True))
    return _with_truth(f"{shape}-{index + 1}", frames, np.stack(amodal), np.stack(visible), np.array(whole_areas))
