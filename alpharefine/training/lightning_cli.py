"""LightningCLI of the training command."""

from __future__ import annotations

import logging
import os
import re
import warnings
from argparse import ArgumentError
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from alpharefine.errors import UserError
from alpharefine.options import WandbMode
from alpharefine.training.bad_samples import BadSampleCount
from alpharefine.training.checkpoint_io import (
    LAST,
    FoundCheckpoint,
    WholeCheckpointIO,
    find_checkpoint,
    has_checkpoint,
)
from alpharefine.training.gradient_norm import GradientNorm
from alpharefine.training.last_checkpoint import LastCheckpoint
from alpharefine.training.non_finite import NonFiniteSteps
from alpharefine.training.pair_panel import PairPanel
from alpharefine.training.rate import PairRate
from alpharefine.training.task import LOSS

MONITORS = {"corner": "val/iou", "mask": "val/mask_iou"}
"""Metric that compares checkpoints, by head; that of the first head is the default."""

_LOSS_INTERVAL_S = 0.5

_KEY = re.compile(r'Parser key "([^"]+)":')
_CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>|typing\.|^- ")
_GIVEN = re.compile(r"^( *)Given value: (.*)$", re.MULTILINE)


def _reason(message: str) -> str:
    """Shorten a nested message of the parser to its keys, its innermost lines and the innermost value.

    The keys leave out the names in a mapping, such as those of data sets.
    """
    keys = _KEY.findall(message)
    if not keys:
        return message
    lines = [line for line in message.splitlines() if not _KEY.search(line)]
    depth = max(_indentation(line) for line in lines)
    reasons = [_CLASS.sub(lambda found: found[1] or "", line.strip()) for line in lines if _indentation(line) == depth]
    given = max(_GIVEN.findall(message), key=lambda found: len(found[0]), default=("", ""))[1]
    got = f". Got value: {given}" if len(reasons) > 1 else ""
    return f"`{'.'.join(keys)}`: {', or '.join(reasons)}{got}"


def _refusal(error: BaseException) -> UserError | None:
    """Return the `UserError` that an error of the parser was raised from, if there is one."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    return cause


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


_HINTS = (
    r"Tip: For seamless cloud logging",  # an advertisement
    r"`weights_only` was not set",
    r"You are using a CUDA device .* Tensor Cores",  # float32 is meant to be exact where it is used
    r"your dataloader is not resumable",  # those of the data modules are
    r"is not supported by the model summary",
    r"TPU available: False",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # a call inside of Lightning
)
"""Messages of Lightning that a user of the command cannot act on."""


def _silence_hints() -> None:
    for hint in _HINTS:
        warnings.filterwarnings("ignore", f".*{hint}")
    for handler in logging.getLogger("pytorch_lightning").handlers:
        handler.addFilter(_is_no_hint)


def _is_no_hint(record: logging.LogRecord) -> bool:
    return not any(re.search(hint, record.getMessage()) for hint in _HINTS)


class _MetricsAndLoss:
    """Metrics of a progress bar, and the loss. From a GPU it is read twice a second, because the host waits for it.

    Lightning reads a metric that is logged with ``prog_bar=True`` in every step.

    Args:
        bar: Progress bar, whose `get_metrics` this object replaces.
    """

    def __init__(self, bar: ProgressBar) -> None:
        self._get_metrics, self._read_s = bar.get_metrics, -inf
        self._shown: dict[str, Any] = {}

    def __call__(self, trainer: Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the values to show.

        Args:
            trainer: Trainer of the run.
            pl_module: Task that is trained.
        """
        loss = trainer.callback_metrics.get(LOSS)
        if loss is not None and (
            loss.device.type == "cpu"
            or perf_counter() - self._read_s >= _LOSS_INTERVAL_S
            or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        ):
            self._shown, self._read_s = {LOSS: loss.item()}, perf_counter()
        return self._get_metrics(trainer, pl_module) | self._shown


