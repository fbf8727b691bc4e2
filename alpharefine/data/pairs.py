"""Training pairs: a template crop, a search crop around a jittered box, and the labels of box and mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, default_collate

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.crops import CROP_SIZE, GEOMETRIES, Window
from alpharefine.data.augmentation import PairAugmentation, Photometric
from alpharefine.data.coco import decode_mask
from alpharefine.data.images import decode_image, decode_labels, decode_region
from alpharefine.data.index import Index, open_index
from alpharefine.data.reader import Reader
from alpharefine.errors import UserError
from alpharefine.notes import note
from alpharefine.options import GeometryName

MAX_GAP = 50
"""Maximum gap between template and search frame, in frames, as in the original recipe."""

MIN_FRAMES = 20
"""Preferred minimum number of frames of a video without masks, as in the original code. Shorter videos are used if the
data set has no longer one. A video with masks needs two frames."""

MIN_VISIBLE = 5
"""Minimum number of visible frames of a video, as in the original code. A lower `min_frames` lowers it, too."""

MAX_REDRAWS = 100
"""Maximum number of further draws of a pair whose files cannot be read."""


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


class DrawnPair(NamedTuple):
    """Pair or batch of pairs, and what could not be read before.

    Attributes:
        pair: Pair or batch.
        faults: Message of each draw that could not be read.
    """

    pair: PairBatch
    faults: list[str]


class FrameCrops(NamedTuple):
    """Crops of one frame.

    Attributes:
        images: RGB crop of each window, shape ``(S, S, 3)``, uint8.
        mask: Crop of the mask in the last window, shape ``(S, S)``, uint8, with values 0 and 1, or None.
    """

    images: list[np.ndarray]
    mask: np.ndarray | None


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

    def cut(self, *windows: Window) -> FrameCrops:
        """Cut the crop of each window.

        Args:
            windows: Windows in image pixels.
        """
        mask = None if self.mask is None else windows[-1].cut(self.mask)
        return FrameCrops([window.cut(self.image) for window in windows], mask)


@dataclass(frozen=True)
class FrameFile:
    """Frame of a data set, of which only what a crop shows is decoded.

    Attributes:
        reader: Reader of the data set.
        index: Index of the data set.
        sequence: Position of the sequence in the index.
        frame: Position of the frame in the index.
        has_mask: True if the mask is read.
        reduced: Decode at reduced resolution where a crop is shrunk by more, see `decode_region`.
    """

    reader: Reader
    index: Index
    sequence: int
    frame: int
    has_mask: bool
    reduced: bool = True

    @property
    def box_xywh(self) -> np.ndarray:
        """Box of shape ``(4,)``, float64, in image pixels."""
        return np.asarray(self.index.boxes_xywh[self.frame], dtype=np.float64)

    @property
    def path(self) -> Path:
        """Path of the image."""
        return self.reader.frame_path(*self._names)

    @property
    def content(self) -> bytes:
        """Content of the image file."""
        return self.reader.frame_content(*self._names)

    def cut(self, *windows: Window) -> FrameCrops:
        """Read what the windows show, and cut the crop of each.

        Args:
            windows: Windows in image pixels.

        Raises:
            UserError: If the image or the mask cannot be read, or their sizes differ.
        """
        region = decode_region(self.content, self.path, windows, self.reduced)
        mask = self._mask(region.image_size)
        return FrameCrops([*map(region.cut, windows)], None if mask is None else windows[-1].cut(mask))

    def load(self) -> Frame:
        """Read the whole image and mask. The crops of the result are the reference of those of `cut`.

        Raises:
            UserError: If the image or the mask cannot be read, or their sizes differ.
        """
        image = decode_image(self.content, self.path)
        return Frame(image, self.box_xywh, self._mask(image.shape[:2]))

    def _mask(self, image_size: tuple[int, int]) -> np.ndarray | None:
        return read_mask(self.reader, self.index, self.sequence, self.frame, image_size) if self.has_mask else None

    @property
    def _names(self) -> tuple[str, str]:
        return str(self.index.names[self.sequence]), str(self.index.frame_names[self.frame])


class PairSource:
    """Random pairs of frames of one data set.

    Args:
        reader: Reader of the data set.
        cache_dir: Folder of the indexes. None selects `default_cache_dir`.
        max_gap: Maximum gap between the frames. The search frame is at most `max_gap` frames before and at most
            ``max_gap - 1`` frames after the template frame.
        min_frames: Minimum number of frames of a video, at least 2. None selects 2 for videos with masks and
            `MIN_FRAMES` for others, or 2 if the data set has no video of `MIN_FRAMES` frames.
        reduced: Decode frames at reduced resolution where a crop is shrunk by more, see `decode_region`.

    Raises:
        UserError: If an argument is out of range, or no sequence is suitable for training.
    """

    def __init__(
        self,
        reader: Reader,
        cache_dir: Path | None = None,
        max_gap: int = MAX_GAP,
        min_frames: int | None = None,
        reduced: bool = True,
    ) -> None:
        if max_gap < 1:
            raise UserError(f"`max_gap` must be at least 1 frame, got {max_gap}.")
        if min_frames is not None and min_frames < 2:
            raise UserError(f"`min_frames` must be at least 2 frames, got {min_frames}.")
        self.reader = reader
        self.index: Index = open_index(reader, cache_dir)
        self.max_gap, self.reduced = max_gap, reduced
        num_visible, num_frames = self.index.num_visible(), np.diff(self.index.starts)
        least = 1
        if not reader.is_video:
            self.sequences = np.flatnonzero(num_visible > 0)
            needed = "an image needs a visible object"
        else:
            longest = int(num_frames.max(initial=0))
            least = min_frames or (MIN_FRAMES if longest >= MIN_FRAMES and not reader.has_masks else 2)
            least_visible = min(MIN_VISIBLE, min_frames or max(longest, 2))
            self.sequences = np.flatnonzero((num_visible >= least_visible) & (num_frames >= least))
            needed = (
                f"a video needs {least_visible} visible frames and {least} in total, and the longest has {longest}; "
                "give longer videos, or a lower `data.min_frames`"
            )
        if not self.sequences.size:
            raise UserError(
                f"{type(reader).__name__}: none of the {len(self.index)} sequences in {reader.root} is suitable for "
                f"training; {needed}."
            )
        short = int((num_frames < least).sum())
        if least > 2 and short:
            note(
                f"{type(reader).__name__}: {short} of {len(self.index)} sequences in {reader.root} are shorter than "
                f"{least} frames and not used; `data.min_frames` lowers the limit."
            )

    def choose(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Choose a template frame and a search frame of one target. Sequences and frames are drawn uniformly.

        A pair from still images consists of the same image twice.

        Args:
            rng: Random generator.

        Returns:
            Tuple of the sequence, the template frame and the search frame, as positions in the index.
        """
        sequence = _one_of(self.sequences, rng)
        span = self.index.frames(sequence)
        visible = span.start + np.flatnonzero(self.index.visible[span])
        template = _one_of(visible, rng)
        if not self.reader.is_video:
            return sequence, template, template
        gap = self.index.times[visible] - self.index.times[template]
        return sequence, template, _one_of(visible[(gap >= -self.max_gap) & (gap < self.max_gap)], rng)

    def draw(self, rng: np.random.Generator) -> tuple[FrameFile, FrameFile]:
        """Draw a template frame and a search frame, see `choose`. They are read when their crops are cut.

        Args:
            rng: Random generator.

        Returns:
            Tuple of template frame and search frame.
        """
        sequence, template, search = self.choose(rng)
        searched = FrameFile(self.reader, self.index, sequence, search, self.reader.has_masks, self.reduced)
        if not self.reader.is_video:
            return searched, searched
        return FrameFile(self.reader, self.index, sequence, template, False, self.reduced), searched

    def describe(self, rng: np.random.Generator) -> str:
        """Return the paths of the frames that a pair consists of.

        Args:
            rng: Random generator.
        """
        return " and ".join(dict.fromkeys(str(frame.path) for frame in self.draw(rng)))


