"""Callback that skips steps with non-finite numbers, and stops when they do not end."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor

from alpharefine.errors import UserError
from alpharefine.training.host_copy import HostCopy


class _Step(NamedTuple):
    """Step that was made.

    Attributes:
        number: Number of optimizer steps before it.
        epoch: Number of its epoch.
        batch_idx: Number of its batch in the epoch.
        numbers: Whether its gradients are finite, and its loss, mean over the processes.
    """

    number: int
    epoch: int
    batch_idx: int
    numbers: HostCopy


class NonFiniteSteps(Callback):
    """Skips optimizer steps with a non-finite loss or gradient, and stops after several in a row.

    The task makes all gradients NaN if the loss is not finite, so the gradients tell all processes the same. Batch-norm
    statistics are restored, too. With a fused optimizer, a GPU skips the step by itself, and the host learns of it one
    step later, so that it never waits. The gradient scaler of float16 skips steps in search of its scale; only steps
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
        self._kept = torch.empty(0)
        self._unread: deque[_Step] = deque()

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the batch-norm statistics.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._buffers = [buffer for buffer in pl_module.buffers() if buffer.is_floating_point()]
        self._kept = self._statistics()

    def _statistics(self) -> Tensor:
        return torch.cat([buffer.flatten() for buffer in self._buffers])

    def on_before_backward(self, trainer: Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss. Lightning's own metrics of a step cannot be read without waiting for the GPU.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            loss: Loss of a batch, multiplied by the gradient scaler if there is one.
        """
        self._loss = loss.detach() * trainer.accumulate_grad_batches

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Let the optimizer skip a non-finite step.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            optimizer: Optimizer of the task.

        Raises:
            UserError: If the steps known by now end with `max_steps` non-finite ones.
        """
        grads = gradients_of(optimizer)
        is_finite = torch.stack(torch._foreach_norm(grads, float("inf"))).isfinite().all()
        if optimizer.defaults.get("fused"):
            optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined] # what a scaler tells it
        elif not _has_scaler(trainer) and not is_finite:
            optimizer.zero_grad(set_to_none=True)
        self._kept = torch.where(is_finite, self._statistics(), self._kept)
        parts = torch.split(self._kept, [buffer.numel() for buffer in self._buffers])
        torch._foreach_copy_(self._buffers, [p.view_as(b) for p, b in zip(parts, self._buffers, strict=True)])
        numbers = torch.stack([is_finite.float(), self._loss.float()])
        copied = HostCopy(trainer.strategy.reduce(numbers, reduce_op="mean") if trainer.world_size > 1 else numbers)
        self._unread.append(_Step(trainer.global_step, trainer.current_epoch, trainer.fit_loop.batch_idx, copied))
        self._read(trainer, num_left=int(copied.is_late))

    def _read(self, trainer: Trainer, num_left: int = 0) -> None:
        """Count the non-finite steps, save among the last `num_left`, and stop if there are too many in a row."""
        while len(self._unread) > num_left:
            step = self._unread.popleft()
            is_finite, loss = step.numbers.tolist()
            if is_finite:
                self._num_steps = 0
            elif not (_has_scaler(trainer) and math.isfinite(loss)):
                self._num_steps += 1
                if self._num_steps == 1:
                    self._fault = f"step {step.number} (loss {loss})"
                self._last_fault = step
                if self._num_steps >= self.max_steps:
                    raise UserError(self._message(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Read the last step.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.

        Raises:
            UserError: If the epoch ends with `max_steps` non-finite steps.
        """
        self._read(trainer)

    def _message(self, trainer: Trainer) -> str:
        _, epoch, batch_idx, _ = self._last_fault
        data = trainer.datamodule.describe_batch(batch_idx)  # type: ignore[attr-defined]
        return (
            f"The loss or its gradient was not finite in {self._num_steps} consecutive steps, from {self._fault}. The "
            f"last was batch {batch_idx} of epoch {epoch}, {data}. Decrease `model.lr`, or use "
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
        self._read(trainer)
        if self._num_steps:
            raise UserError(self._message(trainer))


def _has_scaler(trainer: Trainer) -> bool:
    precision = trainer.precision_plugin
    return isinstance(precision, MixedPrecision) and precision.scaler is not None


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the gradients of the weights of an optimizer.

    Args:
        optimizer: Optimizer.
    """
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
