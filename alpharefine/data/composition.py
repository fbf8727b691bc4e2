"""Video made of pictures: cut-outs that move over other pictures between a template frame and a search frame."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alpharefine.data.crop_store import CropStore
from alpharefine.data.device_draws import Choice, Draws, Frames
from alpharefine.data.device_images import lit, motion_blurred
from alpharefine.data.pair_recipe import PairRecipe

CANVAS = 352
"""Side of a composed frame in pixels."""

_TARGET_SIZES = (48.0, 112.0)
"""Range of the geometric mean of the sides of a composed target in canvas pixels."""

_MAX_TARGET_SIDE = 140.0
_MIN_BACKGROUND_SIDE = 140.0
_MIN_VISIBLE_AREA = 100.0
_MIN_VISIBLE_PART = 0.35


class Composer:
    """Frames composed of stored cut-outs.

    Args:
        store: Crop store on the device.
        cutouts: Choice of the cut-outs. Their crops need masks.
        sequences: Indices of the sequences whose crops may be backgrounds.
        recipe: Composition of the frames.
        draw: Random tensors.
        dtype: Type of the colors.
    """

    def __init__(
        self,
        store: CropStore,
        cutouts: Choice,
        sequences: Collection[int],
        recipe: PairRecipe,
        draw: Draws,
        dtype: torch.dtype,
    ) -> None:
        self.store, self.recipe = store, recipe
        self._cutouts, self._draw, self._dtype = cutouts, draw, dtype
        usable = np.zeros(len(store.pixels), dtype=bool)
        for n in sequences:
            usable[int(store.starts[n]) : int(store.starts[n + 1])] = True
        wide = usable & (store.sizes.amin(1).cpu().numpy() >= _MIN_BACKGROUND_SIDE)
        self._backgrounds = torch.from_numpy(np.flatnonzero(wide if wide.any() else usable)).to(store.pixels.device)

    def frames(self, num: int) -> tuple[Frames, Frames]:
        """Return template frames and search frames, of shape ``(B, 4, C, C)`` with C = `CANVAS`.

        Args:
            num: Number of pairs B.
        """
        recipe, draw = self.recipe, self._draw
        targets = self._cutouts.frames(num, recipe.max_gap, draw)
        others = self._cutouts.frames(num, recipe.max_gap, draw)[0]
        change = draw.uniform(num, 1)  # how much time passes between the two frames
        size = (draw.uniform(num, 1) * math.log(_TARGET_SIZES[1] / _TARGET_SIZES[0])).exp() * _TARGET_SIZES[0]
        pose = _Pose.draw(num, size, draw)
        poses = (pose.moved(0 * change, draw), pose.moved(change, draw))
        backgrounds = self._background_frames(num, change)
        light = draw.normal(num, 3, 1, 1, std=0.05) + draw.normal(num, 1, 1, 1, std=0.15)
        same = draw.below(recipe.same_distractor_prob, num)
        beside = draw.uniform(num, low=-math.pi, high=math.pi)
        other_size = size * draw.normal(num, 1, std=0.25).exp()
        other_pose = _Pose.draw(num, other_size, draw)
        other_light = draw.normal(num, 3, 1, 1, std=0.1)
        frames = []
        for k in range(2):
            frame = backgrounds[k]
            distance = draw.uniform(num, low=0.85, high=1.5) * (size + other_size)[:, 0] / 2
            angle = beside + k * draw.normal(num, std=0.7) * change[:, 0]
            offset = torch.stack([angle.cos(), angle.sin()], 1) * distance[:, None]
            distractor = other_pose.moved(k * change, draw).at(poses[k].center + offset)
            shows = draw.below(recipe.distractor_probs[k], num).to(self._dtype)[:, None, None, None]
            rgb, alpha = self._layer(torch.where(same, targets[k], others), distractor)
            frame = torch.lerp(
                frame, lit(rgb, torch.where(same[:, None, None, None], light, other_light)), alpha * shows
            )
            rgb, alpha = self._layer(targets[k], poses[k])
            rgb = lit(rgb, light + k * change[:, :, None, None] * draw.normal(num, 3, 1, 1, std=0.08))
            if k:
                rgb, alpha = motion_blurred(rgb, alpha, draw)
            frame = torch.lerp(frame, rgb, alpha)
            seen = alpha
            if k:
                frame, seen = self._occluded(frame, alpha, poses[k].center, size, targets[k])
            boxes_xyxy, valid = _visible_boxes(seen[:, 0], alpha[:, 0])
            frames.append((torch.cat([frame, seen], 1).float(), boxes_xyxy, valid))
        valid = frames[0][2] & frames[1][2]
        # Pairs without a visible target are replaced by others of the batch; the order alone depends on the data.
        order = torch.argsort((~valid).to(torch.uint8), stable=True)
        keep = order[torch.arange(num, device=order.device) % valid.sum().clamp(min=1)]
        known = valid[keep]
        return tuple(Frames(pixels[keep], boxes_xyxy[keep], known) for pixels, boxes_xyxy, _ in frames)  # type: ignore[return-value]

    def _layer(self, numbers: Tensor, pose: _Pose) -> tuple[Tensor, Tensor]:
        """Render cut-outs on the canvas: ``(B, 3, C, C)`` colors and ``(B, 1, C, C)`` alpha."""
        store = self.store
        box = store.boxes_xyxy[numbers]
        side = store.pixels.shape[-1]
        grid = F.affine_grid(pose.theta(box, side), [len(numbers), 1, CANVAS, CANVAS], align_corners=False)
        if pose.bend is not None:
            field = F.interpolate(pose.bend, (CANVAS, CANVAS), mode="bicubic", align_corners=False)
            grid = grid + field.permute(0, 2, 3, 1) * (2 / side) * (box[:, 2:] - box[:, :2])[:, None, None]
        layer = F.grid_sample(store.pixels[numbers].float(), grid, align_corners=False).to(self._dtype)
        alpha = ((layer[:, 3:] / 255 - 0.3) / 0.5).clamp(0, 1)  # a little inside of the outline, without its background
        return layer[:, :3], alpha * alpha * (3 - 2 * alpha)

    def _occluded(
        self, frame: Tensor, alpha: Tensor, center: Tensor, size: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cover a part of some targets. Return the frames and the visible parts of the targets."""
        draw, num = self._draw, len(frame)
        cover_size = size * draw.normal(num, 1, std=0.3).exp()
        angle = draw.uniform(num, low=-math.pi, high=math.pi)
        distance = draw.uniform(num, low=0.45, high=0.95) * (size + cover_size)[:, 0] / 2
        offset = torch.stack([angle.cos(), angle.sin()], 1) * distance[:, None]
        others = self._cutouts.frames(num, 0, draw)[0]
        others = torch.where(draw.below(self.recipe.same_distractor_prob / 2, num), targets, others)
        rgb, cover = self._layer(
            others, _Pose.draw(num, cover_size, draw).moved(torch.ones_like(size), draw).at(center + offset)
        )
        cover = cover * draw.below(self.recipe.occluder_prob, num).to(self._dtype)[:, None, None, None]
        return torch.lerp(frame, lit(rgb, draw.normal(num, 3, 1, 1, std=0.1)), cover), alpha * (1 - cover)

    def _background_frames(self, num: int, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return two views of a picture, as from a moving camera. Some pairs have two pictures."""
        draw = self._draw
        numbers = self._backgrounds[
            torch.randint(len(self._backgrounds), (2, num), generator=draw.generator, device=draw.generator.device)
        ]
        again = torch.where(draw.below(0.25, num), numbers[1], numbers[0])
        zoom, angle = draw.uniform(num, 1, low=0.5, high=1.0), draw.normal(num, 1, std=0.05)
        middle = draw.uniform(num, 2, low=0.3, high=0.7)
        first = self._background(numbers[0], zoom, angle, middle)
        second = self._background(
            again,
            zoom * (draw.normal(num, 1, std=0.06) * change).exp(),
            angle + draw.normal(num, 1, std=0.04) * change,
            middle + draw.normal(num, 2, std=0.08) * change,
        )
        return first, second

    def _background(self, numbers: Tensor, zoom: Tensor, angle: Tensor, middle: Tensor) -> Tensor:
        """Return views of stored crops, mirrored at their borders, of shape ``(B, 3, C, C)``."""
        size = self.store.sizes[numbers].flip(1)  # width, height
        scale = zoom * size.amin(1, keepdim=True) / 2
        cos, sin = angle.cos() * scale, angle.sin() * scale
        theta = torch.stack(
            [
                torch.cat([cos, -sin, middle[:, :1] * size[:, :1]], 1),
                torch.cat([sin, cos, middle[:, 1:] * size[:, 1:]], 1),
            ],
            1,
        )
        points = F.affine_grid(theta, [len(numbers), 1, CANVAS, CANVAS], align_corners=False)
        size = size[:, None, None]
        folded = size - (size - points.remainder(2 * size)).abs()
        grid = 2 * torch.minimum(folded.clamp(min=0.5), size - 0.5) / self.store.pixels.shape[-1] - 1
        pixels = self.store.pixels[numbers, :3].float()
        return F.grid_sample(pixels, grid, align_corners=False).to(self._dtype)


class _Pose(NamedTuple):
    """_Pose of cut-outs on the canvas."""

    size: Tensor  # (B, 1), geometric mean of the sides, canvas pixels
    angle: Tensor  # (B, 1), radians
    shear: Tensor  # (B, 1)
    aspect: Tensor  # (B, 1), half the log of the factor of the aspect ratio
    mirror: Tensor  # (B, 1), 1 or -1
    center: Tensor  # (B, 2), canvas pixels
    bend: Tensor | None = None  # (B, 2, n, n), shift over the side of the box

    @classmethod
    def draw(cls, num: int, size: Tensor, draw: Draws) -> _Pose:
        mirror = 1 - 2 * draw.below(0.5, num, 1).float()
        angle, shear, aspect = (
            draw.normal(num, 1, std=0.12),
            draw.normal(num, 1, std=0.06),
            draw.normal(num, 1, std=0.08),
        )
        return cls(size, angle, shear, aspect, mirror, torch.full_like(mirror.expand(-1, 2), CANVAS / 2))

    def moved(self, change: Tensor, draw: Draws) -> _Pose:
        """Return the pose after some time, slightly shifted and bent in any case.

        Args:
            change: Amount of change, ``(B, 1)`` in 0..1.
            draw: Source of random numbers.
        """
        num = len(change)
        amount = (0.01 + 0.06 * change) * draw.uniform(num, 1)
        return _Pose(
            size=self.size * (draw.normal(num, 1, std=0.2) * change).exp(),
            angle=self.angle + draw.normal(num, 1, std=0.25) * change,
            shear=self.shear + draw.normal(num, 1, std=0.12) * change,
            aspect=self.aspect + draw.normal(num, 1, std=0.12) * change,
            mirror=self.mirror,
            center=self.center + draw.normal(num, 2, std=8.0).clamp(-16, 16),
            bend=draw.normal(num, 2, 8, 8) * amount[:, :, None, None],
        )

    def at(self, center: Tensor) -> _Pose:
        return self._replace(center=center)

    def theta(self, boxes_xyxy: Tensor, side: int) -> Tensor:
        """Return the map from the canvas to stored crops, ``(B, 2, 3)`` in the coordinates of `affine_grid`.

        Args:
            boxes_xyxy: Boxes of the targets, ``(B, 4)`` in pixels of the stored crops.
            side: Side of the stored crops in pixels.
        """
        box_size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        mean_side = box_size.prod(1, keepdim=True).sqrt()
        # Long targets are made smaller, so that they stay on the canvas.
        size = torch.minimum(self.size, _MAX_TARGET_SIDE * mean_side / box_size.amax(1, keepdim=True))
        scale = mean_side / size
        cos, sin = self.angle.cos(), self.angle.sin()
        x_scale, y_scale = self.mirror * scale * (-self.aspect).exp(), scale * self.aspect.exp()
        rows = [
            torch.cat([x_scale * cos, x_scale * (sin + self.shear * cos)], 1),
            torch.cat([-y_scale * sin, y_scale * (cos - self.shear * sin)], 1),
        ]
        matrix = torch.stack(rows, 1)  # (B, 2, 2), canvas pixels to crop pixels
        anchor = (boxes_xyxy[:, 2:] + boxes_xyxy[:, :2]) / 2
        offset = anchor + (matrix * (CANVAS / 2 - self.center)[:, None]).sum(2)
        return torch.cat([matrix * (CANVAS / side), (2 / side * offset - 1)[..., None]], 2)


def _visible_boxes(seen: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Return the boxes of the visible parts, shape ``(B, 4)``, and a flag for each target that is visible enough."""
    mask = seen > 0.5
    edges = []
    for axis in (1, 2):  # columns, then rows
        line = mask.any(axis).to(torch.uint8)
        edges += [line.argmax(1), line.shape[1] - line.flip(1).argmax(1)]
    x1, x2, y1, y2 = edges
    area = mask.sum((1, 2))
    valid = (area >= _MIN_VISIBLE_AREA) & (area >= _MIN_VISIBLE_PART * (whole > 0.5).sum((1, 2)))
    boxes_xyxy = torch.stack([x1, y1, x2, y2], 1).float()
    return torch.where(valid[:, None], boxes_xyxy, boxes_xyxy.new_tensor([0.0, 0.0, 16.0, 16.0])), valid
