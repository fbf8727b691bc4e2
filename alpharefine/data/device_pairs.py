"""Training pairs made on a device, batch by batch, from a `CropStore` in its memory.

A pair is drawn from two frames of a stored video, or from *video made of pictures*: the cut-out of a target, moved,
turned, stretched and bent between template and search frame, over another picture, beside and behind other cut-outs.
Boxes and masks are those of the visible pixels. All steps are batched tensor operations without host synchronization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alpharefine.crops import CROP_SIZE, SEARCH_FACTOR
from alpharefine.data.crop_store import CropStore
from alpharefine.data.pairs import PairBatch
from alpharefine.errors import UserError

CANVAS = 352
"""Side of a composed frame in pixels."""

_TARGET_SIZES = (48.0, 112.0)
"""Range of the geometric mean of the sides of a composed target in canvas pixels."""

_MAX_TARGET_SIDE = 140.0
_MIN_BACKGROUND_SIDE = 140.0
_MIN_VISIBLE_AREA = 100.0
_MIN_VISIBLE_PART = 0.35
_LOW_RESOLUTIONS = (40, 64, 96, 144)
_BLUR_SIGMAS = (0.8, 1.5, 2.5)
_MOTION_KERNEL = 11
_NUM_STRIDES = 8


@dataclass(frozen=True)
class BoxJitter:
    """Distribution of the errors of a base tracker's box. The errors of one box share a random factor.

    The defaults were fitted to NanoTrack's boxes on training videos with `benchmarks/tracker_errors.py`.

    Attributes:
        center: Standard deviation of the shift of the center along each axis, relative to the side of the box.
        scale: Standard deviation of the log of the scale of both sides.
        aspect: Standard deviation of half the log of the factor of the aspect ratio.
        spread: Standard deviation of the log of the shared factor, which is at most 2.5. 0 gives normal errors.
    """

    center: float = 0.085
    scale: float = 0.13
    aspect: float = 0.1
    spread: float = 0.5

    def apply(self, boxes_xyxy: Tensor, generator: torch.Generator) -> Tensor:
        """Jitter boxes.

        Args:
            boxes_xyxy: Boxes of shape ``(B, 4)``, in pixels.
            generator: Random generator on the device of the boxes.

        Returns:
            Boxes of shape ``(B, 4)``, xyxy, with sides of at least 4 pixels. Their centers are inside the given boxes.
        """
        draw, num = _Draws(generator), len(boxes_xyxy)
        spread = draw.normal(num, 1, std=self.spread).exp().clamp(max=2.5)
        size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        center = (boxes_xyxy[:, 2:] + boxes_xyxy[:, :2]) / 2
        scale = (draw.normal(num, 1, std=self.scale) * spread).clamp(-0.6, 0.6)
        aspect = (draw.normal(num, 1, std=self.aspect) * spread).clamp(-0.45, 0.45)
        shift = (draw.normal(num, 2, std=self.center) * spread).clamp(-0.4, 0.4)
        half = (size * torch.cat([scale + aspect, scale - aspect], 1).exp()).clamp(min=4) / 2
        middle = center + shift * size
        return torch.cat([middle - half, middle + half], dim=1)


@dataclass(frozen=True)
class PairRecipe:
    """Composition of the pairs.

    Attributes:
        composite_share: Share of the pairs that are video made of pictures.
        max_gap: Maximum number of stored frames between template and search frame.
        search_jitter: Errors of the center box of the search region.
        template_jitter: Errors of the template box, for targets with a mask.
        template_jitter_prob: Probability of errors of the template box.
        occluder_prob: Probability of an occluder over a part of a composed target in the search frame.
        distractor_probs: Probabilities of a distractor in a composed template frame and search frame.
        same_distractor_prob: Probability that a distractor has the picture of the target.
        augment: Mirror crops, change their light, blur and compress them, and add noise.
    """

    composite_share: float = 0.6
    max_gap: int = 16
    search_jitter: BoxJitter = BoxJitter()
    template_jitter: BoxJitter = BoxJitter(0.03, 0.04, 0.03)
    template_jitter_prob: float = 0.5
    occluder_prob: float = 0.3
    distractor_probs: tuple[float, float] = (0.35, 0.65)
    same_distractor_prob: float = 0.4
    augment: bool = True

    def for_validation(self) -> PairRecipe:
        """Return a recipe with the same search boxes, without changes of frames and templates."""
        return replace(self, composite_share=0.0, template_jitter_prob=0.0, augment=False)


class Frames(NamedTuple):
    """Frames with their targets.

    Attributes:
        pixels: RGB images with values 0 to 255 and masks with values 0 to 1, shape ``(B, 4, S, S)``, float32.
        boxes_xyxy: Boxes of shape ``(B, 4)``, float32, in pixels.
        has_mask: Boolean tensor of shape ``(B,)``, True for frames with a mask.
    """

    pixels: Tensor
    boxes_xyxy: Tensor
    has_mask: Tensor


class _Draws:
    """Random tensors on the device of a generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.generator.device) * (high - low) + low

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.generator.device) * std

    def below(self, prob: float, *shape: int) -> Tensor:
        return self.uniform(*shape) < prob


