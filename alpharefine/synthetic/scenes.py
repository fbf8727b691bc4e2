"""Synthetic video and pictures with exact boxes and masks.

A scene is a textured object over a textured background. The object wanders, turns, grows and shrinks in width and
height apart, is passed by an occluder, and in some sequences leaves the picture and comes back. A sequence depends on
its seed, its index, its length and its frame size alone: the same four give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from alpharefine.data.images import box_of_mask
from alpharefine.errors import UserError
from alpharefine.synthetic.drawing import (
    SHAPES,
    Layer,
    Palette,
    Shape,
    Sprite,
    draw_background,
    scale_and_rotate,
)

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
        boxes_xywh: ``(N, 4)`` float64 in pixels, the tight box of the whole target, occluded parts included, clipped to
            the picture; zeros where the target is out of view.
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
    """A sprite and its way: centres ``(N, 2)``, linear maps ``(N, 2, 2)``, and ``(N,)`` whether it is in the scene."""

    sprite: Sprite
    centres: np.ndarray
    matrices: np.ndarray
    present: np.ndarray

    def layer(self, frame: int) -> Layer:
        return self.sprite.place(self.matrices[frame], self.centres[frame])

    def half_extents(self) -> np.ndarray:
        """Half the width and half the height of the sprite's box, about its centre, in each frame: ``(N, 2)``."""
        return np.asarray(np.abs(self.sprite.outline_px @ self.matrices.swapaxes(1, 2)).max(axis=1))


@dataclass(frozen=True)
class _Take:
    """A painted frame: the target's mask ``(H, W)`` with and without what hides it, and its whole area in pixels."""

    picture: np.ndarray
    whole_mask: np.ndarray
    visible_mask: np.ndarray
    whole_area: int


def generate_sequence(
    seed: int, index: int, num_frames: int = 60, frame_size: tuple[int, int] = FRAME_SIZE
) -> SyntheticSequence:
    """Generate one video.

    In every stretch of 60 frames (the last may be shorter, from 12 on) the target may be occluded in part, be occluded
    wholly, or leave the picture and come back. The first frame always shows the whole target.

    Args:
        seed: of the data set, at least 0.
        index: of the sequence in the data set, at least 0.
        num_frames: length, at least 1.
        frame_size: height and width in pixels, at least 48 each.

    Raises:
        UserError: if an argument is below its least value.
    """
    _check(seed, index, frame_size)
    require_at_least("num_frames", num_frames, 1)
    rng = np.random.default_rng([_SEQUENCE_STREAM, seed, index])
    shape = SHAPES[index % len(SHAPES)]
    background_palette = Palette.draw(rng, rng.random(), rng.uniform(0.25, 0.75))
    target_palette = Palette.apart_from(rng, background_palette)
    target = _cast_target(rng, shape, num_frames, frame_size, target_palette)
    target, occluders = _stage_events(rng, target, frame_size, target_palette)
    backgrounds = _pan(rng, num_frames, frame_size, background_palette)
    takes = [_take(picture, frame, target, occluders) for frame, picture in enumerate(backgrounds)]
    whole = np.stack([take.whole_mask for take in takes])
    visible = np.stack([take.visible_mask for take in takes])
    areas = np.array([take.whole_area for take in takes])
    in_view = np.asarray(whole.any(axis=(1, 2)))
    visible_ratio = visible.sum(axis=(1, 2)) / areas
    return SyntheticSequence(
        name=f"{shape}-{index + 1}",
        frames=_expose(rng, [take.picture for take in takes]),
        boxes_xywh=np.stack([box_of_mask(mask) for mask in whole]),
        masks=visible.astype(np.uint8),
        full_occlusion=in_view & (visible_ratio < FULL_OCCLUSION_RATIO),
        out_of_view=~in_view,
        visible_ratio=visible_ratio,
        cut_by_image=in_view & (whole.sum(axis=(1, 2)) < areas),
    )


