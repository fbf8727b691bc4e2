"""LightningDataModules for training and validation pairs from any mixture of data sets."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from multiprocessing import active_children
from multiprocessing.util import Finalize
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import cv2
import pytorch_lightning as pl
from pytorch_lightning.accelerators import CUDAAccelerator
from torch.utils.data import DataLoader, Dataset

from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.bad_samples import BadSamples, OnBadSample
from alpharefine.data.kinds import READERS, Kind
from alpharefine.data.loader import EpochLoader
from alpharefine.data.memory import keep_freed_memory
from alpharefine.data.pairs import (
    MAX_GAP,
    DrawnPair,
    EpochSampler,
    PairBatch,
    PairDataset,
    PairSource,
    RedrawnPairs,
    collate_drawn,
)
from alpharefine.data.reader import Reader, require_choice
from alpharefine.data.stored_frames import StoredFrames
from alpharefine.errors import UserError
from alpharefine.options import GeometryName

_SIZES = ("batch_size", "pairs_per_epoch", "seed")
"""Arguments that the pairs of a batch depend on."""

_NUM_DESCRIBED = 3


@dataclass(frozen=True)
class Source:
    """Data set of a mixture.

    Attributes:
        kind: Layout of the data set: ``got10k``, ``lasot``, ``coco``, ``mask_video`` (DAVIS, YouTube-VOS),
            ``saliency``, ``trackingnet``, ``imagenet_vid`` or ``imagenet_det``.
        path: Folder of the data set, absolute or relative to the data root.
        weight: Relative sampling weight.
        options: Further arguments of the reader, such as ``split`` or ``year``.
    """

    kind: Kind
    path: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, root: Path, place: str = "Data set") -> Reader:
        """Create the reader of the data set.

        Args:
            root: Data root.
            place: Key of the data set in the configuration, for error messages.

        Raises:
            UserError: If the data set does not exist, or its kind or an option is unknown.
        """
        require_choice(place, "kind", self.kind, tuple(READERS))
        reader = READERS[self.kind]
        known = [name for name in inspect.signature(reader).parameters if name != "root"]
        for name in self.options:
            require_choice(f"{place} (`{self.kind}`)", "options", name, tuple(known))
        return reader(root / self.path, **self.options)

    def open_for_training(self, name: str, root: Path) -> Reader:
        """Create the reader of a training data set.

        Args:
            name: Name of the data set in the configuration.
            root: Data root.

        Raises:
            UserError: If the data set does not exist, or must not be used for training.
        """
        place = f"`data.train.{name}`"
        if self.kind == "lasot" and self.options.get("split") == "test":
            raise UserError(f"{place}: the LaSOT test split must not be used for training; use `split: train`.")
        return self.open(root, place)

    @property
    def has_masks(self) -> bool:
        """True if the data set has masks for training."""
        return READERS[self.kind].has_masks and bool(self.options.get("masks", True))


class PairDataModule(pl.LightningDataModule):
    """Training pairs from a weighted mixture of data sets, and validation pairs from other data sets or splits.

    Args:
        root: Folder of the data sets.
        train: Training data sets by name. The names are arbitrary.
        val: Validation data sets by name. The names are arbitrary.
        batch_size: Number of pairs per step and process.
        num_workers: Number of data loader workers per training process. Validation starts the same number again.
        pairs_per_epoch: Number of pairs per epoch over all processes.
        val_pairs: Number of pairs per validation over all processes. Each validation uses the same pairs.
        max_gap: Maximum gap between template and search frame, in frames.
        min_frames: Minimum number of frames of a video. null selects 2 for videos with masks and 20 for others, or 2 if
            a data set has no video of 20 frames.
        on_bad_sample: ``error`` stops at the first pair whose images or masks cannot be read. ``skip`` draws such a
            pair again, and stops once more than 3 files are bad and more than 0.1 % of the draws.
        augmentation: Augmentation of the training pairs. Validation uses only its box jitter.
        seed: Random seed of the training pairs.
        geometry: Geometry of crops and labels. `train.py` sets the geometry of the network.
        cache_dir: Folder of the data set indexes. The default is the user's cache folder.
        store: Folder of a crop store of the training data sets, see ``alpharefine crops``. null reads their frames.

    Raises:
        UserError: If a number is out of range.
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
        min_frames: int | None = None,
        on_bad_sample: OnBadSample = "error",
        augmentation: PairAugmentation = PairAugmentation(),  # noqa: B008 - frozen
        seed: int = 0,
        geometry: GeometryName = "exact",
        cache_dir: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__()
        for name, count, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("pairs_per_epoch", pairs_per_epoch, 1),
            ("val_pairs", val_pairs, 1),
        ):
            if count < least:
                raise UserError(f"`data.{name}` must be at least {least}, got {count}.")
        self.root = Path(root).expanduser()
        self.train_sources, self.val_sources = train, val
        self.batch_size, self.num_workers = batch_size, num_workers
        self.pairs_per_epoch, self.val_pairs = pairs_per_epoch, val_pairs
        self.max_gap, self.augmentation, self.seed = max_gap, augmentation, seed
        self.min_frames = min_frames
        self.bad_samples = BadSamples(on_bad_sample)
        self.geometry: GeometryName = geometry
        self.cache_dir = Path(cache_dir) if cache_dir else None
        self.store = Path(store).expanduser() if store else None

    @property
    def has_masks(self) -> bool:
        """True if a training data set has masks."""
        return any(source.has_masks for source in self.train_sources.values())

    @property
    def has_val_masks(self) -> bool:
        """True if a validation data set has masks."""
        return any(source.has_masks for source in self.val_sources.values())

    def prepare_data(self) -> None:
        """Open the data sets that are used and build missing indexes. Lightning calls this once per machine."""
        if self.trainer is None or not self.trainer.validating:
            _ = self.train_dataset
        _ = self.val_dataset

    @cached_property
    def train_dataset(self) -> PairDataset:
        """Training pairs. The data sets are opened on first access.

        Raises:
            UserError: If a data set does not exist, is malformed or must not be used for training.
        """
        min_frames = self.min_frames if self.store is None else 2  # the store holds the sequences that are used
        opened = [
            PairSource(self._open_train(name, source), self.cache_dir, self.max_gap, min_frames)
            for name, source in self.train_sources.items()
        ]
        return self._dataset(opened, self.train_sources, self.augmentation, self.pairs_per_epoch, self.seed)

    def _open_train(self, name: str, source: Source) -> Reader:
        if self.store is None:
            return source.open_for_training(name, self.root)
        return StoredFrames(self.store, name, READERS[source.kind].is_video, source.has_masks)

    @cached_property
    def val_dataset(self) -> PairDataset:
        """Validation pairs. The data sets are opened on first access.

        Raises:
            UserError: If a data set does not exist or is malformed.
        """
        # No reduced resolution, so that the crops are those of the tracked frames.
        opened = [
            PairSource(
                source.open(self.root, f"`data.val.{name}`"),
                self.cache_dir,
                self.max_gap,
                self.min_frames,
                reduced=False,
            )
            for name, source in self.val_sources.items()
        ]
        return self._dataset(opened, self.val_sources, self.augmentation.jitter_only(), self.val_pairs, seed=0)

    def _dataset(
        self,
        opened: list[PairSource],
        sources: Mapping[str, Source],
        augmentation: PairAugmentation,
        num_pairs: int,
        seed: int,
    ) -> PairDataset:
        if not sources:
            raise UserError("`data.train` and `data.val` must each contain at least one data set.")
        weights = [source.weight for source in sources.values()]
        return PairDataset(opened, weights, augmentation, num_pairs, seed, self.geometry)

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Return the loader of the training pairs. Every epoch has new pairs."""
        self._train_sampler = self._sampler(self.train_dataset, fixed=False)
        if len(self._train_sampler) < self.batch_size:
            raise UserError(
                f"`data.pairs_per_epoch` must give each process at least one batch of {self.batch_size} pairs, got "
                f"{len(self._train_sampler)}; increase it, or decrease `data.batch_size`."
            )
        return self._loader(self.train_dataset, self._train_sampler)

    def val_dataloader(self) -> DataLoader[PairBatch]:
        """Return the loader of the validation pairs."""
        return self._loader(self.val_dataset, self._sampler(self.val_dataset, fixed=True))

    def _sampler(self, dataset: Dataset[Any], fixed: bool) -> EpochSampler:
        assert self.trainer is not None
        return EpochSampler(dataset, fixed, self.trainer.world_size, self.trainer.global_rank)

    def _loader(self, dataset: PairDataset, sampler: EpochSampler) -> DataLoader[PairBatch]:
        assert self.trainer is not None
        _end_workers_at_exit()
        skips = self.bad_samples.skips
        return EpochLoader(
            RedrawnPairs(dataset) if skips else dataset,
            sampler=sampler,
            num_done=self._num_done,
            receive=self._receive if skips else None,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=isinstance(self.trainer.accelerator, CUDAAccelerator),
            drop_last=not sampler.fixed,
            collate_fn=collate_drawn if skips else None,
            worker_init_fn=_start_worker,
        )

    def _receive(self, drawn: DrawnPair) -> PairBatch:
        self.bad_samples.add(len(drawn.pair.search) + len(drawn.faults), drawn.faults)
        return drawn.pair

    def _num_done(self) -> int:
        """Return the number of batches of the current epoch that have been trained on."""
        assert self.trainer is not None
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def describe_batch(self, batch_idx: int) -> str:
        """Return the pairs of a training batch of the current epoch and this process, and the frames of the first.

        Args:
            batch_idx: Index of the batch in the epoch.
        """
        indices = self._train_sampler.indices(batch_idx * self.batch_size)[: self.batch_size]
        shown = "; ".join(f"{index}: {self.train_dataset.describe(index)}" for index in indices[:_NUM_DESCRIBED])
        more = f"; and {len(indices) - _NUM_DESCRIBED} more, to pair {indices[-1]}" if indices[_NUM_DESCRIBED:] else ""
        return f"pairs {shown}{more}"

    def state_dict(self) -> dict[str, Any]:
        """Return what a position inside an epoch depends on."""
        assert self.trainer is not None
        done, total = self._num_done(), self.trainer.num_training_batches
        sizes = {name: getattr(self, name) for name in _SIZES}
        return {**sizes, "num_processes": self.trainer.world_size, "inside_epoch": 0 < done < total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Require the same batches as in the checkpoint, if it was saved inside an epoch.

        Args:
            state_dict: State of the checkpoint, see `state_dict`.

        Raises:
            UserError: If the pairs of a batch differ.
        """
        assert self.trainer is not None
        if not state_dict["inside_epoch"]:
            return
        now = {f"data.{name}": (state_dict[name], getattr(self, name)) for name in _SIZES}
        now["trainer.devices` x `trainer.num_nodes"] = (state_dict["num_processes"], self.trainer.world_size)
        for name, (began, value) in now.items():
            if value != began:
                raise UserError(
                    f"`{name}` was {began} in the epoch that this checkpoint was saved in, got {value}; restore the "
                    "value until the end of the epoch."
                )