class Choice:
    """Random choice of sequences of a store by the weights of their sources.

    Args:
        store: Crop store.
        weights: Weight of each source, distributed over its sequences. Sources without a weight are not drawn.
        keep: Function that returns True for the indices of sequences that may be drawn.

    Raises:
        UserError: If no sequence may be drawn.
    """

    def __init__(self, store: CropStore, weights: Mapping[str, float], keep: Callable[[int], bool]) -> None:
        sources = [store.source_of(n) for n in range(len(store.names))]
        probs = np.array([weights.get(source, 0.0) * keep(n) for n, source in enumerate(sources)])
        for source in weights:
            members = np.array([s == source for s in sources]) & (probs > 0)
            probs[members] /= max(members.sum(), 1)
        if probs.sum() <= 0:
            raise UserError(
                f"The crop store holds no sequence to draw of {', '.join(weights) or 'no source'}; check the weights."
            )
        self._probs = torch.tensor(probs / probs.sum(), dtype=torch.float32, device=store.pixels.device)
        self._starts = store.starts

    def frames(self, num: int, max_gap: int, draw: _Draws) -> tuple[Tensor, Tensor]:
        """Draw the indices of template and search frames, each of shape ``(B,)``.

        Args:
            num: Number of pairs B.
            max_gap: Maximum number of stored frames between template and search frame.
            draw: Random tensors.
        """
        sequences = torch.multinomial(self._probs, num, replacement=True, generator=draw.generator)
        first, last = self._starts[sequences], self._starts[sequences + 1] - 1
        template = first + (draw.uniform(num) * (last - first + 1)).long().clamp(max=last - first)
        low, high = torch.maximum(template - max_gap, first), torch.minimum(template + max_gap, last)
        search = low + (draw.uniform(num) * (high - low + 1)).long()
        return template, torch.minimum(search, high)


