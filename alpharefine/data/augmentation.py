"""Augmentation of training pairs: search-box jitter and photometric changes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import numpy as np

from alpharefine.errors import UserError


@dataclass(frozen=True)
class PairAugmentation:
    """Strengths and probabilities of the augmentations of a pair. The defaults are the original training recipe.

    Attributes:
        scale_jitter: Standard deviation of the logarithm of the scale factor of each side of the search box.
        center_jitter: Range of the uniform shift of the search-box center, relative to the geometric mean of the
            jittered sides. The center moves by up to half of this range in each direction.
        gray_prob: Probability that both crops are converted to grayscale.
        brightness: Each crop is multiplied by a factor in ``[1 - brightness, 1 + brightness]``.
        contrast: The contrast of each crop changes by a factor in ``[1 - contrast, 1 + contrast]``.
        saturation: The saturation of each crop changes by a factor in ``[1 - saturation, 1 + saturation]``.
        blur_prob: Probability that a crop is blurred, independently for template and search crop.
        flip_prob: Probability that both crops are flipped horizontally.
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
        """Check that all values are in range. The constructor does not check, as the parser would hide the message.

        Raises:
            UserError: If a value is out of range.
        """
        for each in fields(self):
            value, most = getattr(self, each.name), np.inf if each.name.endswith("_jitter") else 1.0
            if not 0 <= value <= most:
                raise UserError(f"`augmentation.{each.name}` must be in 0..{most}, got {value}.")

    def jitter_only(self) -> PairAugmentation:
        """Return an augmentation with the same box jitter and no other change."""
        return PairAugmentation(self.scale_jitter, self.center_jitter, gray_prob=0.0, brightness=0.0)

    def jitter(self, box_xywh: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shift and scale a box randomly, to simulate an inaccurate tracker.

        Args:
            box_xywh: Box of shape ``(4,)`` in image pixels.
            rng: Random generator. Two normal and two uniform values are drawn.

        Returns:
            Box of shape ``(4,)``, xywh, with positive size.
        """
        size = box_xywh[2:] * np.exp(self.scale_jitter * rng.standard_normal(2))
        shift = self.center_jitter * np.sqrt(size.prod()) * (rng.random(2) - 0.5)
        center = box_xywh[:2] + box_xywh[2:] / 2 + shift
        return np.concatenate([center - size / 2, size])


class Photometric:
    """Photometric augmentation of one crop: brightness, contrast and saturation in random order, then blur.

    albumentations changes the pixels, except for the brightness. Its composition of transforms is not used: it takes
    twice the time of the changes, and every data loader worker and every epoch would repeat the same random values.

    Args:
        augmentation: Strengths and probabilities.
    """

    def __init__(self, augmentation: PairAugmentation) -> None:
        # albumentations is slow to import, and checks for updates at import unless this variable is set.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations as A
        from albumentations.augmentations.pixel import functional  # of the pinned version

        changes: list[tuple[Callable[[np.ndarray, float], np.ndarray], float]] = [
            (_multiply, augmentation.brightness),
            (functional.adjust_contrast_torchvision, augmentation.contrast),
            (functional.adjust_saturation_torchvision, augmentation.saturation),
        ]
        self._changes = [(change, amount) for change, amount in changes if amount > 0]
        self._blur_prob = augmentation.blur_prob
        self._to_gray, self._blur = A.ToGray(p=1.0), A.GaussianBlur(sigma_limit=(0.5, 2.0), p=1.0)

    def __call__(self, crop: np.ndarray, gray: bool, rng: np.random.Generator) -> np.ndarray:
        """Augment a crop.

        Args:
            crop: RGB crop of shape ``(S, S, 3)``, uint8.
            gray: Convert the crop to grayscale first.
            rng: Random generator of the pair.

        Returns:
            RGB crop of shape ``(S, S, 3)``, uint8.
        """
        if gray:
            crop = self._to_gray(image=crop)["image"]
        for number in rng.permutation(len(self._changes)):
            change, amount = self._changes[number]
            crop = change(crop, rng.uniform(1 - amount, 1 + amount))
        if rng.random() < self._blur_prob:
            seed = int(rng.integers(2**32))
            self._blur.set_random_state(np.random.default_rng(seed), random.Random(seed))
            crop = self._blur(image=crop)["image"]
        return crop


def _multiply(crop: np.ndarray, factor: float) -> np.ndarray:
    """Multiply the values of a crop. OpenCV rounds; albumentations, which truncates, takes twice the time."""
    return np.asarray(cv2.convertScaleAbs(crop, alpha=factor))
