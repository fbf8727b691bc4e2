"""Callback that writes the checkpoint that a run continues from: regularly, and when the run is asked to stop."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint

_RANDOM = "random_states"
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` at the end of every epoch, at intervals inside an epoch, and before a run stops by a signal.

    A checkpoint inside an epoch is written before the next batch is trained on, when the previous step has been logged
    and validated, and never between the batches of one accumulated step. Random states of all processes are part of it.

    SIGTERM and SIGUSR1 end the run with exit code 128 + signal after the checkpoint is written. In a SLURM job, SIGUSR1
    also requeues the job.

    Args:
        path: Path of the checkpoint.
        every_n_steps: Number of optimizer steps between checkpoints. None for no such interval.
        interval: Time between checkpoints. None for no such interval.
        requeues: Requeue a SLURM job on SIGUSR1. The command must be one that continues a run.
    """

    def __init__(self, path: Path, every_n_steps: int | None, interval: timedelta | None, requeues: bool) -> None:
        self.path = path
        self.every_n_steps, self.interval = every_n_steps, interval
        self.requeues = requeues
        self._signal = 0
        self._saved_step, self._saved_time = 0, 0.0
        self._inside_epoch = False
        self._loaded: list[dict[str, Any]] = []

    def on_sanity_check_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Receive signals from now on.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        self._receive_signals()

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the random state of this process, and receive signals if there was no sanity check.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        if len(self._loaded) == trainer.world_size:
            _set_random_state(self._loaded[trainer.global_rank])
        self._loaded = []
        self._saved_step, self._saved_time = trainer.global_step, monotonic()
        self._receive_signals()

    def _receive_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for each in _STOP_SIGNALS:  # in place of Lightning's handlers, which it removes at the end
                signal.signal(each, self._receive)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self._signal = signum

    def on_train_batch_start(self, trainer: Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Write a checkpoint if it is time to, and stop if a signal asks for it.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            batch: Batch of pairs.
            batch_idx: Index of the batch.

        Raises:
            SystemExit: If a signal was received.
        """
        received, is_time = self._agree(trainer)
        if batch_idx % trainer.accumulate_grad_batches:
            return
        if (received or is_time) and trainer.global_step != self._saved_step:
            self._save(trainer, inside_epoch=True)
        if received:
            self._stop(trainer, received)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Write a checkpoint, and stop if a signal asks for it.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.

        Raises:
            SystemExit: If a signal was received.
        """
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        self._save(trainer, inside_epoch=done < trainer.num_training_batches)  # `max_steps` and `max_time` end it early
        received, _ = self._agree(trainer)
        if received:
            self._stop(trainer, received)

    def _agree(self, trainer: Trainer) -> tuple[int, bool]:
        """Return the signal that any process received, or 0, and whether any process finds that it is time to save."""
        by_step = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        by_time = self.interval is not None and monotonic() - self._saved_time >= self.interval.total_seconds()
        if trainer.world_size == 1:
            return self._signal, by_step or by_time
        flags = torch.tensor([self._signal, int(by_step or by_time)], device=trainer.strategy.root_device)
        received, is_time = trainer.strategy.reduce(flags, reduce_op="max").tolist()
        return received, bool(is_time)

    def _save(self, trainer: Trainer, inside_epoch: bool) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for logger in trainer.loggers:  # the log never ends before the checkpoint
            logger.save()
        self._inside_epoch = inside_epoch
        trainer.save_checkpoint(self.path)
        self._inside_epoch = False
        self._saved_step, self._saved_time = trainer.global_step, monotonic()

    def _stop(self, trainer: Trainer, signum: int) -> None:
        name = signal.Signals(signum).name
        if trainer.is_global_zero:
            saved = f"step {trainer.global_step} is saved in {self.path}" if trainer.global_step else "no step was made"
            sys.stderr.write(f"stopped by {name}: {saved}; continue with `--resume auto`\n")
            if signum == signal.SIGUSR1 and SLURMEnvironment.job_id() is not None:
                sys.stderr.write(f"{_requeue() if self.requeues else 'not requeued: requires `--resume auto`'}\n")
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if isinstance(environment, LightningEnvironment) and environment.local_rank() > 0:
            raise SystemExit(0)  # Lightning kills the first process if another one that it started fails
        raise SystemExit(128 + signum)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the random states, and the place inside the epoch in a form that Lightning continues from.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            checkpoint: Content of the checkpoint, changed in place.
        """
        checkpoint[_RANDOM] = _random_states(trainer)
        if self._inside_epoch:
            _end_previous_batch(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the random states until the training starts.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
            checkpoint: Content of the checkpoint.
        """
        self._loaded = checkpoint.get(_RANDOM, [])


def _end_previous_batch(loop: dict[str, Any]) -> None:
    """Change the state of the fit loop from the start of a batch, or from an early end, to the end of the last batch.

    Lightning continues at the right place from the state that it has in `on_train_batch_end`.
    """
    for counts in (loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]):
        counts["processed"] = counts["completed"]
    progress = loop["epoch_loop.batch_progress"]
    progress["is_last_batch"] = False
    for counts in (progress["total"], progress["current"]):
        counts["ready"] = counts["started"] = counts["processed"]
        counts["completed"] = counts["processed"] - 1
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def _random_states(trainer: Trainer) -> list[dict[str, Any]]:
    """Return the random states of all processes, in a form that is loaded without executing code."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - whatever uses the global state
    device = trainer.strategy.root_device
    state = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
    }
    if trainer.world_size == 1:
        return [state]
    states: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(states, state)
    return states


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def _requeue() -> str:
    """Requeue the SLURM job of this process, and return a description of the outcome."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"job {job} is not requeued: {error}; submit it again"
    if done.returncode:
        reason = done.stderr.strip() or f"scontrol exited with code {done.returncode}"
        return f"job {job} is not requeued: {reason}; submit it again"
    return f"job {job} is requeued"
