"""LightningDataModule of a crop store in device memory. Pairs are made on the device, without workers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from alpharefine.cores import available_cores
from alpharefine.data.bad_samples import OnBadSample
from alpharefine.data.crop_store import CropStore, StoredCrop, load_store, read_crops, require_stored, write_store
from alpharefine.data.device_pairs import DevicePairs
from alpharefine.data.loader import EpochLoader
from alpharefine.data.pair_recipe import PairRecipe
from alpharefine.data.pairs import PairBatch
from alpharefine.errors import UserError
from alpharefine.options import GeometryName
from datamodules.pairs import PairDataModule, Source

_SEED_STRIDE = 2**32
"""Distance of the seeds of the batches of two trainings."""


def require_known(argument: str, names: Collection[str], train: Collection[str]) -> None:
    """Check that the data sets of an argument are training data sets.

    Args:
        argument: Name of the argument, for the error message.
        names: Names of data sets.
        train: Names of the training data sets.

    Raises:
        UserError: If one is not.
    """
    unknown = set(names) - set(train)
    if unknown:
        raise UserError(f"`data.{argument}`: {sorted(unknown)[0]} is not in `data.train`; correct its name.")


class CropStoreDataModule(PairDataModule):
    """Pairs from a crop store. The store is written first if it does not exist.

    Args:
        root: Folder of the data sets. It is read only to write the store.
        store: Folder of the crop store.
        train: Data sets of the store by name. `Source.weight` is the weight of their frames.
        holdout: Sequences for validation by name of the data set. They are not used for training.
        cutouts: Weight of each data set in video made of pictures.
        recipe: Composition of the pairs.
        max_frames: Maximum number of stored frames per sequence.
        min_area: Minimum mask area of a COCO object, in pixels.
        on_bad_sample: ``error`` stops at the first image or mask that cannot be read when the store is written.
            ``skip`` leaves such frames out, and stops once more than 3 files are bad and more than 0.1 % of the frames.
        batch_size: Number of pairs per step and process.
        pairs_per_epoch: Number of pairs per epoch over all processes.
        val_pairs: Number of pairs per validation over all processes. Each validation uses the same pairs.
        seed: Random seed of the training pairs.
        geometry: Geometry of crops and labels; only ``exact``.
        cache_dir: Folder of the data set indexes. The default is the user's cache folder.

    Raises:
        UserError: If a number is out of range, or the geometry is not ``exact``.
    """

    def __init__(
        self,
        root: str,
        store: str,
        train: dict[str, Source],
        holdout: dict[str, list[str]],
        cutouts: dict[str, float],
        recipe: PairRecipe = PairRecipe(),  # noqa: B008 - frozen
        max_frames: int = 24,
        min_area: float = 1000.0,
        on_bad_sample: OnBadSample = "error",
        batch_size: int = 128,
        pairs_per_epoch: int = 128_000,
        val_pairs: int = 2_048,
        seed: int = 0,
        geometry: GeometryName = "exact",
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(
            root,
            train,
            {name: train[name] for name in holdout if name in train},
            batch_size,
            num_workers=0,
            pairs_per_epoch=pairs_per_epoch,
            val_pairs=val_pairs,
            on_bad_sample=on_bad_sample,
            seed=seed,
            geometry=geometry,
            cache_dir=cache_dir,
        )
        if geometry != "exact":
            raise UserError(f"A crop store holds labels of the geometry `exact`, got `{geometry}`; use PairDataModule.")
        require_known("holdout", holdout, train)
        require_known("cutouts", cutouts, train)
        self.store_folder = Path(store).expanduser()
        self.holdout, self.cutouts, self.recipe = holdout, cutouts, recipe
        self.max_frames, self.min_area = max_frames, min_area

    def prepare_data(self) -> None:
        """Write the store if it does not exist."""
        if not any(self.store_folder.glob("part-*.safetensors")):
            write_store(self.store_folder, self._crops())

    def _crops(self) -> Iterator[StoredCrop]:
        for name, source in self.train_sources.items():
            min_area = self.min_area if source.kind == "coco" else 0.0
            reader = source.open_for_training(name, self.root)
            yield from read_crops(name, reader, self.max_frames, min_area, self.cache_dir, self.bad_samples)

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Load the store to the device of this process.

        Args:
            stage: Stage of the trainer, such as ``fit``.

        Raises:
            UserError: If the store does not contain a sequence of `holdout`.
        """
        assert self.trainer is not None
        store = load_store(self.store_folder, available_cores())
        held = self._held_out(store)
        store = store.to(self.trainer.strategy.root_device)
        weights = {name: source.weight for name, source in self.train_sources.items()}
        rest = [n for n in range(len(store.names)) if n not in held]
        self._train_pairs = DevicePairs(store, weights, self.cutouts, self.recipe, self.seed, rest)
        val_weights = {name: float(len(names)) for name, names in self.holdout.items()}
        self._val_pairs = DevicePairs(store, val_weights, {}, self.recipe.for_validation(), 0, held)

    def _held_out(self, store: CropStore) -> set[int]:
        wanted = {(source, name) for source, names in self.holdout.items() for name in names}
        found = {n: (store.source_of(n), store.sequence_name(n)) for n in range(len(store.names))}
        sources = {source for source, _ in found.values()}
        for source in self.holdout:
            require_stored(self.store_folder, source, sources)
        missing = wanted - set(found.values())
        if missing:
            source, name = sorted(missing)[0]
            raise UserError(f"`data.holdout.{source}`: {self.store_folder} has no sequence {name}; correct its name.")
        return {n for n, pair in found.items() if pair in wanted}

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Return the loader of the training batches. Every epoch has new batches."""
        batches = self._batches(self._train_pairs, self.pairs_per_epoch, self.seed + 1)
        self._train_sampler = self._sampler(batches, fixed=False)
        return EpochLoader(batches, sampler=self._train_sampler, num_done=self._num_done, batch_size=None)

    def val_dataloader(self) -> DataLoader[PairBatch]:
        """Return the loader of the validation batches."""
        batches = self._batches(self._val_pairs, self.val_pairs, seed=0)
        sampler = self._sampler(batches, fixed=True)
        return EpochLoader(batches, sampler=sampler, num_done=self._num_done, batch_size=None)

    def _batches(self, pairs: DevicePairs, num_pairs: int, seed: int) -> _DeviceBatches:
        assert self.trainer is not None
        batches = _DeviceBatches(pairs, self.batch_size, num_pairs // self.batch_size, seed)
        if len(batches) < self.trainer.world_size:
            raise UserError(
                f"`data.pairs_per_epoch` and `data.val_pairs` must give each process a batch of {self.batch_size}, "
                f"got {num_pairs}; increase them, or decrease `data.batch_size`."
            )
        return batches

    def describe_batch(self, batch_idx: int) -> str:
        """Return the index of a training batch of the current epoch and this process.

        Args:
            batch_idx: Index of the batch in the epoch.
        """
        return f"batch {self._train_sampler.indices(batch_idx)[0]} of the crop store {self.store_folder}"


class _DeviceBatches(Dataset[PairBatch]):
    """Batches by index: batch ``i`` depends only on the seed and on ``i``. The length is that of one epoch."""

    def __init__(self, pairs: DevicePairs, batch_size: int, num_batches: int, seed: int) -> None:
        self._pairs, self._batch_size, self._num_batches, self._seed = pairs, batch_size, num_batches, seed

    def __len__(self) -> int:
        return self._num_batches

    @torch.no_grad()
    def __getitem__(self, index: int) -> PairBatch:
        self._pairs.restart(self._seed * _SEED_STRIDE + index)
        return self._pairs.batch(self._batch_size)