class GOT10kDataModule(PairDataModule):
    """GOT-10k training and validation splits.

    Args:
        root: Folder of the data set.
        kwargs: Further arguments of `PairDataModule`.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        train, val = Source("got10k", "."), Source("got10k", ".", options={"split": "val"})
        super().__init__(root, {"got10k": train}, {"got10k": val}, **kwargs)


class LaSOTDataModule(PairDataModule):
    """LaSOT training split. LaSOT has no validation split, so another data set is required for validation.

    Args:
        root: Folder of the data set.
        val: Validation data sets by name. Paths are absolute or relative to `root`.
        kwargs: Further arguments of `PairDataModule`.
    """

    def __init__(self, root: str, val: dict[str, Source], **kwargs: Any) -> None:
        super().__init__(root, {"lasot": Source("lasot", ".")}, val, **kwargs)


class COCODataModule(PairDataModule):
    """COCO training and validation splits.

    Args:
        root: Folder of the data set.
        year: 2014 or 2017.
        kwargs: Further arguments of `PairDataModule`.
    """

    def __init__(self, root: str, year: Literal[2014, 2017] = 2017, **kwargs: Any) -> None:
        train = Source("coco", ".", options={"split": "train", "year": year})
        val = Source("coco", ".", options={"split": "val", "year": year})
        super().__init__(root, {"coco": train}, {"coco": val}, **kwargs)


def _start_worker(worker_id: int) -> None:  # noqa: ARG001 - signature of DataLoader
    """Prepare a worker: no threads of OpenCV, which would compete for the cores, and no end by the trainer's signals.

    The memory of decoded frames is kept for the next ones.

    A signal to all processes of a run asks the trainer to save a checkpoint, for which the workers must stay.
    """
    cv2.setNumThreads(0)
    keep_freed_memory()
    signal.signal(signal.SIGTERM, _ignore_once)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _ignore_once(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signature of a handler
    signal.signal(signum, signal.SIG_DFL)


@cache
def _end_workers_at_exit() -> None:
    """Kill the workers that are left when this process ends.

    Python waits for them, and they ignore the SIGTERM that it sends them.
    """
    Finalize(None, _kill_workers, exitpriority=0)


def _kill_workers() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report them as failed
    for child in active_children():
        if child.daemon:
            child.kill()
