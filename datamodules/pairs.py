"""The LightningDataModules: training and validation pairs from any mixture of data sets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import pytorch_lightning as pl
from pytorch_lightning.accelerators import CUDAAccelerator
from torch.utils.data import DataLoader

from alpharefine.crops import GeometryName
from alpharefine.data.augmentation import Augmentation
from alpharefine.data.coco import COCO
from alpharefine.data.got10k import GOT10k
from alpharefine.data.imagenet import ImageNetDET, ImageNetVID
from alpharefine.data.lasot import LaSOT
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.data.pairs import MAX_GAP, EpochSampler, PairBatch, PairDataset, PairSource
from alpharefine.data.reader import Reader, require_choice
from alpharefine.data.trackingnet import TrackingNet
from alpharefine.errors import UserError

Kind = Literal["got10k", "lasot", "coco", "mask_video", "saliency", "trackingnet", "imagenet_vid", "imagenet_det"]

_READERS: dict[Kind, type[Reader]] = {
    "got10k": GOT10k,
    "lasot": LaSOT,
    "coco": COCO,
    "mask_video": MaskVideo,
    "saliency": Saliency,
    "trackingnet": TrackingNet,
    "imagenet_vid": ImageNetVID,
    "imagenet_det": ImageNetDET,
}


@dataclass(frozen=True)
class Source:
    """One data set of a mixture.

    Attributes:
        kind: the layout: ``got10k``, ``lasot``, ``coco``, ``mask_video`` (DAVIS, YouTube-VOS), ``saliency``,
            ``trackingnet``, ``imagenet_vid`` or ``imagenet_det``.
        path: its folder, relative to the data root unless absolute.
        weight: how often pairs are drawn from it, relative to the other data sets.
        options: further arguments of its reader, such as ``split`` or ``year``.
    """

    kind: Kind
    path: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, root: Path) -> Reader:
        """Open the data set.

        Raises:
            UserError: if it is not there, or it is of no known kind, or an option is not one of its reader's.
        """
        require_choice("Data set", "kind", self.kind, tuple(_READERS))
        reader = _READERS[self.kind]
        known = [name for name in inspect.signature(reader).parameters if name != "root"]
        for name in self.options:
            require_choice(f"Data set `{self.kind}`", "options", name, tuple(known))
        return reader(root / self.path, **self.options)

    @property
    def has_masks(self) -> bool:
        """Whether the data set has masks to train on."""
        return _READERS[self.kind].has_masks and bool(self.options.get("masks", True))


class PairDataModule(pl.LightningDataModule):
    """Pairs from a weighted mixture of data sets, and from other data sets or splits for validation.

    Args:
        root: folder that holds the data sets' folders.
        train: what to train on, by any name.
        val: what to validate on, by any name.
        batch_size: pairs a step and process.
        num_workers: processes that load data, for each training process; as many again while it validates.
        pairs_per_epoch: over all processes.
        val_pairs: pairs in each validation, over all processes; always the same ones.
        max_gap: frames between template and search.
        augmentation: jitter and changes of the pictures while training. Validation jitters the box alike and
            changes nothing else.
        seed: of the pairs; two seeds give two different trainings.
        geometry: how crops and labels are made; `train.py` takes the network's.
        cache_dir: where the data sets' indexes are kept; the user's cache folder by default.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        root: str,
        train: dict[str, Source],
        val: dict[str, Source],
        batch_size: int = 32,
        num_workers: int = 4,
        pairs_per_epoch: int = 128_000,
        val_pairs: int = 2_000,
        max_gap: int = MAX_GAP,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 - frozen
        seed: int = 0,
        geometry: GeometryName = "exact",
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        for name, count, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("pairs_per_epoch", pairs_per_epoch, 1),
            ("val_pairs", val_pairs, 1),
        ):
            if count < least:
                raise UserError(f"`data.{name}` must be at least {least}, got {count}; correct it.")
        self.root = Path(root).expanduser()
        self.train_sources, self.val_sources = train, val
        self.batch_size, self.num_workers = batch_size, num_workers
        self.pairs_per_epoch, self.val_pairs = pairs_per_epoch, val_pairs
        self.max_gap, self.augmentation, self.seed = max_gap, augmentation, seed
        self.geometry: GeometryName = geometry
        self.cache_dir = Path(cache_dir) if cache_dir else None

    @property
    def has_masks(self) -> bool:
        """Whether any of the data sets to train on has masks."""
        return any(source.has_masks for source in self.train_sources.values())

    @property
    def has_val_masks(self) -> bool:
        """Whether any of the data sets to validate on has masks."""
        return any(source.has_masks for source in self.val_sources.values())

    def prepare_data(self) -> None:
        """Open the data sets that are used, and build missing indexes, once per machine."""
        _ = self.val_dataset
        if self.trainer is None or not self.trainer.validating:
            _ = self.train_dataset

    @cached_property
    def train_dataset(self) -> PairDataset:
        """What is trained on, opened when it is first asked for.

        Raises:
            UserError: if a data set is missing or malformed, or is not to be trained on.
        """
        for name, source in self.train_sources.items():
            if source.kind == "lasot" and source.options.get("split") == "test":
                raise UserError(f"`data.train.{name}`: LaSOT's test sequences are not to be trained on; leave it out.")
        return self._dataset(self.train_sources, self.augmentation, self.pairs_per_epoch, self.seed)

    @cached_property
    def val_dataset(self) -> PairDataset:
        """What is validated on, opened when it is first asked for.

        Raises:
            UserError: if a data set is missing or malformed.
        """
        return self._dataset(self.val_sources, self.augmentation.jitter_only(), self.val_pairs, seed=0)

    def _dataset(
        self, sources: Mapping[str, Source], augmentation: Augmentation, num_pairs: int, seed: int
    ) -> PairDataset:
        if not sources:
            raise UserError("`data.train` and `data.val` must each name at least one data set.")
        opened = [PairSource(source.open(self.root), self.cache_dir, self.max_gap) for source in sources.values()]
        weights = [source.weight for source in sources.values()]
        return PairDataset(opened, weights, augmentation, num_pairs, seed, self.geometry)

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Pairs of one epoch; every epoch has new ones."""
        return self._loader(self.train_dataset, fixed=False)

    def val_dataloader(self) -> DataLoader[PairBatch]:
        """The validation pairs."""
        return self._loader(self.val_dataset, fixed=True)

    def _loader(self, dataset: PairDataset, fixed: bool) -> DataLoader[PairBatch]:
        assert self.trainer is not None
        sampler = EpochSampler(dataset, fixed, self.trainer.world_size, self.trainer.global_rank)
        if not fixed and len(sampler) < self.batch_size:
            raise UserError(
                f"`data.pairs_per_epoch` gives each process {len(sampler)} pairs, less than one batch of "
                f"{self.batch_size}; raise it, or lower `data.batch_size`."
            )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=isinstance(self.trainer.accelerator, CUDAAccelerator),
            drop_last=not fixed,
            worker_init_fn=_one_thread,
        )


class GOT10kDataModule(PairDataModule):
    """GOT-10k alone: trained on its training split, validated on its validation split.

    Args:
        root: folder of the data set.
        kwargs: further arguments of `PairDataModule`.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        train, val = Source("got10k", "."), Source("got10k", ".", options={"split": "val"})
        super().__init__(root, {"got10k": train}, {"got10k": val}, **kwargs)


class LaSOTDataModule(PairDataModule):
    """LaSOT's 1120 training sequences alone. LaSOT has no validation split, so another data set must serve as one.

    Args:
        root: folder of the data set.
        val: what to validate on; absolute paths, or relative to `root`.
        kwargs: further arguments of `PairDataModule`.
    """

    def __init__(self, root: str, val: dict[str, Source], **kwargs: Any) -> None:
        super().__init__(root, {"lasot": Source("lasot", ".")}, val, **kwargs)


class COCODataModule(PairDataModule):
    """COCO alone: trained on its training split, validated on its validation split.

    Args:
        root: folder of the data set.
        year: 2014 or 2017.
        kwargs: further arguments of `PairDataModule`.
    """

    def __init__(self, root: str, year: Literal[2014, 2017] = 2017, **kwargs: Any) -> None:
        train = Source("coco", ".", options={"split": "train", "year": year})
        val = Source("coco", ".", options={"split": "val", "year": year})
        super().__init__(root, {"coco": train}, {"coco": val}, **kwargs)


def _one_thread(worker_id: int) -> None:  # noqa: ARG001 - DataLoader's signature
    """Workers are many; each with OpenCV's own pool of threads would fight over the cores."""
    cv2.setNumThreads(0)
