"""Callback that logs the number of training pairs per second."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback, Trainer

from alpharefine.data.pairs import PairBatch


class PairRate(Callback):
    """Logs ``train/pairs_per_s`` over all processes. The time of validations is not included.

    Args:
        steps: Number of steps per measurement.
    """

    def __init__(self, steps: int = 50) -> None:
        self.steps = steps
        self._start = 0.0
        self._pairs = 0

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Start to count, also inside an epoch.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._start = perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Start to count.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._pairs = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Count the pairs, and log their rate after some steps.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            outputs: Output of the step.
            batch: Batch of pairs.
            batch_idx: Number of the batch.
        """
        now = perf_counter()
        if batch_idx % self.steps == 0:
            if self._pairs:
                pl_module.log("train/pairs_per_s", self._pairs * trainer.world_size / (now - self._start))
            self._start, self._pairs = now, 0
        self._pairs += len(batch.search)
