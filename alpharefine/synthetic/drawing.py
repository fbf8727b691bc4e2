"""What synthetic scenes are drawn with: palettes, textures, outlines and sprites.

A *sprite* is a textured shape in its own small picture. It is drawn once and then put into frames through affine maps,
so that a frame costs no more than a few small warps. Everything random comes from the generator that is passed in.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

Shape = Literal["ellipse", "polygon", "blob", "rectangle"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

Pattern = Literal["noise", "stripes", "checks"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)

_DETAIL = 1.4
"""Sprite pixels for one frame pixel at scale 1: a compromise of the largest and the smallest size it is seen at."""

_OUTLINE_POINTS = 96
"""Vertices of a curved outline."""

_SUPERSAMPLING = 4
"""Side of the grid of samples in a sprite pixel from which the alpha of an edge is averaged."""


@dataclass(frozen=True)
class Palette:
    """Three colours that a texture runs through.

    Attributes:
        hue: in 0..1, the hue that the colours scatter about.
        value: in 0..1, the brightness of the middle colour.
        colours: ``(3, 3)`` float64 RGB in 0..255.
    """

    hue: float
    value: float
    colours: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, hue: float, value: float) -> Palette:
        """Draw three colours about a hue and a brightness, both in 0..1; the hue wraps around."""
        value = float(np.clip(value, 0.2, 0.85))
        hues = (hue + rng.uniform(-0.06, 0.06, size=3)) % 1.0
        saturations = rng.uniform(0.35, 0.9, size=3)
        values = value + rng.permuted(np.array([-0.16, 0.0, 0.14]))
        colours = [colorsys.hsv_to_rgb(h, s, v) for h, s, v in zip(hues, saturations, values, strict=True)]
        return cls(hue % 1.0, value, 255.0 * np.array(colours))

    @classmethod
    def apart_from(cls, rng: np.random.Generator, other: Palette) -> Palette:
        """Draw a palette that differs from another one clearly, in hue and in brightness."""
        direction = 1.0 if other.value < 0.5 else -1.0
        return cls.draw(rng, other.hue + rng.uniform(0.3, 0.7), other.value + direction * rng.uniform(0.15, 0.35))


def noise_field(rng: np.random.Generator, size: tuple[int, int], coarsest: float) -> np.ndarray:
    """Draw smooth noise of several octaves.

    Args:
        rng: where the numbers come from.
        size: height and width.
        coarsest: cell of the coarsest octave in pixels; the next ones have half the cell and 0.6 times the amplitude.

    Returns:
        ``(height, width)`` float32, spread over 0..1.
    """
    height, width = size
    total = np.zeros(size, dtype=np.float32)
    cell, amplitude = coarsest, 1.0
    while cell >= 2:
        grid = rng.random((int(height / cell) + 3, int(width / cell) + 3), dtype=np.float32)
        fine = cv2.resize(grid, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += amplitude * fine[:height, :width]
        cell, amplitude = cell / 2, 0.6 * amplitude
    return np.asarray((total - total.min()) / np.ptp(total))


def _wave(rng: np.random.Generator, size: tuple[int, int], period: float, angle: float) -> np.ndarray:
    """A plane wave with soft square flanks, ``(height, width)`` in -1..1."""
    rows, columns = np.indices(size, dtype=np.float32)
    phase = rng.uniform(0, 2 * np.pi)
    along = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
    return np.asarray(np.tanh(2.5 * np.sin(along * np.float32(2 * np.pi / period) + np.float32(phase))))


def pattern_field(rng: np.random.Generator, size: tuple[int, int], pattern: Pattern, cell: float) -> np.ndarray:
    """Draw a pattern, roughened by noise.

    Args:
        rng: where the numbers come from.
        size: height and width.
        pattern: which one.
        cell: size of the pattern's largest parts in pixels.

    Returns:
        ``(height, width)`` float32 in 0..1.
    """
    noise = noise_field(rng, size, cell)
    if pattern == "noise":
        return noise
    angle = rng.uniform(0, np.pi)
    wave = _wave(rng, size, cell, angle)
    if pattern == "checks":
        wave = wave * _wave(rng, size, cell, angle + np.pi / 2)
    return np.asarray(0.7 * (0.5 + 0.5 * wave) + 0.3 * noise)


def colourise(field: np.ndarray, palette: Palette) -> np.ndarray:
    """Turn a field ``(H, W)`` in 0..1 into a picture ``(H, W, 3)`` uint8 that runs through the colours of a palette."""
    stops = np.linspace(0, 255, len(palette.colours))
    table = np.stack([np.interp(np.arange(256), stops, channel) for channel in palette.colours.T], axis=-1)
    return np.asarray(table.round().astype(np.uint8)[(field * 255).astype(np.uint8)])


def draw_outline(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw the outline of a shape.

    Args:
        rng: where the numbers come from.
        shape: a rounded polygon has 3 to 7 sides, a blob is a star or cloud whose radius is a random Fourier series.

    Returns:
        ``(K, 2)`` float64, x and y, stretched to fill ``[-1, 1] x [-1, 1]``.
    """
    angles = np.linspace(0, 2 * np.pi, _OUTLINE_POINTS, endpoint=False)
    if shape == "rectangle":
        return np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    radius = np.ones_like(angles)
    if shape == "polygon":
        sides = int(rng.integers(3, 8))
        angles = 2 * np.pi * (np.arange(sides) + rng.uniform(-0.25, 0.25, size=sides)) / sides
        radius = rng.uniform(0.75, 1.0, size=sides)
    elif shape == "blob":
        orders = np.arange(2, 7)
        amplitudes = rng.normal(0.0, 0.3, size=orders.size) / orders + 0.25 * rng.multinomial(1, [1 / 5] * 5)
        phases = rng.uniform(0, 2 * np.pi, size=orders.size)
        radius = (1 + np.cos(angles[:, None] * orders + phases) @ amplitudes).clip(min=0.3)
    points = radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    if shape == "polygon":
        points = _cut_corners(_cut_corners(points))
    low, high = points.min(0), points.max(0)
    return np.asarray((points - (low + high) / 2) / ((high - low) / 2))