class TrainCLI(LightningCLI):
    """Command line of a training run, which has a name and a folder, and can be resumed."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments of a run."""
        parser.add_argument("--name", type=str, default="", help="Name of the run; the config's file name by default.")
        parser.add_argument("--output_dir", type=str, default="runs", help="Parent of the run's folder.")
        parser.add_argument(
            "--resume",
            nargs="?",
            const=True,
            default=False,
            type=bool | Literal["auto"],
            help="Continue from the run's last checkpoint; auto: start the run if there is none.",
        )
        parser.add_argument(
            "--init_from",
            type=str | None,
            default=None,
            help="Checkpoint of any format whose weights training starts from, in place of `model.backbone_weights`.",
        )
        parser.add_argument(
            "--wandb",
            type=WandbMode,
            default="auto",
            help="Tracking in wandb; auto: online with a key, offline without one.",
        )
        parser.add_argument(
            "--tensorboard",
            nargs="?",
            const=True,
            default=False,
            type=bool,
            help="Also write the log for TensorBoard.",
        )
        parser.add_argument(
            "--log_checkpoints",
            nargs="?",
            const=True,
            default=False,
            type=bool,
            help="Log the best checkpoint to wandb as an artifact when the training is complete.",
        )
        parser.add_argument(
            "--max_nonfinite_steps",
            type=int,
            default=3,
            help="Number of consecutive steps with a non-finite loss or gradient that ends the training.",
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.link_arguments("model.geometry", "data.init_args.geometry")
        parser.set_defaults(
            {
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
                "checkpoint.train_time_interval": "0:10:00",
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the given arguments; Lightning's own method warns if they are not those of the process.

        Args:
            parser: Parser of the command.
            args: Arguments as a list.

        Raises:
            UserError: If an argument is unknown or its value is invalid; the parser would print its long usage.
        """
        assert isinstance(args, list)
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(f"{_reason(str(error))}; `--help` lists the options, `--help_all` all values.") from error

    @property
    def run_name(self) -> str:
        """Name of the run. A trial of a sweep of wandb has its id at the end, so that each has its own folder."""
        given: str = self.config.name
        configs = self.config.config
        name = given or (Path(str(configs[-1])).stem if configs else "base")
        trial = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        return f"{name}-{trial}" if trial else name

    @property
    def run_dir(self) -> Path:
        """Folder of the run."""
        return Path(self.config.output_dir) / self.run_name

    @property
    def checkpoint_dir(self) -> Path:
        """Folder of the run's checkpoints."""
        return self.run_dir / "checkpoints"

    def before_instantiate_classes(self) -> None:
        """Check the options, find the checkpoint to resume, and direct the checkpoints to the folder of the run.

        Raises:
            UserError: If a run of that name exists, none exists to resume, or options contradict each other.
        """
        self._check_options()
        checkpoint, resume = self.config.checkpoint, self.config.resume
        checkpoint.dirpath = str(self.checkpoint_dir)
        checkpoint.monitor = self._monitor()
        # The intervals are those of the last checkpoint. The best one is chosen after validations.
        self._intervals = checkpoint.every_n_train_steps, checkpoint.train_time_interval
        checkpoint.every_n_train_steps = checkpoint.train_time_interval = None
        if has_checkpoint(self.checkpoint_dir) and not resume:
            raise UserError(f"{self.run_dir} holds a run; continue it with `--resume`, or give another `--name`.")
        if self.config.init_from is not None and resume is True:
            raise UserError(
                "`--init_from` starts a run and `--resume` continues one from its own checkpoint; leave one of "
                "them out (`--init_from null` if a configuration sets it), or use `--resume auto`."
            )
        self.found = find_checkpoint(self.checkpoint_dir) if resume else FoundCheckpoint(None)
        if resume is True and self.found.path is None:
            raise UserError(
                f"`--resume`: no checkpoint {self.checkpoint_dir / LAST}; check `--name` and `--output_dir`, or start "
                "with `--resume auto`."
            )
        if self.config.init_from is not None:
            self.config.model.backbone_weights = None  # not to be downloaded: the checkpoint holds the backbone

    def _check_options(self) -> None:
        for taken in ("trainer.logger", "trainer.default_root_dir", "checkpoint.dirpath"):
            if self.config[taken] is not None:
                raise UserError(f"`--{taken}` follows from `--output_dir`, `--name` and `--wandb`; leave it out.")
        for unused, reason in (
            ("save_last", "`last.ckpt` is always written"),
            ("save_on_exception", "`last.ckpt` is written at intervals and on signals"),
        ):
            if self.config.checkpoint[unused]:
                raise UserError(f"`--checkpoint.{unused}` has no use, because {reason}; leave it out.")
        every = self.config.checkpoint.every_n_train_steps
        if every is not None and every < 1:
            raise UserError(f"`--checkpoint.every_n_train_steps` must be at least 1 or null, got {every}.")
        if self.config.log_checkpoints and self.config.wandb == "off":
            raise UserError("`--log_checkpoints` has no effect with `--wandb off`; leave one of them out.")
        trainer = self.config.trainer
        if trainer.enable_checkpointing is False or trainer.barebones:
            raise UserError(
                "A run keeps its log and its checkpoints; leave out `--trainer.enable_checkpointing` and "
                "`--trainer.barebones`, or try the network with `--trainer.fast_dev_run true`."
            )
        if trainer.precision in ("16-true", "bf16-true"):
            mixed = trainer.precision.replace("true", "mixed")
            raise UserError(
                f"`--trainer.precision` must keep the weights in at least 32 bits, got {trainer.precision}; use "
                f"`{mixed}`."
            )

        if trainer.accumulate_grad_batches < 1:
            raise UserError(
                f"`--trainer.accumulate_grad_batches` must be at least 1, got {trainer.accumulate_grad_batches}."
            )
        if trainer.gradient_clip_val is not None and trainer.gradient_clip_val < 0:
            raise UserError(
                f"`--trainer.gradient_clip_val` must not be negative, got {trainer.gradient_clip_val}; null clips "
                "nothing."
            )

    def _monitor(self) -> str:
        """Metric that selects the best checkpoint."""
        measured = [metric for head, metric in MONITORS.items() if head in self.config.model.heads]
        chosen: str | None = self.config.checkpoint.monitor
        if measured and chosen not in (None, *measured):
            raise UserError(
                f"`--checkpoint.monitor` must be one of {', '.join(measured)}, the metrics of the heads "
                f"{self.config.model.heads}, got {chosen}; correct it, or leave it out."
            )
        return chosen or next(iter(measured), "")

    def instantiate_classes(self) -> None:
        """Build the task, the data module and the trainer.

        Raises:
            UserError: If one of them refuses its arguments; the message of the parser would list every argument.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            refusal = _refusal(error)
            if refusal is None:
                raise
            raise refusal from None
        checkpoint = self.config.checkpoint
        checkpoint.dirpath = None  # the saved configuration can start another run with its own folder
        checkpoint.every_n_train_steps, checkpoint.train_time_interval = self._intervals

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with the loggers and callbacks of the run.

        Args:
            kwargs: Further arguments of the trainer.

        Raises:
            UserError: If an option of the trainer is invalid on this machine.
        """
        _silence_hints()
        requeues = self.config.resume == "auto"
        last = LastCheckpoint(self.checkpoint_dir / LAST, *self._intervals, requeues)
        callbacks: list[Callback] = [
            LearningRateMonitor(),
            PairRate(),
            PairPanel(),
            GradientNorm(),
            NonFiniteSteps(self.config.max_nonfinite_steps),
            BadSampleCount(),
            last,
        ]
        self.trainer_defaults["callbacks"] = callbacks
        plugins = self.config_init.trainer.plugins or []
        plugins = [*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpointIO()]
        return self._build_trainer(
            logger=self._loggers(), default_root_dir=str(self.run_dir), plugins=plugins, **kwargs
        )

    def _loggers(self) -> list[Logger]:
        logs = CSVLogger(self.run_dir, name="logs")
        loggers: list[Logger] = [logs]
        if self.config.tensorboard:
            try:
                loggers.append(
                    TensorBoardLogger(self.run_dir, name=logs.name, version=logs.version, default_hp_metric=False)
                )
            except ModuleNotFoundError as error:
                raise UserError(
                    '`--tensorboard` requires TensorBoard; run `pip install "alpharefine[tensorboard]"`.'
                ) from error
        if self.config.wandb != "off":
            from alpharefine.training.wandb import wandb_logger

            loggers.append(
                wandb_logger(
                    self.run_name, self.run_dir, self.config.wandb, self.config.as_dict(), self.config.log_checkpoints
                )
            )
        return loggers

    def _build_trainer(self, **kwargs: Any) -> Trainer:
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise UserError(f"`--trainer`: {error} Correct the option, or leave it out.") from error
        bar = trainer.progress_bar_callback
        if bar is not None:
            bar.get_metrics = _MetricsAndLoss(bar)  # type: ignore[method-assign]
        return trainer


class ValidateCLI(TrainCLI):
    """Command line of a validation: the same configurations, without a run's folder, logs and checkpoints."""

    def before_instantiate_classes(self) -> None:
        """Keep the configuration, without the intervals of the last checkpoint."""
        checkpoint = self.config.checkpoint
        self._intervals = checkpoint.every_n_train_steps, checkpoint.train_time_interval
        checkpoint.every_n_train_steps = checkpoint.train_time_interval = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build a trainer without loggers.

        Args:
            kwargs: Further arguments of the trainer.

        Raises:
            UserError: If an option of the trainer is invalid on this machine.
        """
        return self._build_trainer(logger=False, **kwargs)
