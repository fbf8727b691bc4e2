"""Callback that logs how fast a training is, and how much of the time it waits for data."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback, Trainer

from alpharefine.data.loader import EpochLoader
from alpharefine.data.pairs import PairBatch


class PairRate(Callback):
    """Logs ``train/pairs_per_s`` over all processes, and ``train/loader_wait``: the share of the time spent on waiting
    for the loader, mean over the processes.

    Both are measured since the last logged step. The time of validations and between epochs is not included.
    """  # noqa: D205 - one sentence

    def __init__(self) -> None:
        self._last = self._elapsed = 0.0
        self._pairs = self._logged_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Start to count, also inside an epoch.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._last = perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out the time since the last batch.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._last = perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out the time since the last batch.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._last = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Count time and pairs, and log them in every step that is logged.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            outputs: Output of the step.
            batch: Batch of pairs.
            batch_idx: Number of the batch.
        """
        now = perf_counter()
        self._elapsed += now - self._last
        self._last = now
        self._pairs += len(batch.search)
        step = trainer.global_step
        if step == self._logged_step or not is_logged(trainer, step):
            return
        pl_module.log("train/pairs_per_s", self._pairs * trainer.world_size / self._elapsed)
        loader = trainer.train_dataloader
        if isinstance(loader, EpochLoader):
            pl_module.log("train/loader_wait", loader.take_wait() / self._elapsed, sync_dist=True)
        self._elapsed, self._pairs, self._logged_step = 0.0, 0, step


def is_logged(trainer: Trainer, num_steps: int) -> bool:
    """Return True if Lightning writes the values of the step after which this number of steps has been made.

    Args:
        trainer: Trainer of the run.
        num_steps: Number of optimizer steps.
    """
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return bool(every) and num_steps % every == 0
