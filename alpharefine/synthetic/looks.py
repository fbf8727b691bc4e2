"""Looks of synthetic videos: what targets, occluders and backgrounds are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Literal, Protocol

import cv2
import numpy as np

from alpharefine.synthetic.drawing import SHAPES, Palette, Shape, Sprite, draw_background

LookName = Literal["drawn", "photos"]

_CUTOUTS = {"astronaut": "portrait", "coffee": "table", "shuttle": "portrait"}
"""Objects cut out of photographs, each with the photograph that it is from."""

_BACKGROUNDS = ("cat", "launch_pad", "portrait", "table")

_MAX_ZOOM = 1.5
"""Largest ratio of the displayed size of a photograph to the size that covers the background."""


class Look(Protocol):
    """Appearance of one video."""

    @property
    def target_class(self) -> str:
        """Class of the target."""
        ...

    def target(self, rng: np.random.Generator, half_size: float, stretch: float) -> Sprite:
        """Create the target.

        Args:
            rng: Random generator.
            half_size: Half the geometric mean of the sides, in frame pixels.
            stretch: Factor of the width, and inverse factor of the height.
        """
        ...

    def first_angle(self, rng: np.random.Generator) -> float:
        """Draw the angle around which the target turns, in radians.

        Args:
            rng: Random generator.
        """
        ...

    def occluder(self, rng: np.random.Generator, half_size: tuple[float, float]) -> Sprite:
        """Create an object that passes in front of the target.

        Args:
            rng: Random generator.
            half_size: Half the width and half the height in frame pixels.
        """
        ...

    def background(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """Create the background.

        Args:
            rng: Random generator.
            size: Height and width in pixels.

        Returns:
            RGB image of shape ``(height, width, 3)``, uint8.
        """
        ...


class DrawnLook:
    """Textured shapes over a textured background. Their colors differ clearly.

    Args:
        rng: Random generator.
        index: Index of the video, which selects the shape of the target.
    """

    def __init__(self, rng: np.random.Generator, index: int) -> None:
        self.target_class: Shape = SHAPES[index % len(SHAPES)]
        self._background = Palette.draw(rng, rng.random(), rng.uniform(0.25, 0.75))
        self._target = Palette.apart_from(rng, self._background)

    def target(self, rng: np.random.Generator, half_size: float, stretch: float) -> Sprite:
        """Draw the target.

        Args:
            rng: Random generator.
            half_size: Half the geometric mean of the sides, in frame pixels.
            stretch: Factor of the width, and inverse factor of the height.
        """
        return Sprite.draw(rng, self.target_class, (half_size * stretch, half_size / stretch), self._target)

    def first_angle(self, rng: np.random.Generator) -> float:
        """Draw any angle.

        Args:
            rng: Random generator.
        """
        return rng.uniform(0, 2 * np.pi)

    def occluder(self, rng: np.random.Generator, half_size: tuple[float, float]) -> Sprite:
        """Draw a rectangle or polygon.

        Args:
            rng: Random generator.
            half_size: Half the width and half the height in frame pixels.
        """
        palette = Palette.draw(rng, self._target.hue + rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.85))
        return _draw_occluder(rng, half_size, palette)

    def background(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """Draw the background.

        Args:
            rng: Random generator.
            size: Height and width in pixels.
        """
        return draw_background(rng, size, self._background)


class PhotoLook:
    """An object cut out of a photograph, upright, over another photograph. Occluders show a part of a third one.

    The sources of the photographs are listed in ``alpharefine/synthetic/photos/README.md``.

    Args:
        rng: Random generator.
        index: Index of the video, which selects the object.
    """

    def __init__(self, rng: np.random.Generator, index: int) -> None:
        self.target_class: str = list(_CUTOUTS)[index % len(_CUTOUTS)]
        others = [name for name in _BACKGROUNDS if name != _CUTOUTS[self.target_class]]
        self._background, self._occluder = (str(name) for name in rng.permutation(others)[:2])

    def target(self, rng: np.random.Generator, half_size: float, stretch: float) -> Sprite:  # noqa: ARG002 - shared signature
        """Return the object in its own proportions, stretched a little.

        Args:
            rng: Random generator.
            half_size: Half the geometric mean of the sides, in frame pixels.
            stretch: Factor of the width, and inverse factor of the height.
        """
        picture = _read(f"{self.target_class}.webp")
        height, width = picture.shape[:2]
        ratio = np.sqrt(width / height) * stretch**0.5
        return Sprite.cut_out(picture, (half_size * ratio, half_size / ratio))

    def first_angle(self, rng: np.random.Generator) -> float:
        """Draw an angle of up to 17 degrees.

        Args:
            rng: Random generator.
        """
        return rng.uniform(-0.3, 0.3)

    def occluder(self, rng: np.random.Generator, half_size: tuple[float, float]) -> Sprite:
        """Cut a rectangle or polygon out of a photograph.

        Args:
            rng: Random generator.
            half_size: Half the width and half the height in frame pixels.
        """
        sprite = _draw_occluder(rng, half_size, Palette.draw(rng, 0.0, 0.5))
        return replace(sprite, texture=_cover(rng, self._occluder, (sprite.alpha.shape[0], sprite.alpha.shape[1])))

    def background(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """Cut the background out of a photograph.

        Args:
            rng: Random generator.
            size: Height and width in pixels.
        """
        return _cover(rng, self._background, size)


LOOKS: dict[LookName, Callable[[np.random.Generator, int], Look]] = {"drawn": DrawnLook, "photos": PhotoLook}
"""Constructors of the looks."""


def _draw_occluder(rng: np.random.Generator, half_size: tuple[float, float], palette: Palette) -> Sprite:
    return Sprite.draw(rng, "rectangle" if rng.random() < 0.7 else "polygon", half_size, palette)


def _cover(rng: np.random.Generator, name: str, size: tuple[int, int]) -> np.ndarray:
    """Return a random part of a photograph, mirrored or not, of this height and width."""
    picture = _read(f"{name}.jpg")
    scale = rng.uniform(1, _MAX_ZOOM) * max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    shown = [max(side, round(scale * own)) for side, own in zip(size, picture.shape[:2], strict=True)]
    top, left = (int(rng.integers(0, have - need + 1)) for have, need in zip(shown, size, strict=True))
    flip = -1 if rng.random() < 0.5 else 1
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, (shown[1], shown[0]), interpolation=interpolation)
    return np.ascontiguousarray(resized[top : top + size[0], left : left + size[1]][:, ::flip])


@cache
def _read(name: str) -> np.ndarray:
    """Read a photograph as RGB, or as RGB with the opacity in a fourth channel if the file has one."""
    content = np.frombuffer((files("alpharefine.synthetic") / "photos" / name).read_bytes(), np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB)
