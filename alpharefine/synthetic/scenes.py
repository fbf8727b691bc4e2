"""Synthetic videos and images with exact boxes and masks.

A scene is an object in front of a background, see `alpharefine.synthetic.looks`. The object moves, rotates and changes
its width and height independently. It may be occluded, or leave the image and return. A sequence depends only on its
seed, index, length, frame size and look, and is reproduced exactly from them.
"""

from __future__ import annotations

import math
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
    Sprite,
    draw_background,
    scale_and_rotate,
)
from alpharefine.synthetic.looks import LOOKS, Look, LookName

FRAME_SIZE = (240, 320)
"""Default height and width of a frame in pixels."""

FULL_OCCLUSION_RATIO = 0.05
"""A target with a smaller visible fraction is fully occluded."""

_MIN_SIDE = 48
"""Minimum height and width of a frame in pixels."""

_MIN_VISIBLE_PIXELS = 30
"""Objects in an image with fewer visible pixels are not annotated."""

_EVENT_FRAMES, _MIN_EVENT_FRAMES = 60, 12
"""Maximum and minimum length of a segment of frames. Each segment has at most one event."""

_NOISE_MARGIN = 64
"""The noise of a frame is a random crop of a noise field that is larger than the frame by this number of pixels."""

_SEQUENCE_STREAM, _IMAGE_STREAM, _CROWD_STREAM = 1, 2, 3
"""First component of the random seed, which separates sequence i from image i."""

_MAX_OBJECTS = 255
"""Maximum number of objects of a crowd, whose numbers are bytes."""


