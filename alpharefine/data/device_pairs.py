"""Training pairs made on a device, batch by batch, from a `CropStore` in its memory.

A pair is drawn from two frames of a stored video, or from *video made of pictures*: the cut-out of a target, moved,
turned, stretched and bent between template and search frame, over another picture, beside and behind other cut-outs.
Boxes and masks are those of the visible pixels. All steps are batched tensor operations without host synchronization.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from alpharefine.crops import CROP_SIZE
from alpharefine.data.composition import Composer
from alpharefine.data.crop_store import CropStore
from alpharefine.data.device_draws import Choice, Draws, Frames
from alpharefine.data.device_images import Light, block_compressed, blurred, cut, to_crop, windows_around
from alpharefine.data.pair_recipe import PairRecipe
from alpharefine.data.pairs import PairBatch

_LOW_RESOLUTIONS = (40, 64, 96, 144)
_BLUR_SIGMAS = (0.8, 1.5, 2.5)
_NUM_STRIDES = 8


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
        self._draw = Draws(self.generator)
        used = set(range(len(store.names)) if sequences is None else sequences)
        masked = store.has_mask[store.starts[:-1]].tolist()
        self._videos = Choice(store, video_weights, used.__contains__)
        self._composer = None
        if recipe.composite_share > 0:
            cutouts = Choice(store, cutout_weights, lambda n: n in used and masked[n])
            self._composer = Composer(store, cutouts, used, recipe, self._draw, self._dtype)

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
        composed = round(num * self.recipe.composite_share)
        parts = []
        if num > composed:
            parts.append(self._pairs(*self._video_frames(num - composed)))
        if composed and self._composer is not None:
            parts.append(self._pairs(*self._composer.frames(composed)))
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
        search_windows = windows_around(recipe.search_boxes(search.boxes_xyxy, self.generator))
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
                crops[k :: 2 * _NUM_STRIDES] = blurred(part, sigma)
        return crops

    def _recolor(self, template: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        """Change light and color of both crops together and of each separately, and add noise."""
        draw, num = self._draw, len(template)
        gray = draw.below(0.06, num, 1, 1, 1).to(template.dtype)
        shared = Light.draw(num, 0.12, draw)
        changed = []
        for crops in (template, search):
            own = Light.draw(num, 0.08, draw)
            crops = own.apply(shared.apply(crops))
            crops = torch.lerp(crops, crops.mean(1, keepdim=True).expand_as(crops), gray)
            noise = draw.normal(num, 1, 1, 1, std=3.0).clamp(min=0).to(crops.dtype)  # none in half of the crops
            crops = crops + noise * torch.randn(
                crops.shape, generator=self.generator, device=crops.device, dtype=crops.dtype
            )
            changed.append(crops.clamp(0, 255))
        return changed[0], changed[1]
