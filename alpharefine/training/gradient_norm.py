"""Callback that logs the norm of the gradient."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer

from alpharefine.training.non_finite import gradients_of
from alpharefine.training.rate import is_logged


class GradientNorm(Callback):
    """Logs ``train/gradient_norm``: the Euclidean norm of the gradient of all weights, before it is clipped."""

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Compute the norm in every step that is logged.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            optimizer: Optimizer of the task.
        """
        if not is_logged(trainer, trainer.global_step + 1):
            return
        grads = gradients_of(optimizer)
        if grads:
            pl_module.log("train/gradient_norm", torch.nn.utils.get_total_norm(grads))