@dataclass(frozen=True)
class SyntheticSequence:
    """Generated video with its ground truth.

    Attributes:
        name: Class and number as in LaSOT, such as ``blob-3``.
        frames: List of N RGB images of shape ``(H, W, 3)``, uint8.
        boxes_xywh: Boxes of shape ``(N, 4)``, float64, in pixels. A box encloses the whole target including occluded
            parts, clipped to the image. It is all zeros if the target is out of view.
        masks: Masks of the visible part of the target, shape ``(N, H, W)``, uint8, with values 0 and 1.
        full_occlusion: Boolean array of shape ``(N,)``, True if the target is in view and less than 5 % of it is
            visible.
        out_of_view: Boolean array of shape ``(N,)``, True if no pixel of the target is inside the image.
        visible_ratio: Visible fraction of the whole target in [0, 1], shape ``(N,)``, float64.
        cut_by_image: Boolean array of shape ``(N,)``, True if an image border cuts the target.
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
        """Class of the target, the first part of the name."""
        return self.name.rpartition("-")[0]


@dataclass(frozen=True)
class SyntheticCrowd:
    """Generated video of several objects.

    Attributes:
        frames: List of N RGB images of shape ``(H, W, 3)``, uint8.
        boxes_xywh: Boxes of K objects, shape ``(N, K, 4)``, float64, in pixels. A box encloses the whole object
            including occluded parts, clipped to the image.
        labels: Number of the visible object at each pixel, 1 to K, or 0 for the background, shape ``(N, H, W)``, uint8.
    """

    frames: list[np.ndarray]
    boxes_xywh: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class _Actor:
    """Sprite with its trajectory.

    Attributes:
        sprite: Sprite to place.
        centers: Centers of shape ``(N, 2)``, x and y in frame pixels.
        matrices: Scales and rotations of shape ``(N, 2, 2)``.
        present: Boolean array of shape ``(N,)``, True if the sprite is part of the frame.
    """

    sprite: Sprite
    centers: np.ndarray
    matrices: np.ndarray
    present: np.ndarray

    def layer(self, frame: int) -> Layer:
        return self.sprite.place(self.matrices[frame], self.centers[frame])

    def half_extents(self) -> np.ndarray:
        """Return half the width and half the height of the sprite in each frame, shape ``(N, 2)``."""
        return np.asarray(np.abs(self.sprite.outline_px @ self.matrices.swapaxes(1, 2)).max(axis=1))


@dataclass(frozen=True)
class _RenderedFrame:
    """Rendered frame with the target masks.

    Attributes:
        image: RGB image of shape ``(H, W, 3)``, uint8.
        whole_mask: Boolean mask of the target including occluded parts, shape ``(H, W)``.
        visible_mask: Boolean mask of the visible part of the target, shape ``(H, W)``.
        whole_area: Area of the target in pixels, including parts outside the image.
    """

    image: np.ndarray
    whole_mask: np.ndarray
    visible_mask: np.ndarray
    whole_area: int


def generate_sequence(
    seed: int,
    index: int,
    num_frames: int = 60,
    frame_size: tuple[int, int] = FRAME_SIZE,
    look: LookName = "drawn",
) -> SyntheticSequence:
    """Generate one video.

    In each segment of 60 frames, the target may be partially occluded, be fully occluded, or leave the image and
    return. The last segment may be shorter. Segments of fewer than 12 frames have no event. The whole target is visible
    in the first frame.

    Args:
        seed: Random seed of the data set, at least 0.
        index: Index of the sequence in the data set, at least 0.
        num_frames: Number of frames, at least 1.
        frame_size: Height and width in pixels, at least 48 each.
        look: What the video is made of: ``drawn`` shapes, or objects cut out of ``photos``.

    Raises:
        UserError: If an argument is below its minimum.
    """
    _check(seed, index, frame_size)
    require_at_least("num_frames", num_frames, 1)
    rng = np.random.default_rng([_SEQUENCE_STREAM, seed, index])
    parts = LOOKS[look](rng, index)
    target = _create_target(rng, parts, num_frames, frame_size)
    target, occluders = _add_events(rng, parts, target, frame_size)
    backgrounds = _pan(rng, parts, num_frames, frame_size)
    rendered = [_render(image, frame, target, occluders) for frame, image in enumerate(backgrounds)]
    whole = np.stack([each.whole_mask for each in rendered])
    visible = np.stack([each.visible_mask for each in rendered])
    areas = np.array([each.whole_area for each in rendered])
    in_view = np.asarray(whole.any(axis=(1, 2)))
    visible_ratio = visible.sum(axis=(1, 2)) / areas
    return SyntheticSequence(
        name=f"{parts.target_class}-{index + 1}",
        frames=_expose(rng, [each.image for each in rendered]),
        boxes_xywh=np.stack([box_of_mask(mask) for mask in whole]),
        masks=visible.astype(np.uint8),
        full_occlusion=in_view & (visible_ratio < FULL_OCCLUSION_RATIO),
        out_of_view=~in_view,
        visible_ratio=visible_ratio,
        cut_by_image=in_view & (whole.sum(axis=(1, 2)) < areas),
    )


def generate_image(
    seed: int, index: int, frame_size: tuple[int, int] = FRAME_SIZE
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Generate one image of 2 to 6 objects, which may overlap and extend beyond the image borders.

    Args:
        seed: Random seed of the data set, at least 0.
        index: Index of the image in the data set, at least 0.
        frame_size: Height and width in pixels, at least 48 each.

    Returns:
        Tuple of the RGB image of shape ``(H, W, 3)``, uint8, and a list of masks of the visible part of each object,
        from back to front, shape ``(H, W)``, uint8, with values 0 and 1. Objects with fewer than 30 visible pixels have
        no mask.

    Raises:
        UserError: If an argument is below its minimum.
    """
    _check(seed, index, frame_size)
    rng = np.random.default_rng([_IMAGE_STREAM, seed, index])
    background_palette = Palette.draw(rng, rng.random(), rng.uniform(0.25, 0.75))
    image = draw_background(rng, frame_size, background_palette)
    masks: list[np.ndarray] = []
    for _ in range(rng.integers(2, 7)):
        shape = SHAPES[rng.integers(len(SHAPES))]
        half_width, half_height = rng.uniform(0.08, 0.26, size=2) * min(frame_size)
        sprite = Sprite.draw(rng, shape, (half_width, half_height), Palette.apart_from(rng, background_palette))
        center = rng.uniform(0.08, 0.92, size=2) * frame_size[::-1]
        layer = sprite.place(scale_and_rotate(rng.uniform(0, 2 * np.pi)), center)
        layer.paint(image)
        front = layer.frame_mask(frame_size)
        masks = [mask & ~front for mask in masks] + [front]
    visible = [mask.astype(np.uint8) for mask in masks if mask.sum() >= _MIN_VISIBLE_PIXELS]
    return _expose(rng, [image])[0], visible


