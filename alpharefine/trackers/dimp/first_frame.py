"""Augmented views of the first frame, for training the classifier. Images are float32 ``(3, h, w)``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class FirstFrameViews:
    """Selection of the views, in the order of the attributes, after the unchanged image.

    Attributes:
        relativeshift: Shifts ``(y, x)`` as fractions of half the crop.
        fliplr: Adds the image flipped left to right.
        blur: Standard deviations ``(y, x)`` of Gaussian blur in pixels.
        rotate: Rotations in degrees, counterclockwise.
        dropout: Number of copies of the features, and probability that a channel is dropped.
    """

    relativeshift: tuple[tuple[float, float], ...] = ()
    fliplr: bool = False
    blur: tuple[tuple[float, float], ...] = ()
    rotate: tuple[float, ...] = ()
    dropout: tuple[int, float] | None = None


class View(NamedTuple):
    """One view of the target.

    Attributes:
        change: Function that transforms the enlarged image.
        shift_yx: Shift of the crop's content in pixels, down and to the right.
    """

    change: Callable[[Tensor], Tensor]
    shift_yx: tuple[int, int]


def make_views(
    augmentation: FirstFrameViews, size: int, random_shift_factor: float, generator: torch.Generator
) -> list[View]:
    """Return the views of the first frame.

    Args:
        augmentation: Selection of the views.
        size: Side of the crop in pixels.
        random_shift_factor: Flipped, blurred and rotated views are shifted by up to half of this fraction of the crop.
        generator: Generator of the random shifts, which are drawn in the order of the views.
    """

    def random_shift() -> tuple[int, int]:
        shift = ((torch.rand(2, generator=generator) - 0.5) * size * random_shift_factor).trunc().int().tolist()
        return shift[0], shift[1]

    views = [View(_same, (0, 0))]
    views += [View(_same, (int(y * size / 2), int(x * size / 2))) for y, x in augmentation.relativeshift]
    views += [View(_mirror, random_shift())] if augmentation.fliplr else []
    views += [View(_blurring(sigma), random_shift()) for sigma in augmentation.blur]
    views += [View(_rotating(angle), random_shift()) for angle in augmentation.rotate]
    return views


def crops_of(views: list[View], image: Tensor, size: int) -> Tensor:
    """Crop the middle of each view.

    Args:
        views: N views.
        image: Enlarged image, ``(3, h, w)``.
        size: Side of the crops in pixels.

    Returns:
        Crops, ``(N, 3, size, size)``.
    """
    return torch.stack([shifted_crop(view.change(image), size, view.shift_yx) for view in views])


def shifted_crop(image: Tensor, size: int, shift_yx: tuple[int, int]) -> Tensor:
    """Crop the middle of an image whose content is shifted; the pixels at its border are repeated.

    Args:
        image: Image, ``(..., h, w)``.
        size: Side of the crop in pixels.
        shift_yx: Shift of the content in pixels, down and to the right.

    Returns:
        Crop, ``(..., size, size)``.
    """
    for axis, shift in ((-2, shift_yx[0]), (-1, shift_yx[1])):
        length = image.shape[axis]
        first = -math.floor((size - length) / 2) - shift
        indices = torch.arange(first, first + size, device=image.device).clamp(0, length - 1)
        image = image.index_select(axis, indices)
    return image


def drop_channels(features: Tensor, num_copies: int, prob: float, generator: torch.Generator) -> Tensor:
    """Return copies of a sample's features in which random channels are zero and the others are scaled up.

    Args:
        features: Feature map, ``(1, C, H, W)``.
        num_copies: Number of copies.
        prob: Probability that a channel is dropped.
        generator: Generator of the selection, on the CPU.

    Returns:
        Feature maps, ``(num_copies, C, H, W)``.
    """
    kept = torch.empty(num_copies, features.shape[1], 1, 1).bernoulli_(1 - prob, generator=generator) / (1 - prob)
    return features * kept.to(features.device)


def _same(image: Tensor) -> Tensor:
    return image


def _mirror(image: Tensor) -> Tensor:
    return image.flip(-1)


def _blurring(sigma_yx: tuple[float, float]) -> Callable[[Tensor], Tensor]:
    def blur(image: Tensor) -> Tensor:
        kernel_y, kernel_x = (_gaussian(sigma, image) for sigma in sigma_yx)
        rows = F.conv2d(image[:, None], kernel_y[None, None, :, None], padding=(len(kernel_y) // 2, 0))
        return F.conv2d(rows, kernel_x[None, None, None, :], padding=(0, len(kernel_x) // 2))[:, 0]

    return blur


def _gaussian(sigma: float, like: Tensor) -> Tensor:
    reach = math.ceil(2 * sigma)
    values = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * sigma**2))
    return (values / values.sum()).to(like)


def _rotating(degrees: float) -> Callable[[Tensor], Tensor]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def rotate(image: Tensor) -> Tensor:
        back = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], dtype=image.dtype, device=image.device)
        grid = F.affine_grid(back, [1, *image.shape], align_corners=True)
        return F.grid_sample(image[None], grid, "bilinear", "border", align_corners=True)[0]

    return rotate
