"""Other views of the first frame's target, which its filter is learned from. Pictures are float32 ``(3, h, w)``."""

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
    """Which views are made, in the order of the attributes after the picture as it is.

    Attributes:
        relativeshift: moves, as parts ``(y, x)`` of half the crop.
        fliplr: whether to mirror left and right.
        blur: standard deviations ``(y, x)`` in pixels.
        rotate: degrees, counter-clockwise.
        dropout: number of copies, and probability of each channel of the features to be dropped.
    """

    relativeshift: tuple[tuple[float, float], ...] = ()
    fliplr: bool = False
    blur: tuple[tuple[float, float], ...] = ()
    rotate: tuple[float, ...] = ()
    dropout: tuple[int, float] | None = None


class View(NamedTuple):
    """A way to look at the target.

    Attributes:
        change: of the large picture.
        shift_yx: by how many pixels the crop's content moves down and right.
    """

    change: Callable[[Tensor], Tensor]
    shift_yx: tuple[int, int]


def make_views(
    augmentation: FirstFrameViews, size: int, random_shift_factor: float, generator: torch.Generator
) -> list[View]:
    """List the views.

    Args:
        augmentation: which.
        size: side of the crop.
        random_shift_factor: mirrored, blurred and rotated views are moved by up to half of this part of the crop.
        generator: of the random moves, drawn in the order of the views.
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


def crops_of(views: list[View], picture: Tensor, size: int) -> Tensor:
    """Cut the middle of each view.

    Args:
        views: N views.
        picture: ``(3, h, w)``.
        size: side of the crops.

    Returns:
        ``(N, 3, size, size)``.
    """
    return torch.stack([shifted_crop(view.change(picture), size, view.shift_yx) for view in views])


def shifted_crop(picture: Tensor, size: int, shift_yx: tuple[int, int]) -> Tensor:
    """The middle ``(..., size, size)`` of a picture ``(..., h, w)``, its content moved; the border's pixels repeat."""
    for axis, shift in ((-2, shift_yx[0]), (-1, shift_yx[1])):
        length = picture.shape[axis]
        first = -math.floor((size - length) / 2) - shift
        indices = torch.arange(first, first + size, device=picture.device).clamp(0, length - 1)
        picture = picture.index_select(axis, indices)
    return picture


def drop_channels(features: Tensor, num_copies: int, prob: float, generator: torch.Generator) -> Tensor:
    """Copies of one sample's features, each without some channels, the others scaled up.

    Args:
        features: ``(1, C, H, W)``.
        num_copies: how many.
        prob: of each channel to be dropped.
        generator: of the choice, on the CPU.

    Returns:
        ``(num_copies, C, H, W)``.
    """
    kept = torch.empty(num_copies, features.shape[1], 1, 1).bernoulli_(1 - prob, generator=generator) / (1 - prob)
    return features * kept.to(features.device)


def _same(picture: Tensor) -> Tensor:
    return picture


def _mirror(picture: Tensor) -> Tensor:
    return picture.flip(-1)


def _blurring(sigma_yx: tuple[float, float]) -> Callable[[Tensor], Tensor]:
    def blur(picture: Tensor) -> Tensor:
        kernel_y, kernel_x = (_gaussian(sigma, picture) for sigma in sigma_yx)
        rows = F.conv2d(picture[:, None], kernel_y[None, None, :, None], padding=(len(kernel_y) // 2, 0))
        return F.conv2d(rows, kernel_x[None, None, None, :], padding=(0, len(kernel_x) // 2))[:, 0]

    return blur


def _gaussian(sigma: float, like: Tensor) -> Tensor:
    reach = math.ceil(2 * sigma)
    values = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * sigma**2))
    return (values / values.sum()).to(like)


def _rotating(degrees: float) -> Callable[[Tensor], Tensor]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def rotate(picture: Tensor) -> Tensor:
        back = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], dtype=picture.dtype, device=picture.device)
        grid = F.affine_grid(back, [1, *picture.shape], align_corners=True)
        return F.grid_sample(picture[None], grid, "bilinear", "border", align_corners=True)[0]

    return rotate