def _one_of(values: np.ndarray, rng: np.random.Generator) -> int:
    """Draw an element as `Generator.choice` does, in a tenth of its time."""
    return int(values[rng.integers(len(values))])


def read_mask(reader: Reader, index: Index, sequence: int, frame: int, image_size: tuple[int, int]) -> np.ndarray:
    """Read the mask of a target.

    Args:
        reader: Reader of the data set.
        index: Index of the data set.
        sequence: Position of the sequence in the index.
        frame: Position of the frame in the index.
        image_size: Height and width of the image.

    Returns:
        Mask of shape ``(H, W)``, uint8, with values 0 and 1.

    Raises:
        UserError: If the mask cannot be read, or has another size than the image.
    """
    name, frame_name = str(index.names[sequence]), str(index.frame_names[frame])
    if index.mask_starts.size:
        height, width = index.mask_sizes[frame]
        _require_same_size(reader.frame_path(name, frame_name), (int(height), int(width)), image_size)
        return decode_mask(index.mask_counts(frame), image_size)
    path = reader.mask_path(name, frame_name)
    label = decode_labels(reader.mask_content(name, frame_name), path).labels
    _require_same_size(path, label.shape, image_size)
    object_id = int(index.object_ids[sequence])
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
        self._cumulated = np.cumsum(self.probabilities)
        self.augmentation = augmentation
        self.photometric = Photometric(augmentation)
        self.num_pairs = num_pairs
        self.seed = seed
        self.geometry = GEOMETRIES[geometry]

    def __len__(self) -> int:
        return self.num_pairs

    def __getitem__(self, index: int) -> PairBatch:
        """Return the pair with this index."""
        rng = self._stream(index)
        return self._pair(*self._source(rng).draw(rng), rng)

    def draw(self, index: int) -> DrawnPair:
        """Return the pair with this index, redrawn from the same random stream until its files can be read.

        Args:
            index: Index of the pair.

        Raises:
            UserError: If `MAX_REDRAWS` further draws cannot be read either.
        """
        rng = self._stream(index)
        faults: list[str] = []
        while True:
            try:
                return DrawnPair(self._pair(*self._source(rng).draw(rng), rng), faults)
            except UserError as error:
                faults.append(str(error))
                if len(faults) > MAX_REDRAWS:
                    raise

    def describe(self, index: int) -> str:
        """Return the paths of the frames of a pair.

        Args:
            index: Index of the pair.
        """
        rng = self._stream(index)
        return self._source(rng).describe(rng)

    def _stream(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, index))

    def _source(self, rng: np.random.Generator) -> PairSource:
        # As `Generator.choice` with probabilities draws, in a tenth of its time.
        share = rng.random() * self._cumulated[-1]
        return self.sources[int(self._cumulated.searchsorted(share, side="right"))]

    def _pair(self, template: Frame | FrameFile, search: Frame | FrameFile, rng: np.random.Generator) -> PairBatch:
        augment = self.augmentation
        gray, flip = rng.random() < augment.gray_prob, rng.random() < augment.flip_prob
        around = self.geometry.window.around
        template_window = around(template.box_xywh)
        search_window = around(augment.jitter(search.box_xywh, rng))
        if template is search:
            (template_crop, search_crop), mask = search.cut(template_window, search_window)
        else:
            (template_crop,), _ = template.cut(template_window)
            (search_crop,), mask = search.cut(search_window)
        template_crop, search_crop = (self.photometric(crop, gray, rng) for crop in (template_crop, search_crop))
        template_xyxy = template_window.to_crop(xywh_to_xyxy(template.box_xywh))
        target_xyxy = search_window.to_crop(xywh_to_xyxy(search.box_xywh)).clip(0, CROP_SIZE)
        has_mask = mask is not None
        if mask is None:
            mask = np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
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
    planes = np.empty((3, *crop.shape[:2]), np.uint8)
    cv2.split(crop, list(planes))  # writes into `planes`, in a third of the time of numpy's transposed copy
    return torch.from_numpy(planes)


