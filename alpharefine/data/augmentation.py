"""Changes made to a pair while training: jitter of the search box, colours, flips."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, fields

import numpy as np

from alpharefine.errors import UserError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations asks the package index at import without it

import albumentations as A


@dataclass(frozen=True)
class Augmentation:
    """What is varied, and how much. The defaults are the original's training recipe.

    Attributes:
        scale_jitter: standard deviation of the log of each side's factor.
        center_jitter: the centre moves uniformly by up to half of this times the geometric mean of the jittered sides.
        gray_prob: how often both crops are turned to grey.
        brightness: each crop is multiplied by a factor drawn from ``1 - brightness`` to ``1 + brightness``.
        contrast: the same for contrast, and for `saturation`.
        saturation: see `contrast`.
        blur_prob: how often the search crop, the template crop, each on its own, is blurred.
        flip_prob: how often both crops are mirrored left to right.
    """

    scale_jitter: float = 0.25
    center_jitter: float = 0.25
    gray_prob: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.0
    saturation: float = 0.0
    blur_prob: float = 0.0
    flip_prob: float = 0.0

    def check(self) -> None:
        """Check the numbers; not done where they are parsed, for the parser would swallow the message.

        Raises:
            UserError: if one is out of its range.
        """
        for each in fields(self):
            value, most = getattr(self, each.name), np.inf if each.name.endswith("_jitter") else 1.0
            if not 0 <= value <= most:
                raise UserError(f"Augmentation: `{each.name}` must be in 0..{most}, got {value}; correct it.")

    def jitter_only(self) -> Augmentation:
        """The same jitter of the box, and no other change."""
        return Augmentation(self.scale_jitter, self.center_jitter, gray_prob=0.0, brightness=0.0)

    def jitter(self, box_xywh: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move and stretch a box as an inaccurate tracker would.

        Args:
            box_xywh: ``(4,)`` image pixels.
            rng: source of the two normal and the two uniform draws.

        Returns:
            ``(4,)`` xywh, of positive size.
        """
        size = box_xywh[2:] * np.exp(self.scale_jitter * rng.standard_normal(2))
        shift = self.center_jitter * np.sqrt(size.prod()) * (rng.random(2) - 0.5)
        centre = box_xywh[:2] + box_xywh[2:] / 2 + shift
        return np.concatenate([centre - size / 2, size])


class Photometric:
    """The changes of colour, on one crop.

    albumentations' own generators are set anew for each crop from the pair's generator: left to themselves they repeat
    the same draws in every data-loader worker and every epoch.
    """

    def __init__(self, augmentation: Augmentation) -> None:
        def around_one(amount: float) -> tuple[float, float]:
            return (1 - amount, 1 + amount)

        self._to_gray = A.ToGray(p=1.0)
        self._compose = A.Compose(
            [
                A.ColorJitter(
                    brightness=around_one(augmentation.brightness),
                    contrast=around_one(augmentation.contrast),
                    saturation=around_one(augmentation.saturation),
                    hue=(0.0, 0.0),
                    p=1.0,
                ),
                A.GaussianBlur(sigma_limit=(0.5, 2.0), p=augmentation.blur_prob),
            ]
        )

    def __call__(self, crop: np.ndarray, gray: bool, rng: np.random.Generator) -> np.ndarray:
        """Change a crop.

        Args:
            crop: ``(S, S, 3)`` uint8 RGB.
            gray: whether to turn it to grey first.
            rng: the pair's generator.

        Returns:
            ``(S, S, 3)`` uint8 RGB.
        """
        if gray:
            crop = self._to_gray(image=crop)["image"]
        seed = int(rng.integers(2**32))
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        changed: np.ndarray = self._compose(image=crop)["image"]
        return changed
