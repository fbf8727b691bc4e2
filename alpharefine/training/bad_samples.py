"""Callback that logs the number of bad samples."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning import Callback, Trainer


class BadSampleCount(Callback):
    """Logs ``data/bad_samples`` at the end of each epoch: the samples of all processes that were drawn again.

    The count begins anew when a run resumes. Data modules without `bad_samples`, or with ``on_bad_sample: error``, log
    nothing.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Log the count.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        bad_samples = getattr(trainer.datamodule, "bad_samples", None)  # type: ignore[attr-defined]
        if bad_samples is not None and bad_samples.skips:
            pl_module.log("data/bad_samples", float(bad_samples.num_bad), sync_dist=True, reduce_fx="sum")
