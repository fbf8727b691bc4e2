"""Callbacks that average the weights over the steps, and write the network in half precision."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from alpharefine.checkpoints.exported import save_exported
from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet
from alpharefine.training.checkpoint_io import LIVE_WEIGHTS

_UPDATES = "average_updates"


class WeightAverage(Callback):
    """Exponential moving average of weights and batch-norm statistics.

    Validation runs on the average, and checkpoints contain it as the network. They also contain the trained weights,
    from which a resumed run continues.

    Args:
        decay: Factor of the average in each update. It is smaller in the first steps.

    Raises:
        UserError: If the decay is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"`decay` of the weights' average must be in 0..1, 1 excluded, got {decay}; correct it.")
        self.decay = decay
        self._updates = 0
        self._live: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}
        self._kept: list[Tensor] = []
        self._loaded: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the weights of the task.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        state = pl_module.state_dict()
        self._live = {name: value for name, value in state.items() if value.is_floating_point()}
        self._average = {name: value.clone() for name, value in self._live.items()}
        for name, value in self._loaded.items():
            self._live[name].copy_(value)
        self._loaded = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Move the average towards the weights.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            args: Further arguments of the hook.
        """
        self._updates += 1
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(list(self._average.values()), list(self._live.values()), 1 - decay)

    def on_validation_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the weights.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        if self._average:
            self._kept = [value.clone() for value in self._live.values()]
            torch._foreach_copy_(list(self._live.values()), list(self._average.values()))

    def on_validation_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        if self._kept:
            torch._foreach_copy_(list(self._live.values()), self._kept)
            self._kept = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the average as the network, and the weights beside it.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            checkpoint: Content of the checkpoint, changed in place.
        """
        checkpoint[LIVE_WEIGHTS] = {name: checkpoint["state_dict"][name] for name in self._average}
        checkpoint[_UPDATES] = self._updates
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **self._average}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue from the weights and the average of a checkpoint.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            checkpoint: Content of the checkpoint, changed in place.
        """
        self._loaded, self._updates = checkpoint[LIVE_WEIGHTS], checkpoint[_UPDATES]


class HalfPrecisionExport(Callback):
    """Writes the network in float16 after every validation, as `alpharefine.checkpoints` exports it.

    Args:
        folder: Folder of the files ``<step>.safetensors``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights that were validated.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        if trainer.is_global_zero and not trainer.sanity_checking:
            self.folder.mkdir(parents=True, exist_ok=True)
            assert isinstance(pl_module.network, AlphaRefineNet)
            save_exported(deepcopy(pl_module.network).half(), self.folder / f"{trainer.global_step:06d}.safetensors")
