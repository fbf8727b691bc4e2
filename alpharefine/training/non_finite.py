"""Callback that skips steps with non-finite numbers, and stops when they do not end."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from alpharefine.errors import UserError
from alpharefine.training.rate import is_logged
from alpharefine.training.task import LOSS


class _HostCopy:
    """Copy of a tensor on the host. The copy from a GPU is asynchronous: to read it one step later causes no wait.

    Args:
        values: Tensor on any device.

    Attributes:
        is_asynchronous: True for a tensor on a GPU.
    """

    def __init__(self, values: Tensor) -> None:
        self.is_asynchronous = values.device.type == "cuda"
        self._values = torch.empty_like(values, device="cpu", pin_memory=self.is_asynchronous)
        self._values.copy_(values, non_blocking=self.is_asynchronous)
        if self.is_asynchronous:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def tolist(self) -> Any:
        """Return the numbers, and wait for them if necessary."""
        if self.is_asynchronous:
            self._copied.synchronize()
        return self._values.tolist()


class _Step(NamedTuple):
    """Optimizer step, made or skipped.

    Attributes:
        number: Number of optimizer steps before it.
        epoch: Number of its epoch.
        batch_idx: Number of its batch in the epoch.
        outcome: Whether its gradients are finite, and its loss.
    """

    number: int
    epoch: int
    batch_idx: int
    outcome: _HostCopy


class NonFiniteSteps(Callback):
    """Skips optimizer steps with a non-finite loss or gradient, and stops after several in a row.

    Logs ``train/skipped_steps``: the number of skipped steps since the run started or was resumed.

    The task makes all gradients NaN if the loss is not finite, so the gradients tell all processes the same.
    Batch-norm statistics are restored, too. A fused optimizer skips the step by itself. On a GPU, the host reads one
    step later whether it did, and so does not wait. The gradient scaler of float16 skips steps in search of its scale;
    only steps with a non-finite loss count there.

    Args:
        max_steps: Number of consecutive non-finite steps that ends the training.

    Raises:
        UserError: If `max_steps` is not positive.
    """

    def __init__(self, max_steps: int = 3) -> None:
        if max_steps < 1:
            raise UserError(f"`--max_nonfinite_steps` must be at least 1, got {max_steps}.")
        self.max_steps = max_steps
        self._num_skipped = 0
        self._faults: list[_Step] = []
        self._unread: deque[_Step] = deque()
        self._buffers: list[Tensor] = []
        self._kept = torch.empty(0)

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the batch-norm statistics.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._faults.clear()
        self._unread.clear()
        self._buffers = [buffer for buffer in pl_module.buffers() if buffer.is_floating_point()]
        self._kept = parameters_to_vector(self._buffers) if self._buffers else torch.empty(0)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Let the optimizer skip a non-finite step.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            optimizer: Optimizer of the task.

        Raises:
            UserError: If the steps read so far end with `max_steps` non-finite ones.
        """
        grads = gradients_of(optimizer)
        if not grads:
            return
        is_finite = torch.stack(torch._foreach_norm(grads, float("inf"))).isfinite().all()
        if optimizer.defaults.get("fused"):
            optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined] # as a gradient scaler sets it
        elif not _has_scaler(trainer) and not is_finite:
            optimizer.zero_grad(set_to_none=True)
        self._keep_or_restore(is_finite)
        loss = trainer.callback_metrics[LOSS]  # the mean over the processes
        outcome = _HostCopy(torch.stack([is_finite.float(), loss.float()]))
        self._unread.append(_Step(trainer.global_step, trainer.current_epoch, trainer.fit_loop.batch_idx, outcome))
        self._read(trainer, num_left=int(outcome.is_asynchronous))
        if is_logged(trainer, trainer.global_step + 1):
            pl_module.log("train/skipped_steps", float(self._num_skipped))

    def _keep_or_restore(self, is_finite: Tensor) -> None:
        """Keep the batch-norm statistics of a finite step; restore those before a non-finite one."""
        if self._buffers:
            self._kept = torch.where(is_finite, parameters_to_vector(self._buffers), self._kept)
            parts = torch.split(self._kept, [buffer.numel() for buffer in self._buffers])
            kept = [part.view_as(buffer) for part, buffer in zip(parts, self._buffers, strict=True)]
            torch._foreach_copy_(self._buffers, kept)

    def _read(self, trainer: Trainer, num_left: int = 0) -> None:
        """Count the consecutive non-finite steps, except for the last `num_left` steps, and stop at too many."""
        while len(self._unread) > num_left:
            step = self._unread.popleft()
            is_finite, loss = step.outcome.tolist()
            self._num_skipped += not is_finite
            if is_finite:
                self._faults.clear()
            elif not (_has_scaler(trainer) and math.isfinite(loss)):
                self._faults.append(step)
                if len(self._faults) >= self.max_steps:
                    raise self._error(trainer, "`--max_nonfinite_steps` allows more such steps.")

    def on_validation_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to end well with a non-finite step, before the best and the last checkpoint are written.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.

        Raises:
            UserError: If the training is complete, and its last step was not finite.
        """
        self._read(trainer)
        by_steps = 0 <= trainer.max_steps <= trainer.global_step
        is_last_epoch = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
        by_epochs = is_last_epoch and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self._faults and (by_steps or by_epochs):
            raise self._error(trainer)

    on_train_epoch_end = on_validation_start  # there is no validation if `max_steps` ends an epoch

    def on_train_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to end well with a non-finite step when the training was ended early, such as by `max_time`.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.

        Raises:
            UserError: If the last step of the training was not finite.
        """
        self._read(trainer)
        if self._faults:
            raise self._error(trainer)

    def _error(
        self,
        trainer: Trainer,
        advice: str = "A larger `--trainer.max_epochs` or `max_steps` lets the run go on after it.",
    ) -> UserError:
        first, last = self._faults[0], self._faults[-1]
        data = trainer.datamodule.describe_batch(last.batch_idx)  # type: ignore[attr-defined]
        steps = "step" if len(self._faults) == 1 else f"{len(self._faults)} steps"
        precision = "" if trainer.precision == "32-true" else ", or continue with `--trainer.precision 32-true`"
        return UserError(
            f"The loss or its gradient was not finite in the last {steps}, from step {first.number} (loss "
            f"{first.outcome.tolist()[1]}). The last was batch {last.batch_idx} of epoch {last.epoch}, {data}. "
            f"Start another run with a lower `model.lr`{precision}. {advice}"
        )


def _has_scaler(trainer: Trainer) -> bool:
    precision = trainer.precision_plugin
    return isinstance(precision, MixedPrecision) and precision.scaler is not None


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the gradients of the weights of an optimizer.

    Args:
        optimizer: Optimizer.
    """
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