def generate_picture(
    seed: int, index: int, frame_size: tuple[int, int] = FRAME_SIZE
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Generate one picture of 2 to 6 objects, which may overlap and reach over the borders.

    Args:
        seed: of the data set, at least 0.
        index: of the picture in the data set, at least 0.
        frame_size: height and width in pixels, at least 48 each.

    Returns:
        The picture ``(H, W, 3)`` RGB uint8, and the visible part of each object ``(H, W)`` uint8, 0 or 1, the rearmost
        first. Objects of which fewer than 30 pixels are visible have no mask.

    Raises:
        UserError: if an argument is below its least value.
    """
    _check(seed, index, frame_size)
    rng = np.random.default_rng([_PICTURE_STREAM, seed, index])
    background_palette = Palette.draw(rng, rng.random(), rng.uniform(0.25, 0.75))
    picture = draw_background(rng, frame_size, background_palette)
    masks: list[np.ndarray] = []
    for _ in range(rng.integers(2, 7)):
        shape = SHAPES[rng.integers(len(SHAPES))]
        half_width, half_height = rng.uniform(0.08, 0.26, size=2) * min(frame_size)
        sprite = Sprite.draw(rng, shape, (half_width, half_height), Palette.apart_from(rng, background_palette))
        centre = rng.uniform(0.08, 0.92, size=2) * frame_size[::-1]
        layer = sprite.place(scale_and_rotate(rng.uniform(0, 2 * np.pi)), centre)
        layer.paint(picture)
        front = layer.frame_mask(frame_size)
        masks = [mask & ~front for mask in masks] + [front]
    seen = [mask.astype(np.uint8) for mask in masks if mask.sum() >= _MIN_VISIBLE_PIXELS]
    return _expose(rng, [picture])[0], seen


def require_at_least(argument: str, value: int, least: int) -> None:
    """Check a number that a user gives.

    Raises:
        UserError: if it is below its least value.
    """
    if value < least:
        raise UserError(f"Synthetic data: `{argument}` must be at least {least}, got {value}; give a larger one.")


def _check(seed: int, index: int, frame_size: tuple[int, int]) -> None:
    require_at_least("seed", seed, 0)
    require_at_least("index", index, 0)
    require_at_least("frame_size (each side)", min(frame_size), _MIN_SIDE)


def _wander(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """A smooth random course in -1..1: three sinusoids with periods of 60 to 180 frames, ``(N,)``."""
    periods, phases = rng.uniform(60, 180, size=3), rng.uniform(0, 2 * np.pi, size=3)
    waves = np.sin(2 * np.pi * np.arange(num_frames)[:, None] / periods + phases)
    return np.asarray(waves @ rng.dirichlet(np.ones(3)))


def _change(rng: np.random.Generator, num_frames: int, factor: float) -> np.ndarray:
    """A smooth course of a size that starts at 1 and stays between 1 / factor and factor, ``(N,)``."""
    course = _wander(rng, num_frames)
    return np.asarray(factor ** np.tanh(1.2 * (course - course[0])))


def _cast_target(
    rng: np.random.Generator, shape: Shape, num_frames: int, frame_size: tuple[int, int], palette: Palette
) -> _Actor:
    """The target and its way before anything happens to it."""
    half = rng.uniform(0.1, 0.16) * min(frame_size)
    stretch = rng.uniform(0.75, 1.33)
    sprite = Sprite.draw(rng, shape, (half * stretch, half / stretch), palette)
    angles = rng.uniform(0, 2 * np.pi) + 0.6 * _wander(rng, num_frames)
    scales = _change(rng, num_frames, 2.0)
    widths, heights = (scales * _change(rng, num_frames, 1.4) for _ in range(2))
    matrices = np.stack([scale_and_rotate(*each) for each in zip(angles, widths, heights, strict=True)])
    size = np.array(frame_size[::-1])
    course = np.stack([_wander(rng, num_frames), _wander(rng, num_frames)], axis=-1)
    actor = _Actor(sprite, size * (0.5 + 0.3 * course), matrices, np.ones(num_frames, dtype=bool))
    margin = actor.half_extents()[0] + 2
    first_shift = actor.centres[0].clip(margin, size - margin) - actor.centres[0]
    fading = np.exp(-np.arange(num_frames) / 20.0)[:, None]
    return replace(actor, centres=actor.centres + first_shift * fading)


def _stage_events(
    rng: np.random.Generator, target: _Actor, frame_size: tuple[int, int], palette: Palette
) -> tuple[_Actor, list[_Actor]]:
    """Let things happen to the target: its new way, and the occluders that pass it."""
    occluders = []
    num_frames = len(target.centres)
    for start in range(0, num_frames, _EVENT_FRAMES):
        length = min(_EVENT_FRAMES, num_frames - start)
        event = rng.choice(["none", "partial", "full", "exit"], p=[0.45, 0.3, 0.1, 0.15])
        if length < _MIN_EVENT_FRAMES or event == "none":
            continue
        middle = start + int(length * rng.uniform(0.45, 0.6))
        # In units of half the event's length: -1 when it begins, 0 in the middle, 1 when it is over.
        clock = (np.arange(num_frames) - middle) / (length / 3)
        if event == "exit":
            target = _leave(target, clock, frame_size)
        else:
            occluders.append(_occluder(rng, target, clock, frame_size, event == "full", palette))
    return target, occluders


def _leave(target: _Actor, clock: np.ndarray, frame_size: tuple[int, int]) -> _Actor:
    """Take the target out of the picture over the border that is nearest in the middle of the event, and back."""
    size = np.array(frame_size[::-1])
    during = np.abs(clock) <= 1
    beyond = target.half_extents()[during].max(axis=0) + 4
    position = target.centres[np.abs(clock).argmin()]
    axis, side = divmod(int(np.argmin(np.stack([position, size - position], axis=-1))), 2)
    goal = size[axis] + beyond[axis] if side else -beyond[axis]
    progress = ((1 - np.abs(clock)) / 0.75).clip(0, 1)
    weight = progress**2 * (3 - 2 * progress)
    centres = target.centres.copy()
    centres[:, axis] += weight * (goal - centres[:, axis])
    return replace(target, centres=centres)


def _occluder(
    rng: np.random.Generator,
    target: _Actor,
    clock: np.ndarray,
    frame_size: tuple[int, int],
    covers_all: bool,
    target_palette: Palette,
) -> _Actor:
    """A bar or a patch that crosses the target, from outside of the picture to outside of it."""
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    near = np.abs(clock) <= 0.4
    radius = float(np.linalg.norm(target.half_extents()[near], axis=1).max())
    thickness, length = (1.1, rng.uniform(1.1, 1.6)) if covers_all else rng.uniform((0.25, 0.9), (0.5, 2.5))
    half_size = radius * thickness, radius * length
    palette = Palette.draw(rng, target_palette.hue + rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.85))
    sprite = Sprite.draw(rng, "rectangle" if rng.random() < 0.7 else "polygon", half_size, palette)
    sideways = 0.0 if covers_all else rng.uniform(-0.3, 0.3) * radius
    # Slow while it crosses the target, and farther away than any corner of the picture when it comes and goes.
    reach = float(np.hypot(*frame_size) + np.hypot(*half_size))
    travel = reach * (0.25 * clock + 0.75 * clock**3)
    centres = target.centres + travel[:, None] * direction + sideways * np.array([-direction[1], direction[0]])
    matrices = np.broadcast_to(scale_and_rotate(angle), (len(clock), 2, 2))
    return _Actor(sprite, centres, matrices, np.abs(clock) < 1)


def _pan(
    rng: np.random.Generator, num_frames: int, frame_size: tuple[int, int], palette: Palette
) -> Iterator[np.ndarray]:
    """The background of each frame, as a camera sees it that moves a little over a larger picture."""
    height, width = frame_size
    margin = 0.15 * np.array([width, height])
    world_width, world_height = (int(v) for v in np.ceil(np.array([width, height]) + 2 * margin))
    world = draw_background(rng, (world_height, world_width), palette)
    course = np.stack([_wander(rng, num_frames), _wander(rng, num_frames)], axis=-1)
    for left, top in margin * (1 + course):
        affine = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])
        yield cv2.warpAffine(world, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _take(picture: np.ndarray, frame: int, target: _Actor, occluders: list[_Actor]) -> _Take:
    """Paint the target and what passes in front of it over a background, in place."""
    frame_size = (picture.shape[0], picture.shape[1])
    layer = target.layer(frame)
    layer.paint(picture)
    whole = layer.frame_mask(frame_size)
    visible = whole.copy()
    for occluder in occluders:
        if occluder.present[frame]:
            cover = occluder.layer(frame)
            cover.paint(picture)
            visible &= ~cover.frame_mask(frame_size)
    return _Take(picture, whole, visible, int(layer.mask.sum()))


def _expose(rng: np.random.Generator, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Let the brightness drift by up to a tenth and add a sensor's noise of 1.5 to 4 grey levels."""
    height, width = pictures[0].shape[:2]
    sigma = rng.uniform(1.5, 4.0)
    field_size = (height + _NOISE_MARGIN, width + _NOISE_MARGIN, 3)
    noise = np.rint(sigma * rng.standard_normal(field_size, dtype=np.float32)).astype(np.int16)
    gains = 1 + 0.1 * _wander(rng, len(pictures))
    corners = rng.integers(0, _NOISE_MARGIN + 1, size=(len(pictures), 2))
    exposed = []
    for picture, gain, (top, left) in zip(pictures, gains, corners, strict=True):
        window = noise[top : top + height, left : left + width]
        exposed.append(np.asarray(cv2.add(cv2.convertScaleAbs(picture, alpha=gain), window, dtype=cv2.CV_8U)))
    return exposed