def generate_crowd(
    seed: int, num_objects: int, num_frames: int = 60, frame_size: tuple[int, int] = FRAME_SIZE
) -> SyntheticCrowd:
    """Generate one video of several objects, cut out of photographs.

    Each object moves about a cell of a grid, and may cover a part of its neighbors.

    Args:
        seed: Random seed, at least 0.
        num_objects: Number of objects, 1 to 255, at most one per cell of 48 x 48 pixels.
        num_frames: Number of frames, at least 1.
        frame_size: Height and width in pixels, at least 48 each.

    Raises:
        UserError: If an argument is out of its range.
    """
    _check(seed, 0, frame_size)
    require_at_least("num_objects", num_objects, 1)
    require_at_least("num_frames", num_frames, 1)
    if num_objects > _MAX_OBJECTS:
        raise UserError(f"Synthetic data: `num_objects` must be at most {_MAX_OBJECTS}, got {num_objects}.")
    rng = np.random.default_rng([_CROWD_STREAM, seed])
    num_columns = math.ceil(math.sqrt(num_objects))
    cell = (frame_size[0] / math.ceil(num_objects / num_columns), frame_size[1] / num_columns)
    if min(cell) < _MIN_SIDE:
        raise UserError(
            f"Synthetic data: {num_objects} objects in a frame of {frame_size[0]} x {frame_size[1]} pixels leave each "
            f"less than {_MIN_SIDE} pixels; give fewer objects or a larger frame."
        )
    looks = [LOOKS["photos"](rng, index) for index in range(num_objects)]
    actors = []
    for index, look in enumerate(looks):
        actor = _create_target(rng, look, num_frames, cell)
        corner = np.array([index % num_columns * cell[1], index // num_columns * cell[0]])
        actors.append(replace(actor, centers=actor.centers + corner))
    frames = list(_pan(rng, looks[0], num_frames, frame_size))
    boxes_xywh = np.empty((num_frames, num_objects, 4))
    labels = np.zeros((num_frames, *frame_size), np.uint8)
    for index, image in enumerate(frames):
        for number, actor in enumerate(actors):
            layer = actor.layer(index)
            layer.paint(image)
            mask = layer.frame_mask(frame_size)
            labels[index][mask] = number + 1
            boxes_xywh[index, number] = box_of_mask(mask)
    return SyntheticCrowd(_expose(rng, frames), boxes_xywh, labels)


def require_at_least(argument: str, value: int, least: int) -> None:
    """Check that a number is not below its minimum.

    Args:
        argument: Name of the argument.
        value: Received value.
        least: Minimum value.

    Raises:
        UserError: If the value is below the minimum.
    """
    if value < least:
        raise UserError(f"Synthetic data: `{argument}` must be at least {least}, got {value}.")


def _check(seed: int, index: int, frame_size: tuple[int, int]) -> None:
    require_at_least("seed", seed, 0)
    require_at_least("index", index, 0)
    require_at_least("frame_size (each side)", min(frame_size), _MIN_SIDE)


def _smooth_curve(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Draw a smooth random curve in [-1, 1] from three sinusoids with periods of 60 to 180 frames, shape ``(N,)``."""
    periods, phases = rng.uniform(60, 180, size=3), rng.uniform(0, 2 * np.pi, size=3)
    waves = np.sin(2 * np.pi * np.arange(num_frames)[:, None] / periods + phases)
    return np.asarray(waves @ rng.dirichlet(np.ones(3)))


def _smooth_scale(rng: np.random.Generator, num_frames: int, factor: float) -> np.ndarray:
    """Draw a smooth random scale that starts at 1 and stays in [1 / factor, factor], shape ``(N,)``."""
    curve = _smooth_curve(rng, num_frames)
    return np.asarray(factor ** np.tanh(1.2 * (curve - curve[0])))


def _create_target(rng: np.random.Generator, look: Look, num_frames: int, frame_size: tuple[float, float]) -> _Actor:
    """Create the target and its trajectory, without events."""
    half = rng.uniform(0.1, 0.16) * min(frame_size)
    sprite = look.target(rng, half, rng.uniform(0.75, 1.33))
    angles = look.first_angle(rng) + 0.6 * _smooth_curve(rng, num_frames)
    scales = _smooth_scale(rng, num_frames, 2.0)
    widths, heights = (scales * _smooth_scale(rng, num_frames, 1.4) for _ in range(2))
    matrices = np.stack([scale_and_rotate(*each) for each in zip(angles, widths, heights, strict=True)])
    size = np.array(frame_size[::-1])
    course = np.stack([_smooth_curve(rng, num_frames), _smooth_curve(rng, num_frames)], axis=-1)
    actor = _Actor(sprite, size * (0.5 + 0.3 * course), matrices, np.ones(num_frames, dtype=bool))
    margin = actor.half_extents()[0] + 2
    first_shift = actor.centers[0].clip(margin, size - margin) - actor.centers[0]
    fading = np.exp(-np.arange(num_frames) / 20.0)[:, None]
    return replace(actor, centers=actor.centers + first_shift * fading)


def _add_events(
    rng: np.random.Generator, look: Look, target: _Actor, frame_size: tuple[int, int]
) -> tuple[_Actor, list[_Actor]]:
    """Draw the events of a sequence. Return the target with its new trajectory, and the occluders."""
    occluders = []
    num_frames = len(target.centers)
    for start in range(0, num_frames, _EVENT_FRAMES):
        length = min(_EVENT_FRAMES, num_frames - start)
        event = rng.choice(["none", "partial", "full", "exit"], p=[0.45, 0.3, 0.1, 0.15])
        if length < _MIN_EVENT_FRAMES or event == "none":
            continue
        middle = start + int(length * rng.uniform(0.45, 0.6))
        # Time relative to the event: -1 at its start, 0 in the middle, 1 at its end.
        clock = (np.arange(num_frames) - middle) / (length / 3)
        if event == "exit":
            target = _leave(target, clock, frame_size)
        else:
            occluders.append(_occluder(rng, look, target, clock, frame_size, event == "full"))
    return target, occluders


def _leave(target: _Actor, clock: np.ndarray, frame_size: tuple[int, int]) -> _Actor:
    """Move the target out of the image across the border nearest to it in the middle of the event, and back."""
    size = np.array(frame_size[::-1])
    during = np.abs(clock) <= 1
    beyond = target.half_extents()[during].max(axis=0) + 4
    position = target.centers[np.abs(clock).argmin()]
    axis, side = divmod(int(np.argmin(np.stack([position, size - position], axis=-1))), 2)
    goal = size[axis] + beyond[axis] if side else -beyond[axis]
    progress = ((1 - np.abs(clock)) / 0.75).clip(0, 1)
    weight = progress**2 * (3 - 2 * progress)
    centers = target.centers.copy()
    centers[:, axis] += weight * (goal - centers[:, axis])
    return replace(target, centers=centers)


def _occluder(
    rng: np.random.Generator,
    look: Look,
    target: _Actor,
    clock: np.ndarray,
    frame_size: tuple[int, int],
    covers_all: bool,
) -> _Actor:
    """Create a bar or patch that enters the image, passes in front of the target and leaves the image."""
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    near = np.abs(clock) <= 0.4
    radius = float(np.linalg.norm(target.half_extents()[near], axis=1).max())
    thickness, length = (1.1, rng.uniform(1.1, 1.6)) if covers_all else rng.uniform((0.25, 0.9), (0.5, 2.5))
    half_size = radius * thickness, radius * length
    sprite = look.occluder(rng, half_size)
    sideways = 0.0 if covers_all else rng.uniform(-0.3, 0.3) * radius
    # The motion is slow at the target, and starts and ends beyond the image corners.
    reach = float(np.hypot(*frame_size) + np.hypot(*half_size))
    travel = reach * (0.25 * clock + 0.75 * clock**3)
    centers = target.centers + travel[:, None] * direction + sideways * np.array([-direction[1], direction[0]])
    matrices = np.broadcast_to(scale_and_rotate(angle), (len(clock), 2, 2))
    return _Actor(sprite, centers, matrices, np.abs(clock) < 1)


def _pan(rng: np.random.Generator, look: Look, num_frames: int, frame_size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the background of each frame, seen by a camera that moves slightly over a larger image."""
    height, width = frame_size
    margin = 0.15 * np.array([width, height])
    world_width, world_height = (int(v) for v in np.ceil(np.array([width, height]) + 2 * margin))
    world = look.background(rng, (world_height, world_width))
    course = np.stack([_smooth_curve(rng, num_frames), _smooth_curve(rng, num_frames)], axis=-1)
    for left, top in margin * (1 + course):
        affine = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])
        yield cv2.warpAffine(world, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _render(image: np.ndarray, frame: int, target: _Actor, occluders: list[_Actor]) -> _RenderedFrame:
    """Paint the target and its occluders over a background in place."""
    frame_size = (image.shape[0], image.shape[1])
    layer = target.layer(frame)
    layer.paint(image)
    whole = layer.frame_mask(frame_size)
    visible = whole.copy()
    for occluder in occluders:
        if occluder.present[frame]:
            cover = occluder.layer(frame)
            cover.paint(image)
            visible &= ~cover.frame_mask(frame_size)
    return _RenderedFrame(image, whole, visible, int(layer.mask.sum()))


def _expose(rng: np.random.Generator, images: list[np.ndarray]) -> list[np.ndarray]:
    """Vary the brightness over time by up to 10 % and add sensor noise of 1.5 to 4 gray levels."""
    height, width = images[0].shape[:2]
    sigma = rng.uniform(1.5, 4.0)
    field_size = (height + _NOISE_MARGIN, width + _NOISE_MARGIN, 3)
    noise = np.rint(sigma * rng.standard_normal(field_size, dtype=np.float32)).astype(np.int16)
    gains = 1 + 0.1 * _smooth_curve(rng, len(images))
    corners = rng.integers(0, _NOISE_MARGIN + 1, size=(len(images), 2))
    exposed = []
    for image, gain, (top, left) in zip(images, gains, corners, strict=True):
        window = noise[top : top + height, left : left + width]
        exposed.append(np.asarray(cv2.add(cv2.convertScaleAbs(image, alpha=gain), window, dtype=cv2.CV_8U)))
    return exposed
