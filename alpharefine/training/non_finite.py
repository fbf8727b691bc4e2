"""Callback that skips steps with non-finite numbers, and stops when they do not end."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor

from alpharefine.errors import UserError


class NonFiniteSteps(Callback):
    """Skips optimizer steps with a non-finite loss or gradient, and stops after several in a row.

    The task makes all gradients NaN if the loss is not finite, so the gradients tell all processes the same. Batch-norm
    statistics are restored, too. The gradient scaler of float16 skips steps itself, in search of its scale; only steps
    with a non-finite loss count there.

    Args:
        max_steps: Number of consecutive non-finite steps that ends the training.

    Raises:
        UserError: If `max_steps` is not positive.
    """

    def __init__(self, max_steps: int = 3) -> None:
        if max_steps < 1:
            raise UserError(f"`--max_nonfinite_steps` must be at least 1, got {max_steps}.")
        self.max_steps = max_steps
        self._num_steps = 0
        self._fault = ""
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the batch-norm statistics.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._buffers = [buffer for buffer in pl_module.buffers() if buffer.is_floating_point()]
        self._kept = [buffer.clone() for buffer in self._buffers]

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Remove the gradients of a non-finite step, so that the optimizer changes nothing.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            optimizer: Optimizer of the task.

        Raises:
            UserError: If this is the last of `max_steps` consecutive non-finite steps.
        """
        grads = gradients_of(optimizer)
        if not grads or torch.stack(torch._foreach_norm(grads, float("inf"))).isfinite().all():
            self._num_steps = 0
            if self._buffers:
                torch._foreach_copy_(self._kept, self._buffers)
            return
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._kept)
        precision = trainer.precision_plugin
        scales = isinstance(precision, MixedPrecision) and precision.scaler is not None
        loss = trainer.callback_metrics["train/loss"]  # the mean over the processes
        if scales and loss.isfinite():
            return
        if not scales:
            optimizer.zero_grad(set_to_none=True)
        self._num_steps += 1
        if self._num_steps == 1:
            self._fault = f"step {trainer.global_step} (loss {loss.item()})"
        if self._num_steps >= self.max_steps:
            raise UserError(self._message(trainer))

    def _message(self, trainer: Trainer) -> str:
        loop = trainer.fit_loop
        data = trainer.datamodule.describe_batch(loop.batch_idx)  # type: ignore[attr-defined]
        return (
            f"The loss or its gradient was not finite in {self._num_steps} consecutive steps, from {self._fault}. The "
            f"last was batch {loop.batch_idx} of epoch {trainer.current_epoch}, {data}. Decrease `model.lr`, or use "
            "`--trainer.precision 32-true`; `--max_nonfinite_steps` allows more such steps."
        )

    def on_train_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to end well with a non-finite step.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.

        Raises:
            UserError: If the last step of the training was not finite.
        """
        if self._num_steps:
            raise UserError(self._message(trainer))


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the gradients of the weights of an optimizer.

    Args:
        optimizer: Optimizer.
    """
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