def _cut_corners(points: np.ndarray) -> np.ndarray:
    """One round of Chaikin's corner cutting of a closed polygon: ``(K, 2)`` to ``(2 K, 2)``."""
    following = np.roll(points, -1, axis=0)
    cut = np.stack([0.85 * points + 0.15 * following, 0.15 * points + 0.85 * following], axis=1)
    return cut.reshape(-1, 2)


@dataclass(frozen=True)
class Layer:
    """A sprite as it lies in a frame; it may reach over the frame's borders.

    Attributes:
        x0: left edge of the layer in frame pixels.
        y0: top edge of the layer in frame pixels.
        texture: ``(h, w, 3)`` uint8 RGB.
        alpha: ``(h, w)`` uint8, 255 where the sprite covers the whole pixel.
    """

    x0: int
    y0: int
    texture: np.ndarray
    alpha: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """``(h, w)`` bool, the pixels that the sprite covers by more than a half."""
        return self.alpha > 127

    def _overlap(self, frame_size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Rows and columns that lie in the frame: in frame pixels, and in the layer's own."""
        height, width = self.alpha.shape
        top, left = max(self.y0, 0), max(self.x0, 0)
        bottom = max(min(self.y0 + height, frame_size[0]), top)
        right = max(min(self.x0 + width, frame_size[1]), left)
        own = slice(top - self.y0, bottom - self.y0), slice(left - self.x0, right - self.x0)
        return (slice(top, bottom), slice(left, right)), own

    def paint(self, frame: np.ndarray) -> None:
        """Blend the layer over a frame ``(H, W, 3)`` uint8, in place."""
        there, own = self._overlap((frame.shape[0], frame.shape[1]))
        alpha = self.alpha[own].astype(np.uint16)[..., None]
        frame[there] = (frame[there] * (255 - alpha) + self.texture[own] * alpha + 127) // 255

    def frame_mask(self, frame_size: tuple[int, int]) -> np.ndarray:
        """The part of `mask` that lies in a frame of this height and width, ``(H, W)`` bool."""
        mask = np.zeros(frame_size, dtype=bool)
        there, own = self._overlap(frame_size)
        mask[there] = self.mask[own]
        return mask


@dataclass(frozen=True)
class Sprite:
    """A textured shape, to be put into frames.

    Attributes:
        outline_px: ``(K, 2)`` x, y in frame pixels at scale 1, about the sprite's centre.
        texture: ``(h, w, 3)`` uint8 RGB.
        alpha: ``(h, w)`` uint8.
    """

    outline_px: np.ndarray
    texture: np.ndarray
    alpha: np.ndarray

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        shape: Shape,
        half_size: tuple[float, float],
        palette: Palette,
        pattern: Pattern | None = None,
    ) -> Sprite:
        """Draw a sprite.

        Args:
            rng: where the numbers come from.
            shape: of the outline.
            half_size: half the width and half the height in frame pixels at scale 1.
            palette: colours of the texture.
            pattern: of the texture; a random one if None.
        """
        outline_px = draw_outline(rng, shape) * half_size
        width, height = (int(np.ceil(2 * _DETAIL * half)) + 4 for half in half_size)
        chosen = pattern if pattern is not None else PATTERNS[rng.integers(len(PATTERNS))]
        cell = max(8.0, min(width, height) * rng.uniform(0.25, 0.5))
        texture = colourise(pattern_field(rng, (height, width), chosen, cell), palette)
        alpha = _rasterise(outline_px * _DETAIL + np.array([width, height]) / 2, (height, width))
        return cls(outline_px, _shade(rng, texture, alpha), alpha)

    def place(self, matrix: np.ndarray, centre: np.ndarray) -> Layer:
        """Map the sprite into a frame.

        Args:
            matrix: ``(2, 2)``, scale and rotation.
            centre: ``(2,)`` x, y of the sprite's centre in frame pixels.
        """
        corners = self.outline_px @ matrix.T + centre
        x0, y0 = (int(v) for v in np.floor(corners.min(0)) - 2)
        width, height = (int(v) for v in np.ceil(corners.max(0)) + 2 - (x0, y0))
        sprite_centre = np.array([self.alpha.shape[1], self.alpha.shape[0]]) / 2
        linear = matrix / _DETAIL
        # warpAffine counts from the centre of pixel 0, half a pixel from the origin of continuous coordinates.
        shift = centre - (x0, y0) - 0.5 - linear @ (sprite_centre - 0.5)
        affine = np.column_stack([linear, shift])
        texture = cv2.warpAffine(self.texture, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
        return Layer(x0, y0, texture, cv2.warpAffine(self.alpha, affine, (width, height)))


def _rasterise(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fill a polygon ``(K, 2)`` in continuous pixels: the covered share of each pixel, ``(height, width)`` uint8."""
    fine = np.zeros((size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING), dtype=np.uint8)
    # The last argument says that the integers hold 4 fractional bits; OpenCV counts from pixel centres.
    cv2.fillPoly(fine, [np.rint((points * _SUPERSAMPLING - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(fine, (size[1], size[0]), interpolation=cv2.INTER_AREA))


def _shade(rng: np.random.Generator, texture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Light a texture from one side and darken it towards the outline, as a solid body looks."""
    height, width = alpha.shape
    depth = cv2.distanceTransform((alpha > 127).astype(np.uint8), cv2.DIST_L2, 3)
    rim = 0.65 + 0.35 * np.minimum(depth / max(2.0, 0.08 * min(height, width)), 1.0)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.indices((height, width), dtype=np.float32)
    side = np.cos(angle) * (columns / width - 0.5) + np.sin(angle) * (rows / height - 0.5)
    shaded = texture * (rim * (1.0 + 0.3 * side))[..., None]
    return np.asarray(shaded.clip(0, 255).astype(np.uint8))


def draw_background(rng: np.random.Generator, size: tuple[int, int], palette: Palette) -> np.ndarray:
    """Draw a background: noise of several octaves, large fields of colour, and shapes that distract.

    Args:
        rng: where the numbers come from.
        size: height and width.
        palette: colours of the noise; the shapes have hues near it.

    Returns:
        ``(height, width, 3)`` uint8 RGB.
    """
    height, width = size
    picture = colourise(noise_field(rng, size, min(size) * rng.uniform(0.15, 0.45)), palette)
    tints = rng.uniform(-35, 35, size=(4, 5, 3)).astype(np.float32)
    tint = cv2.resize(tints, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = (picture + tint).clip(0, 255).astype(np.uint8)
    for _ in range(rng.integers(4, 13)):
        near = Palette.draw(rng, palette.hue + rng.uniform(-0.2, 0.2), palette.value + rng.uniform(-0.25, 0.25))
        half_width, half_height = rng.uniform(0.03, 0.13, size=2) * min(size)
        sprite = Sprite.draw(rng, SHAPES[rng.integers(len(SHAPES))], (half_width, half_height), near)
        angle = rng.uniform(0, 2 * np.pi)
        sprite.place(scale_and_rotate(angle), rng.random(2) * (width, height)).paint(picture)
    return picture


def scale_and_rotate(angle: float, scale_x: float = 1.0, scale_y: float = 1.0) -> np.ndarray:
    """Scale along the sprite's own axes, then rotate by an angle in radians: ``(2, 2)``."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine * scale_x, -sine * scale_y], [sine * scale_x, cosine * scale_y]])
