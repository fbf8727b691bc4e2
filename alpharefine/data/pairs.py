"""Training pairs: a template crop, a search crop around a jittered box, and the labels of box and mask."""

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
from alpharefine.crops import CROP_SIZE, GEOMETRIES
from alpharefine.data.augmentation import PairAugmentation, Photometric
from alpharefine.data.coco import decode_mask
from alpharefine.data.images import read_image, read_label_image
from alpharefine.data.index import Index, open_index
from alpharefine.data.reader import Reader
from alpharefine.errors import UserError
from alpharefine.options import GeometryName

MAX_GAP = 50
"""Maximum gap between template and search frame, in frames, as in the original recipe."""

MIN_FRAMES = 20
"""Minimum number of frames of a video without masks, as in the original code. A video with masks needs two frames."""

MIN_VISIBLE = 5
"""Minimum number of visible frames of a video, as in the original code."""


class PairBatch(NamedTuple):
    """Batch of training pairs, or one pair without the batch dimension.

    Attributes:
        template: Template crops of shape ``(B, 3, 256, 256)``, uint8 RGB. The window is twice as large as the box.
        template_xyxy: Target boxes of shape ``(B, 4)``, float32, in pixels of the template crop.
        search: Search crops of shape ``(B, 3, 256, 256)``, uint8 RGB. The window is twice as large as the jittered box.
        target_xyxy: Target boxes of shape ``(B, 4)``, float32, in pixels of the search crop, clamped to the crop.
        mask: Target masks in the search crop, shape ``(B, 256, 256)``, uint8, values 0 and 1. All 0 without a mask.
        has_mask: Boolean tensor of shape ``(B,)``, True for pairs with an annotated mask.
    """

    template: Tensor
    template_xyxy: Tensor
    search: Tensor
    target_xyxy: Tensor
    mask: Tensor
    has_mask: Tensor


@dataclass(frozen=True)
class Frame:
    """Image with the annotations of its target.

    Attributes:
        image: RGB image of shape ``(H, W, 3)``, uint8.
        box_xywh: Box of shape ``(4,)``, float64, in image pixels.
        mask: Mask of shape ``(H, W)``, uint8, with values 0 and 1, or None.
    """

    image: np.ndarray
    box_xywh: np.ndarray
    mask: np.ndarray | None


class PairSource:
    """Random pairs of frames of one data set.

    Args:
        reader: Reader of the data set.
        cache_dir: Folder of the indexes. None selects `default_cache_dir`.
        max_gap: Maximum gap between the frames. The search frame is at most `max_gap` frames before and at most
            ``max_gap - 1`` frames after the template frame.

    Raises:
        UserError: If `max_gap` is not positive, or no sequence is suitable for training.
    """

    def __init__(self, reader: Reader, cache_dir: Path | None = None, max_gap: int = MAX_GAP) -> None:
        if max_gap < 1:
            raise UserError(f"`max_gap` must be at least 1 frame, got {max_gap}.")
        self.reader = reader
        self.index: Index = open_index(reader, cache_dir)
        self.max_gap = max_gap
        num_visible = self.index.num_visible()
        if reader.is_video:
            min_frames = 2 if reader.has_masks else MIN_FRAMES
            usable = (num_visible >= MIN_VISIBLE) & (np.diff(self.index.starts) >= min_frames)
        else:
            usable = num_visible > 0
        self.sequences = np.flatnonzero(usable)
        if not self.sequences.size:
            raise UserError(
                f"{type(reader).__name__}: none of the {len(self.index)} sequences in {reader.root} is suitable for "
                f"training; a video needs {MIN_VISIBLE} visible frames, and {MIN_FRAMES} frames if it has no masks."
            )

    def draw(self, rng: np.random.Generator) -> tuple[Frame, Frame]:
        """Draw a template frame and a search frame of one target. Sequences and frames are drawn uniformly.

        A pair from still images consists of the same image twice.

        Args:
            rng: Random generator.

        Returns:
            Tuple of template frame and search frame.
        """
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
            f"{path}: mask and image must have the same size, got {mask_size[1]}x{mask_size[0]} and "
            f"{image_size[1]}x{image_size[0]} pixels; restore both."
        )


class PairDataset(Dataset[PairBatch]):
    """Reproducible training pairs from a weighted mixture of data sets.

    Pair ``i`` depends only on the seed and on ``i``. It does not depend on the number of workers or processes, or on
    other pairs. Any non-negative index is valid; the length is the number of pairs per epoch.

    Args:
        sources: Data sets of the mixture.
        weights: Relative sampling weight of each data set.
        augmentation: Augmentation of the pairs, including the box jitter.
        num_pairs: Number of pairs per epoch.
        seed: Random seed.
        geometry: Crop geometry, see `alpharefine.crops`.

    Raises:
        UserError: If the weights are negative, not finite or all 0, or the augmentation is out of range.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        weights: Sequence[float],
        augmentation: PairAugmentation,
        num_pairs: int,
        seed: int = 0,
        geometry: GeometryName = "exact",
    ) -> None:
        if not (np.isfinite(weights).all() and min(weights) >= 0 and sum(weights) > 0):
            raise UserError(
                f"The `weight` of a data set must be finite and not negative, and at least one must be positive, got "
                f"{list(weights)}."
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
        """Return the pair with this index."""
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
    """Sampler of pair indices that distributes an epoch over the processes.

    With ``n`` pairs per epoch, epoch ``e`` of training consists of the indices ``e * n`` to ``(e + 1) * n - 1``, so no
    index occurs twice during training. A fixed sampler, for validation, returns the indices 0 to ``n - 1`` in every
    epoch. Process ``r`` of ``R`` takes every R-th index from ``r``, so R processes together use the same pairs as a
    single process. If R does not divide ``n``, ``n`` is rounded up to a multiple of R. The indices of later epochs then
    differ from those of a single process.

    Args:
        dataset: Data set of the pairs.
        fixed: Use the same pairs in each epoch.
        num_replicas: Number of processes.
        rank: Rank of this process.
    """

    def __init__(self, dataset: Dataset[PairBatch], fixed: bool, num_replicas: int, rank: int) -> None:
        super().__init__(cast("Dataset[int]", dataset), num_replicas=num_replicas, rank=rank, shuffle=False)
        self.fixed = fixed

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices of this process, in order."""
        first = 0 if self.fixed else self.epoch * self.total_size
        return iter(range(first + self.rank, first + self.total_size, self.num_replicas))