class DevicePairs:
    """Random batches of pairs from a crop store.

    Args:
        store: Crop store on the device.
        video_weights: Weight of each source of stored frames.
        cutout_weights: Weight of each source of cut-outs. Its crops need masks.
        recipe: Composition of the pairs.
        seed: Random seed.
        sequences: Indices of the sequences to use. None selects all.

    Raises:
        UserError: If no sequence may be drawn.
    """

    def __init__(
        self,
        store: CropStore,
        video_weights: Mapping[str, float],
        cutout_weights: Mapping[str, float],
        recipe: PairRecipe,
        seed: int = 0,
        sequences: Collection[int] | None = None,
    ) -> None:
        self.store, self.recipe = store, recipe
        # Colors need no more than half precision, which halves the memory traffic; coordinates stay in float32.
        self._dtype = torch.float16 if store.pixels.is_cuda else torch.float32
        self.generator = torch.Generator(store.pixels.device).manual_seed(seed)
        self._draw = _Draws(self.generator)
        used = set(range(len(store.names)) if sequences is None else sequences)
        masked = store.has_mask[store.starts[:-1]].tolist()
        self._videos = Choice(store, video_weights, used.__contains__)
        self._cutouts = None
        if recipe.composite_share > 0:
            self._cutouts = Choice(store, cutout_weights, lambda n: n in used and masked[n])
        numbers = np.zeros(len(store.pixels), dtype=bool)
        for n in used:
            numbers[int(store.starts[n]) : int(store.starts[n + 1])] = True
        wide = numbers & (store.sizes.amin(1).cpu().numpy() >= _MIN_BACKGROUND_SIDE)
        self._backgrounds = torch.from_numpy(np.flatnonzero(wide if wide.any() else numbers)).to(store.pixels.device)

    def restart(self, seed: int) -> None:
        """Restart the random stream.

        Args:
            seed: Random seed.
        """
        self.generator.manual_seed(seed)

    def batch(self, num: int) -> PairBatch:
        """Return the next batch.

        Args:
            num: Number of pairs.
        """
        composed = round(num * self.recipe.composite_share) if self._cutouts is not None else 0
        parts = []
        if num > composed:
            parts.append(self._pairs(*self._video_frames(num - composed)))
        if composed:
            parts.append(self._pairs(*self._composed_frames(composed)))
        joined = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        template, search = joined[0], joined[2]
        if self.recipe.augment:
            template, search = self._recolor(self._degrade(template), self._degrade(search))
        template, search = template.round().to(torch.uint8), search.round().to(torch.uint8)
        return PairBatch(template, joined[1], search, joined[3], joined[4], joined[5])

    def _video_frames(self, num: int) -> tuple[Frames, Frames]:
        template, search = self._videos.frames(num, self.recipe.max_gap, self._draw)
        return self._stored(template), self._stored(search)

    def _stored(self, numbers: Tensor) -> Frames:
        store = self.store
        pixels = store.pixels[numbers].float()
        pixels[:, 3] /= 255
        return Frames(pixels, store.boxes_xyxy[numbers], store.has_mask[numbers])

    def _pairs(self, template: Frames, search: Frames) -> tuple[Tensor, ...]:
        """Cut templates and search regions out of frames, and return the fields of a `PairBatch`."""
        recipe, draw, num = self.recipe, self._draw, len(template.boxes_xyxy)
        loose = recipe.template_jitter.apply(template.boxes_xyxy, self.generator)
        uses_loose = draw.below(recipe.template_jitter_prob, num, 1) & template.has_mask[:, None]
        template_windows = windows_around(torch.where(uses_loose, loose, template.boxes_xyxy))
        search_windows = windows_around(recipe.search_jitter.apply(search.boxes_xyxy, self.generator))
        flip = draw.below(0.5 * recipe.augment, num)
        template_crops = cut(template.pixels[:, :3], template_windows, flip).to(self._dtype)
        search_crops = cut(search.pixels, search_windows, flip).to(self._dtype)
        mask = ((search_crops[:, 3] > 0.5) & search.has_mask[:, None, None]).to(torch.uint8)
        return (
            template_crops,
            to_crop(template.boxes_xyxy, template_windows, flip),
            search_crops[:, :3],
            to_crop(search.boxes_xyxy, search_windows, flip),
            mask,
            search.has_mask,
        )

    # Video made of pictures.

    def _composed_frames(self, num: int) -> tuple[Frames, Frames]:
        assert self._cutouts is not None
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
                frame, _lit(rgb, torch.where(same[:, None, None, None], light, other_light)), alpha * shows
            )
            rgb, alpha = self._layer(targets[k], poses[k])
            rgb = _lit(rgb, light + k * change[:, :, None, None] * draw.normal(num, 3, 1, 1, std=0.08))
            if k:
                rgb, alpha = _motion_blurred(rgb, alpha, draw)
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
        assert self._cutouts is not None
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
        return torch.lerp(frame, _lit(rgb, draw.normal(num, 3, 1, 1, std=0.1)), cover), alpha * (1 - cover)

    def _background_frames(self, num: int, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return two views of a picture, as from a moving camera. Some pairs have two pictures."""
        draw = self._draw
        numbers = self._backgrounds[
            torch.randint(len(self._backgrounds), (2, num), generator=self.generator, device=self.generator.device)
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

    # Changes of whole crops.

    def _degrade(self, crops: Tensor) -> Tensor:
        """Give parts of a batch the look of small targets, compression and blur."""
        offset = 0
        for k, side in enumerate(_LOW_RESOLUTIONS):
            part = crops[k::_NUM_STRIDES]
            if len(part):
                small = F.interpolate(part, size=side, mode="area")
                if k % 2:
                    small = block_compressed(small, self._draw.uniform(len(part), 1, low=4.0, high=24.0))
                crops[k::_NUM_STRIDES] = F.interpolate(small, CROP_SIZE, mode="bilinear", align_corners=False)
            offset = k + 1
        for k, sigma in enumerate(_BLUR_SIGMAS, start=offset):
            part = crops[k :: 2 * _NUM_STRIDES]
            if len(part):
                crops[k :: 2 * _NUM_STRIDES] = _blurred(part, sigma)
        return crops

    def _recolor(self, template: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        """Change light and color of both crops together and of each separately, and add noise."""
        draw, num = self._draw, len(template)
        gray = draw.below(0.06, num, 1, 1, 1).to(template.dtype)
        shared = _Light.draw(num, 0.12, draw)
        changed = []
        for crops in (template, search):
            own = _Light.draw(num, 0.08, draw)
            crops = own.apply(shared.apply(crops))
            crops = torch.lerp(crops, crops.mean(1, keepdim=True).expand_as(crops), gray)
            noise = draw.normal(num, 1, 1, 1, std=3.0).clamp(min=0).to(crops.dtype)  # none in half of the crops
            crops = crops + noise * torch.randn(
                crops.shape, generator=self.generator, device=crops.device, dtype=crops.dtype
            )
            changed.append(crops.clamp(0, 255))
        return changed[0], changed[1]


class _Pose(NamedTuple):
    """Pose of cut-outs on the canvas."""

    size: Tensor  # (B, 1), geometric mean of the sides, canvas pixels
    angle: Tensor  # (B, 1), radians
    shear: Tensor  # (B, 1)
    aspect: Tensor  # (B, 1), half the log of the factor of the aspect ratio
    mirror: Tensor  # (B, 1), 1 or -1
    center: Tensor  # (B, 2), canvas pixels
    bend: Tensor | None = None  # (B, 2, n, n), shift over the side of the box

    @classmethod
    def draw(cls, num: int, size: Tensor, draw: _Draws) -> _Pose:
        mirror = 1 - 2 * draw.below(0.5, num, 1).float()
        angle, shear, aspect = (
            draw.normal(num, 1, std=0.12),
            draw.normal(num, 1, std=0.06),
            draw.normal(num, 1, std=0.08),
        )
        return cls(size, angle, shear, aspect, mirror, torch.full_like(mirror.expand(-1, 2), CANVAS / 2))

    def moved(self, change: Tensor, draw: _Draws) -> _Pose:
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


class _Light(NamedTuple):
    """Change of light and color of crops."""

    gain: Tensor
    contrast: Tensor
    saturation: Tensor
    gamma: Tensor

    @classmethod
    def draw(cls, num: int, std: float, draw: _Draws) -> _Light:
        color = draw.normal(num, 3, 1, 1, std=std / 3)
        gain, contrast, saturation, gamma = (
            draw.normal(num, 1, 1, 1, std=std * part).exp() for part in (1.2, 1.5, 2.0, 1.2)
        )
        return cls(gain * color.exp(), contrast, saturation, gamma)

    def apply(self, crops: Tensor) -> Tensor:
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


def _lit(rgb: Tensor, log_gain: Tensor) -> Tensor:
    return (rgb * log_gain.exp().to(rgb.dtype)).clamp(max=255)


def _blurred(crops: Tensor, sigma: float) -> Tensor:
    reach = math.ceil(2.5 * sigma)
    position = torch.arange(-reach, reach + 1.0, device=crops.device)
    kernel = torch.exp(-0.5 * (position / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(crops.dtype).repeat(crops.shape[1], 1, 1, 1)
    padded = F.pad(crops, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=crops.shape[1]), kernel.transpose(2, 3), groups=crops.shape[1])


def _motion_blurred(rgb: Tensor, alpha: Tensor, draw: _Draws) -> tuple[Tensor, Tensor]:
    """Blur every fourth layer along a line, colors and alpha together."""
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
