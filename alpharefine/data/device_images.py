"""Batched operations on images, without host synchronization."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alpharefine.crops import CROP_SIZE, SEARCH_FACTOR
from alpharefine.data.device_draws import Draws

_MOTION_KERNEL = 11


class Light(NamedTuple):
    """Change of light and color of crops."""

    gain: Tensor
    contrast: Tensor
    saturation: Tensor
    gamma: Tensor

    @classmethod
    def draw(cls, num: int, std: float, draw: Draws) -> Light:
        """Draw a change for each crop of a batch.

        Args:
            num: Number of crops.
            std: Strength of the change.
            draw: Random tensors.
        """
        color = draw.normal(num, 3, 1, 1, std=std / 3)
        gain, contrast, saturation, gamma = (
            draw.normal(num, 1, 1, 1, std=std * part).exp() for part in (1.2, 1.5, 2.0, 1.2)
        )
        return cls(gain * color.exp(), contrast, saturation, gamma)

    def apply(self, crops: Tensor) -> Tensor:
        """Change the light and color of crops.

        Args:
            crops: ``(B, 3, H, W)`` in 0..255.
        """
        gain, contrast, saturation, gamma = (tensor.to(crops.dtype) for tensor in self)
        crops = 255 * (crops * (gain / 255)).clamp(1e-3, 1) ** gamma
        means = crops.mean((1, 2, 3), keepdim=True)
        crops = means + (crops - means) * contrast
        grays = crops.mean(1, keepdim=True)
        return (grays + (crops - grays) * saturation).clamp(0, 255)


def windows_around(boxes_xyxy: Tensor, search_factor: float = SEARCH_FACTOR) -> Tensor:
    """Return the windows of boxes as `alpharefine.crops.Window.around` does.

    Args:
        boxes_xyxy: ``(B, 4)``, pixels, positive size.
        search_factor: Side of the window over side of the box.

    Returns:
        ``(B, 4)``, x, y, width and height in whole pixels.
    """
    size = (search_factor * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])).ceil()
    center = (boxes_xyxy[:, 2:] + boxes_xyxy[:, :2]) / 2
    return torch.cat([(center - size / 2).round(), size], dim=1)


def cut(frames: Tensor, windows: Tensor, flip: Tensor) -> Tensor:
    """Cut windows out of frames and resize them bilinearly to crops, with black outside the frames.

    Args:
        frames: ``(B, C, S, S)`` float32.
        windows: ``(B, 4)``, x, y, width and height in pixels.
        flip: ``(B,)`` bool, crops to be mirrored left to right.

    Returns:
        ``(B, C, 256, 256)`` float32.
    """
    side = frames.shape[-1]
    scale, shift = windows[:, 2:] / side, (2 * windows[:, :2] + windows[:, 2:]) / side - 1
    zero = torch.zeros_like(scale[:, 0])
    rows = [
        torch.stack([torch.where(flip, -scale[:, 0], scale[:, 0]), zero, shift[:, 0]], 1),
        torch.stack([zero, scale[:, 1], shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [len(frames), 1, CROP_SIZE, CROP_SIZE], align_corners=False)
    return F.grid_sample(frames, grid, align_corners=False)


def to_crop(boxes_xyxy: Tensor, windows: Tensor, flip: Tensor) -> Tensor:
    """Map boxes from frames to crops.

    Args:
        boxes_xyxy: ``(B, 4)``, pixels of the frames.
        windows: ``(B, 4)``, x, y, width and height in pixels.
        flip: ``(B,)`` bool, crops that are mirrored left to right.

    Returns:
        ``(B, 4)`` xyxy in crop pixels, clamped to the crop.
    """
    origin, size = windows[:, :2].repeat(1, 2), windows[:, 2:].repeat(1, 2)
    crop_xyxy = (boxes_xyxy - origin) * (CROP_SIZE / size)
    x1, y1, x2, y2 = crop_xyxy.unbind(1)
    mirrored = torch.stack([CROP_SIZE - x2, y1, CROP_SIZE - x1, y2], 1)
    return torch.where(flip[:, None], mirrored, crop_xyxy).clamp(0, CROP_SIZE)


def block_compressed(crops: Tensor, step: Tensor) -> Tensor:
    """Quantize the cosine transform of blocks of 8 x 8 pixels, as in JPEG.

    Args:
        crops: ``(B, C, H, W)`` in 0..255, sides divisible by 8.
        step: ``(B, 1)``, quantization step of the lowest frequency.
    """
    position = torch.arange(8.0, device=crops.device)
    basis = torch.cos(math.pi / 8 * (position[None] + 0.5) * position[:, None]) * 0.5
    basis[0] *= math.sqrt(0.5)
    basis = basis.to(crops.dtype)
    steps = (step[:, :, None, None, None, None] * (1 + (position[:, None] + position[None]) / 2)).to(crops.dtype)
    num, channels, height, width = crops.shape
    blocks = crops.reshape(num, channels, height // 8, 8, width // 8, 8).transpose(3, 4)  # (B, C, h, w, 8, 8)
    coefficients = basis @ blocks @ basis.T
    blocks = basis.T @ ((coefficients / steps).round() * steps) @ basis
    return blocks.transpose(3, 4).reshape(crops.shape)


def lit(rgb: Tensor, log_gain: Tensor) -> Tensor:
    """Multiply colors.

    Args:
        rgb: Colors in 0..255.
        log_gain: Logarithm of the factor, of a shape that broadcasts.
    """
    return (rgb * log_gain.exp().to(rgb.dtype)).clamp(max=255)


def blurred(crops: Tensor, sigma: float) -> Tensor:
    """Blur crops by a Gaussian.

    Args:
        crops: ``(B, C, H, W)``.
        sigma: Standard deviation in pixels.
    """
    reach = math.ceil(2.5 * sigma)
    position = torch.arange(-reach, reach + 1.0, device=crops.device)
    kernel = torch.exp(-0.5 * (position / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(crops.dtype).repeat(crops.shape[1], 1, 1, 1)
    padded = F.pad(crops, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=crops.shape[1]), kernel.transpose(2, 3), groups=crops.shape[1])


def motion_blurred(rgb: Tensor, alpha: Tensor, draw: Draws) -> tuple[Tensor, Tensor]:
    """Blur every fourth layer along a line, colors and alpha together.

    Args:
        rgb: Colors, ``(B, 3, H, W)``.
        alpha: Opacity in 0..1, ``(B, 1, H, W)``.
        draw: Random tensors.

    Returns:
        Colors and opacity of the same shapes.
    """
    part = torch.cat([rgb[::4] * alpha[::4], alpha[::4]], 1)
    num, reach = len(part), _MOTION_KERNEL // 2
    angle = draw.uniform(num, 1, 1, low=-math.pi, high=math.pi)
    half = draw.uniform(num, 1, 1, low=0.5, high=reach)
    y, x = torch.meshgrid(*(torch.arange(-reach, reach + 1.0, device=rgb.device),) * 2, indexing="ij")
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    kernel = (half + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(min=0)
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(4, 0)[:, None].to(rgb.dtype)
    blurred = F.conv2d(part.flatten(0, 1)[None], kernel, padding=reach, groups=4 * num)[0].view(num, 4, *rgb.shape[2:])
    rgb, alpha = rgb.clone(), alpha.clone()
    alpha[::4] = blurred[:, 3:]
    rgb[::4] = blurred[:, :3] / blurred[:, 3:].clamp(min=1e-3)
    return rgb, alpha