class RedrawnPairs(Dataset[DrawnPair]):
    """Pairs of a data set, with bad samples replaced, see `PairDataset.draw`.

    Args:
        pairs: Data set of the pairs.
    """

    def __init__(self, pairs: PairDataset) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> DrawnPair:
        """Return the pair with this index and the faults of its earlier draws."""
        return self.pairs.draw(index)


def collate_drawn(pairs: Sequence[DrawnPair]) -> DrawnPair:
    """Collate pairs to a batch, and join their faults.

    Args:
        pairs: Pairs of the batch.
    """
    batch = default_collate([drawn.pair for drawn in pairs])
    return DrawnPair(batch, [fault for drawn in pairs for fault in drawn.faults])


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

    Attributes:
        num_skipped: Number of indices of this process to leave out at the beginning of the epoch.
    """

    def __init__(self, dataset: Dataset[Any], fixed: bool, num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)
        self.fixed = fixed
        self.num_skipped = 0

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices of this process, in order, without the first `num_skipped`."""
        return iter(self.indices(self.num_skipped))

    def indices(self, start: int) -> range:
        """Return the indices of this process in the current epoch.

        Args:
            start: Number of indices to leave out at the beginning.
        """
        first = 0 if self.fixed else self.epoch * self.total_size
        return range(first + self.rank + start * self.num_replicas, first + self.total_size, self.num_replicas)
