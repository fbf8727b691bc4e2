"""Palettes, textures, outlines and sprites of synthetic scenes.

A *sprite* is a textured shape in a small image of its own. It is drawn once and then placed into frames with affine
maps, so that a frame requires only a few small warps. All randomness comes from the generator that is passed in.
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
"""Sprite pixels per frame pixel at scale 1, a compromise between the largest and the smallest displayed size."""

_OUTLINE_POINTS = 96
"""Number of vertices of a curved outline."""

_SUPERSAMPLING = 4
"""Side of the sample grid per sprite pixel that antialiases the edges."""


@dataclass(frozen=True)
class Palette:
    """Three colors of a texture.

    Attributes:
        hue: Central hue in [0, 1].
        value: Brightness of the middle color in [0, 1].
        colors: RGB colors of shape ``(3, 3)``, float64 in [0, 255].
    """

    hue: float
    value: float
    colors: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, hue: float, value: float) -> Palette:
        """Draw three random colors around a hue and a brightness.

        Args:
            rng: Random generator.
            hue: Central hue, taken modulo 1.
            value: Brightness in [0, 1].
        """
        value = float(np.clip(value, 0.2, 0.85))
        hues = (hue + rng.uniform(-0.06, 0.06, size=3)) % 1.0
        saturations = rng.uniform(0.35, 0.9, size=3)
        values = value + rng.permuted(np.array([-0.16, 0.0, 0.14]))
        colors = [colorsys.hsv_to_rgb(h, s, v) for h, s, v in zip(hues, saturations, values, strict=True)]
        return cls(hue % 1.0, value, 255.0 * np.array(colors))

    @classmethod
    def apart_from(cls, rng: np.random.Generator, other: Palette) -> Palette:
        """Draw a palette that clearly differs from another one in hue and brightness.

        Args:
            rng: Random generator.
            other: Palette to differ from.
        """
        direction = 1.0 if other.value < 0.5 else -1.0
        return cls.draw(rng, other.hue + rng.uniform(0.3, 0.7), other.value + direction * rng.uniform(0.15, 0.35))


def noise_field(rng: np.random.Generator, size: tuple[int, int], coarsest: float) -> np.ndarray:
    """Draw smooth noise with several octaves.

    Args:
        rng: Random generator.
        size: Height and width in pixels.
        coarsest: Cell size of the coarsest octave in pixels. Each further octave has half the cell size and 0.6 times
            the amplitude.

    Returns:
        Noise of shape ``(height, width)``, float32, that spans [0, 1].
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
    """Draw a smoothed square wave with a random phase, shape ``(height, width)``, in [-1, 1]."""
    rows, columns = np.indices(size, dtype=np.float32)
    phase = rng.uniform(0, 2 * np.pi)
    along = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
    return np.asarray(np.tanh(2.5 * np.sin(along * np.float32(2 * np.pi / period) + np.float32(phase))))


def pattern_field(rng: np.random.Generator, size: tuple[int, int], pattern: Pattern, cell: float) -> np.ndarray:
    """Draw a pattern with added noise.

    Args:
        rng: Random generator.
        size: Height and width in pixels.
        pattern: Type of the pattern.
        cell: Size of the largest elements of the pattern in pixels.

    Returns:
        Pattern of shape ``(height, width)``, float32 in [0, 1].
    """
    noise = noise_field(rng, size, cell)
    if pattern == "noise":
        return noise
    angle = rng.uniform(0, np.pi)
    wave = _wave(rng, size, cell, angle)
    if pattern == "checks":
        wave = wave * _wave(rng, size, cell, angle + np.pi / 2)
    return np.asarray(0.7 * (0.5 + 0.5 * wave) + 0.3 * noise)


def colorize(field: np.ndarray, palette: Palette) -> np.ndarray:
    """Apply a palette as a color map.

    Args:
        field: Values of shape ``(H, W)`` in [0, 1].
        palette: Colors of the color map.

    Returns:
        RGB image of shape ``(H, W, 3)``, uint8.
    """
    stops = np.linspace(0, 255, len(palette.colors))
    table = np.stack([np.interp(np.arange(256), stops, channel) for channel in palette.colors.T], axis=-1)
    return np.asarray(table.round().astype(np.uint8)[(field * 255).astype(np.uint8)])


