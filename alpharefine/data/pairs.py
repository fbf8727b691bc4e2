"""Pairs to train on: a template, a search region cut around a jittered box, the label and the mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.crops import CROP_SIZE, GEOMETRIES, GeometryName
from alpharefine.data.augmentation import Augmentation, Photometric
from alpharefine.data.coco import decode_mask
from alpharefine.data.images import read_image, read_label_image
from alpharefine.data.index import Index, open_index
from alpharefine.data.reader import Reader
from alpharefine.errors import UserError

MAX_GAP = 50
"""Frames between template and search (from the original's recipes)."""

MIN_FRAMES = 20
"""A video without masks is used if it has as many frames, one with masks from two (as in the original)."""

MIN_VISIBLE = 5
"""A video is used if the target can be seen in as many frames (as in the original)."""


class PairBatch(NamedTuple):
    """A batch of pairs, or one pair without the leading dimension.

    Attributes:
        template: ``(B, 3, 256, 256)`` uint8 RGB crops of twice the target's box.
        template_xyxy: ``(B, 4)`` float32, the target in pixels of the template crop.
        search: ``(B, 3, 256, 256)`` uint8 RGB crops of twice a jittered box.
        target_xyxy: ``(B, 4)`` float32, the target in pixels of the search crop, clamped to it.
        mask: ``(B, 256, 256)`` uint8 0/1, the target's mask in the search crop; zero where there is none.
        has_mask: ``(B,)`` bool, whether the mask is known.
    """

    template: Tensor
    template_xyxy: Tensor
    search: Tensor
    target_xyxy: Tensor
    mask: Tensor
    has_mask: Tensor


@dataclass(frozen=True)
class Frame:
    """A picture with its target.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        box_xywh: ``(4,)`` float64, image pixels.
        mask: ``(H, W)`` uint8 0/1, or None.
    """

    image: np.ndarray
    box_xywh: np.ndarray
    mask: np.ndarray | None


class PairSource:
    """One data set to draw pairs of frames from.

    Args:
        reader: the data set.
        cache_dir: where its index is kept; the user's cache folder by default.
        max_gap: template and search are at most this many frames apart: up to `max_gap` back and `max_gap - 1` ahead.

    Raises:
        UserError: if `max_gap` is not positive, or no sequence is fit to train on.
    """

    def __init__(self, reader: Reader, cache_dir: Path | None = None, max_gap: int = MAX_GAP) -> None:
        if max_gap < 1:
            raise UserError(f"`max_gap` must be at least 1 frame, got {max_gap}; correct it.")
        self.reader = reader
        self.index: Index = open_index(reader, cache_dir)
        self.max_gap = max_gap
        num_visible = self.index.num_visible()
        if reader.is_video:
            min_frames = 2 if reader.has_masks else MIN_FRAMES
            fit = (num_visible >= MIN_VISIBLE) & (np.diff(self.index.starts) >= min_frames)
        else:
            fit = num_visible > 0
        self.sequences = np.flatnonzero(fit)
        if not self.sequences.size:
            raise UserError(
                f"{type(reader).__name__}: none of {len(self.index)} sequences in {reader.root} is fit to train on; "
                f"a video needs {MIN_VISIBLE} visible frames and, without masks, {MIN_FRAMES} frames."
            )

    def draw(self, rng: np.random.Generator) -> tuple[Frame, Frame]:
        """Draw a template and a search frame of one target: a sequence, then its frames, each uniformly."""
        sequence = int(rng.choice(self.sequences))
        span = self.index.frames(sequence)
        visible = span.start + np.flatnonzero(self.index.visible[span])
        template = int(rng.choice(visible))
        if not self.reader.is_video:
            frame = self._read(sequence, template)
            return frame, frame
        gap = self.index.times[visible] - self.index.times[template]
        search = int(rng.choice(visible[(gap >= -self.max_gap) & (gap < self.max_gap)]))
        return self._read(sequence, template, with_mask=False), self._read(sequence, search)

    def _read(self, sequence: int, frame: int, with_mask: bool = True) -> Frame:
        name, frame_name = str(self.index.names[sequence]), str(self.index.frame_names[frame])
        image = read_image(self.reader.frame_path(name, frame_name))
        mask = None
        if self.reader.has_masks and with_mask:
            mask = self._read_mask(sequence, frame, name, frame_name, image.shape[:2])
        return Frame(image, self.index.boxes_xywh[frame].astype(np.float64), mask)

    def _read_mask(
        self, sequence: int, frame: int, name: str, frame_name: str, image_size: tuple[int, int]
    ) -> np.ndarray:
        if self.index.mask_starts.size:
            path = self.reader.frame_path(name, frame_name)
            height, width = self.index.mask_sizes[frame]
            _require_same_size(path, (int(height), int(width)), image_size)
            return decode_mask(self.index.mask_counts(frame), image_size)
        path = self.reader.mask_path(name, frame_name)
        label = read_label_image(path)
        _require_same_size(path, label.shape, image_size)
        object_id = int(self.index.object_ids[sequence])
        return (label == object_id if object_id else label > 0).astype(np.uint8)


def _require_same_size(path: Path, mask_size: tuple[int, ...], image_size: tuple[int, int]) -> None:
    if mask_size != image_size:
        raise UserError(
            f"{path}: the mask is {mask_size[1]}x{mask_size[0]} pixels, its picture {image_size[1]}x{image_size[0]}; "
            "they must be equal: restore both."
        )


class PairDataset(Dataset[PairBatch]):
    """A repeatable stream of pairs from several data sets.

    Pair ``i`` depends on the seed and on ``i`` alone: not on the number of workers or processes, nor on what was drawn
    before. Any number is a pair; the length is that of one epoch.

    Args:
        sources: the data sets.
        weights: how often each is drawn from, relative to the others.
        augmentation: jitter of the search box and changes of the pictures.
        num_pairs: of one epoch.
        seed: of all draws.
        geometry: how crops and labels are made (see `alpharefine.crops`).

    Raises:
        UserError: if a weight is negative or not a number, or all are 0, or the augmentation is out of its range.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        weights: Sequence[float],
        augmentation: Augmentation,
        num_pairs: int,
        seed: int = 0,
        geometry: GeometryName = "exact",
    ) -> None:
        if not (np.isfinite(weights).all() and min(weights) >= 0 and sum(weights) > 0):
            raise UserError(
                f"The `weight` of a data set must not be negative, and of one at least positive, got {list(weights)}."
            )
        augmentation.check()
        self.sources = list(sources)
        self.probabilities = np.array(weights, dtype=np.float64) / np.sum(weights)
        self.augmentation = augmentation
        self.photometric = Photometric(augmentation)
        self.num_pairs = num_pairs
        self.seed = seed
        self.geometry = GEOMETRIES[geometry]

    def __len__(self) -> int:
        return self.num_pairs

    def __getitem__(self, index: int) -> PairBatch:
        """Make pair number `index`."""
        rng = np.random.default_rng((self.seed, index))
        source = self.sources[int(rng.choice(len(self.sources), p=self.probabilities))]
        template, search = source.draw(rng)
        return self._pair(template, search, rng)

    def _pair(self, template: Frame, search: Frame, rng: np.random.Generator) -> PairBatch:
        augment = self.augmentation
        gray, flip = rng.random() < augment.gray_prob, rng.random() < augment.flip_prob
        around = self.geometry.window.around
        template_window = around(template.box_xywh)
        search_window = around(augment.jitter(search.box_xywh, rng))
        template_crop = self.photometric(template_window.cut(template.image), gray, rng)
        search_crop = self.photometric(search_window.cut(search.image), gray, rng)
        template_xyxy = template_window.to_crop(xywh_to_xyxy(template.box_xywh))
        target_xyxy = search_window.to_crop(xywh_to_xyxy(search.box_xywh)).clip(0, CROP_SIZE)
        has_mask = search.mask is not None
        mask = search_window.cut(search.mask) if search.mask is not None else np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
        if flip:
            template_crop, search_crop, mask = template_crop[:, ::-1], search_crop[:, ::-1], mask[:, ::-1]
            template_xyxy, target_xyxy = (
                self.geometry.mirrored(each).clip(0, CROP_SIZE) for each in (template_xyxy, target_xyxy)
            )
        return PairBatch(
            template=_to_tensor(template_crop),
            template_xyxy=torch.from_numpy(template_xyxy.astype(np.float32)),
            search=_to_tensor(search_crop),
            target_xyxy=torch.from_numpy(target_xyxy.astype(np.float32)),
            mask=torch.from_numpy(np.ascontiguousarray(mask)),
            has_mask=torch.tensor(has_mask),
        )


def _to_tensor(crop: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))


class EpochSampler(DistributedSampler[int]):
    """Numbers of the pairs of an epoch, shared out over the processes.

    Epoch ``e`` of a training run takes the numbers ``e * n`` to ``(e + 1) * n``, so no two epochs see the same pairs
    and none is seen twice in one; a fixed sampler (validation) takes 0 to ``n`` each time. Process ``r`` of ``R`` takes
    every R-th number, so R processes together see what one process sees. Where R does not divide the number of pairs,
    ``n`` is rounded up to a multiple of R, and later epochs have other pairs than those of one process.

    Args:
        dataset: the stream of pairs.
        fixed: whether each epoch is the same.
        num_replicas: number of processes.
        rank: of this process.
    """

    def __init__(self, dataset: Dataset[PairBatch], fixed: bool, num_replicas: int, rank: int) -> None:
        super().__init__(cast("Dataset[int]", dataset), num_replicas=num_replicas, rank=rank, shuffle=False)
        self.fixed = fixed

    def __iter__(self) -> Iterator[int]:
        """The numbers of this process, in order."""
        first = 0 if self.fixed else self.epoch * self.total_size
        return iter(range(first + self.rank, first + self.total_size, self.num_replicas))