def draw_outline(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw the outline of a shape.

    Args:
        rng: Random generator.
        shape: Type of the shape. A polygon has 3 to 7 sides and rounded corners. The radius of a blob is a random
            Fourier series.

    Returns:
        Points of shape ``(K, 2)``, float64 x and y, scaled to fill ``[-1, 1] x [-1, 1]``.
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
    """Apply one step of Chaikin's corner cutting to a closed polygon: ``(K, 2)`` to ``(2 K, 2)``."""
    following = np.roll(points, -1, axis=0)
    cut = np.stack([0.85 * points + 0.15 * following, 0.15 * points + 0.85 * following], axis=1)
    return cut.reshape(-1, 2)


@dataclass(frozen=True)
class Layer:
    """Sprite at its position in a frame. It may extend beyond the frame borders.

    Attributes:
        x0: Left edge in frame pixels.
        y0: Top edge in frame pixels.
        texture: RGB texture of shape ``(h, w, 3)``, uint8.
        alpha: Opacity of shape ``(h, w)``, uint8. It is 255 where the sprite covers the whole pixel.
    """

    x0: int
    y0: int
    texture: np.ndarray
    alpha: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Boolean mask of shape ``(h, w)``, True where the sprite covers more than half of a pixel."""
        return self.alpha > 127

    def _overlap(self, frame_size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the rows and columns inside the frame, in frame pixels and in layer pixels."""
        height, width = self.alpha.shape
        top, left = max(self.y0, 0), max(self.x0, 0)
        bottom = max(min(self.y0 + height, frame_size[0]), top)
        right = max(min(self.x0 + width, frame_size[1]), left)
        own = slice(top - self.y0, bottom - self.y0), slice(left - self.x0, right - self.x0)
        return (slice(top, bottom), slice(left, right)), own

    def paint(self, frame: np.ndarray) -> None:
        """Blend the layer over a frame in place.

        Args:
            frame: RGB frame of shape ``(H, W, 3)``, uint8.
        """
        region, own = self._overlap((frame.shape[0], frame.shape[1]))
        alpha = self.alpha[own].astype(np.uint16)[..., None]
        frame[region] = (frame[region] * (255 - alpha) + self.texture[own] * alpha + 127) // 255

    def frame_mask(self, frame_size: tuple[int, int]) -> np.ndarray:
        """Return `mask` in frame coordinates.

        Args:
            frame_size: Height and width of the frame.

        Returns:
            Boolean mask of shape ``(H, W)``.
        """
        mask = np.zeros(frame_size, dtype=bool)
        region, own = self._overlap(frame_size)
        mask[region] = self.mask[own]
        return mask


@dataclass(frozen=True)
class Sprite:
    """Textured shape that can be placed into frames.

    Attributes:
        outline_px: Outline of shape ``(K, 2)``, x and y relative to the sprite center, in frame pixels at scale 1.
        texture: RGB texture of shape ``(h, w, 3)``, uint8.
        alpha: Opacity of shape ``(h, w)``, uint8.
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
            rng: Random generator.
            shape: Type of the outline.
            half_size: Half the width and half the height in frame pixels at scale 1.
            palette: Colors of the texture.
            pattern: Pattern of the texture, random by default.
        """
        outline_px = draw_outline(rng, shape) * half_size
        width, height = (int(np.ceil(2 * _DETAIL * half)) + 4 for half in half_size)
        chosen = pattern if pattern is not None else PATTERNS[rng.integers(len(PATTERNS))]
        cell = max(8.0, min(width, height) * rng.uniform(0.25, 0.5))
        texture = colorize(pattern_field(rng, (height, width), chosen, cell), palette)
        alpha = _rasterize(outline_px * _DETAIL + np.array([width, height]) / 2, (height, width))
        return cls(outline_px, _shade(rng, texture, alpha), alpha)

    @classmethod
    def cut_out(cls, picture: np.ndarray, half_size: tuple[float, float]) -> Sprite:
        """Make a sprite of an object in a picture.

        Args:
            picture: RGB colors and the opacity of the object, shape ``(h, w, 4)``, uint8.
            half_size: Half the width and half the height of the picture in frame pixels at scale 1.
        """
        size = [int(np.ceil(2 * _DETAIL * half)) for half in half_size]
        resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        texture = np.pad(resized[..., :3], ((2, 2), (2, 2), (0, 0)), mode="edge")
        alpha = np.pad(resized[..., 3], 2)
        rows, columns = np.nonzero(alpha > 127)
        corners = np.concatenate([np.stack([columns, rows], 1) + offset for offset in ((0, 0), (0, 1), (1, 0), (1, 1))])
        hull = cv2.convexHull(corners.astype(np.int32))[:, 0]
        return cls((hull - np.array(alpha.shape[::-1]) / 2) / _DETAIL, texture, alpha)

    def place(self, matrix: np.ndarray, center: np.ndarray) -> Layer:
        """Place the sprite into a frame.

        Args:
            matrix: Scale and rotation of shape ``(2, 2)``.
            center: Sprite center of shape ``(2,)``, x and y in frame pixels.
        """
        corners = self.outline_px @ matrix.T + center
        x0, y0 = (int(v) for v in np.floor(corners.min(0)) - 2)
        width, height = (int(v) for v in np.ceil(corners.max(0)) + 2 - (x0, y0))
        sprite_center = np.array([self.alpha.shape[1], self.alpha.shape[0]]) / 2
        linear = matrix / _DETAIL
        # The origin of warpAffine is the center of pixel 0, half a pixel from the origin of continuous coordinates.
        shift = center - (x0, y0) - 0.5 - linear @ (sprite_center - 0.5)
        affine = np.column_stack([linear, shift])
        texture = cv2.warpAffine(self.texture, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
        return Layer(x0, y0, texture, cv2.warpAffine(self.alpha, affine, (width, height)))


def _rasterize(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Rasterize a polygon ``(K, 2)`` in continuous pixels to its coverage, shape ``(height, width)``, uint8."""
    fine = np.zeros((size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING), dtype=np.uint8)
    # The last argument is the number of fractional bits of the coordinates. The origin is a pixel center.
    cv2.fillPoly(fine, [np.rint((points * _SUPERSAMPLING - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(fine, (size[1], size[0]), interpolation=cv2.INTER_AREA))


def _shade(rng: np.random.Generator, texture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Shade a texture with light from one side and a dark rim, so that it resembles a solid object."""
    height, width = alpha.shape
    depth = cv2.distanceTransform((alpha > 127).astype(np.uint8), cv2.DIST_L2, 3)
    rim = 0.65 + 0.35 * np.minimum(depth / max(2.0, 0.08 * min(height, width)), 1.0)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.indices((height, width), dtype=np.float32)
    side = np.cos(angle) * (columns / width - 0.5) + np.sin(angle) * (rows / height - 0.5)
    shaded = texture * (rim * (1.0 + 0.3 * side))[..., None]
    return np.asarray(shaded.clip(0, 255).astype(np.uint8))


def draw_background(rng: np.random.Generator, size: tuple[int, int], palette: Palette) -> np.ndarray:
    """Draw a background of noise, large color gradients and distractor shapes.

    Args:
        rng: Random generator.
        size: Height and width in pixels.
        palette: Colors of the noise. The distractors have similar hues.

    Returns:
        RGB image of shape ``(height, width, 3)``, uint8.
    """
    height, width = size
    image = colorize(noise_field(rng, size, min(size) * rng.uniform(0.15, 0.45)), palette)
    tints = rng.uniform(-35, 35, size=(4, 5, 3)).astype(np.float32)
    tint = cv2.resize(tints, (width, height), interpolation=cv2.INTER_CUBIC)
    image = (image + tint).clip(0, 255).astype(np.uint8)
    for _ in range(rng.integers(4, 13)):
        near = Palette.draw(rng, palette.hue + rng.uniform(-0.2, 0.2), palette.value + rng.uniform(-0.25, 0.25))
        half_width, half_height = rng.uniform(0.03, 0.13, size=2) * min(size)
        sprite = Sprite.draw(rng, SHAPES[rng.integers(len(SHAPES))], (half_width, half_height), near)
        angle = rng.uniform(0, 2 * np.pi)
        sprite.place(scale_and_rotate(angle), rng.random(2) * (width, height)).paint(image)
    return image


def scale_and_rotate(angle: float, scale_x: float = 1.0, scale_y: float = 1.0) -> np.ndarray:
    """Return the matrix that scales along the axes of a sprite and then rotates.

    Args:
        angle: Rotation angle in radians.
        scale_x: Horizontal scale.
        scale_y: Vertical scale.

    Returns:
        Matrix of shape ``(2, 2)``.
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine * scale_x, -sine * scale_y], [sine * scale_x, cosine * scale_y]])
