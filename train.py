"""Train a refinement network: ``python train.py --config ar34_cm.yaml --data.root DATA``."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger

from alpharefine.cli.command import run_command
from alpharefine.cli.configs import find_configs
from alpharefine.errors import UserError
from alpharefine.training.checkpoint_io import WholeCheckpointIO
from alpharefine.training.task import RefineTask
from datamodules import PairDataModule

CONFIGS = Path(__file__).parent / "configs"

MONITORS = {"corner": "val/iou", "mask": "val/mask_iou"}
"""By which metric of each head checkpoints can be compared; of several heads that of the first by default."""


class TrainCLI(LightningCLI):
    """Lightning's command line, with the run's name, its folder, resuming and wandb."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is ours."""
        parser.add_argument("--name", type=str, default="", help="The run's name; the config's file name by default.")
        parser.add_argument("--output_dir", type=str, default="runs", help="A folder named after the run appears here.")
        parser.add_argument("--resume", action="store_true", help="Go on from the run's last checkpoint.")
        parser.add_argument(
            "--wandb",
            type=Literal["auto", "online", "offline", "off"],
            default="auto",
            help="Track the run in wandb; auto: online with a key, offline without one.",
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.link_arguments("model.geometry", "data.init_args.geometry")
        parser.set_defaults(
            {
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what `main` hands over; Lightning's own method warns that the command line was not read directly.

        Raises:
            UserError: where the parser would print two screens of usage and exit.
        """
        assert isinstance(args, list)
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(f"{error}\n`--help` tells what can be given.") from error

    @property
    def run_name(self) -> str:
        """The run's name."""
        given: str = self.config.name
        configs = self.config.config
        return given or (Path(str(configs[-1])).stem if configs else "base")

    @property
    def run_dir(self) -> Path:
        """Where the run's files go."""
        return Path(self.config.output_dir) / self.run_name

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint that resuming goes on from."""
        return self.run_dir / "checkpoints" / "last.ckpt"

    def before_instantiate_classes(self) -> None:
        """Put checkpoints into the run's folder.

        Raises:
            UserError: if there is already a run of that name, or none to resume, or if an option is not free.
        """
        self._check_options()
        self.config.checkpoint.dirpath = str(self.last_checkpoint.parent)
        self.config.checkpoint.monitor = self._monitor()
        exists, resume = self.last_checkpoint.is_file(), self.config.resume
        if exists and not resume:
            raise UserError(f"{self.run_dir} holds a run; go on with `--resume`, or give another `--name`.")
        if resume and not exists:
            raise UserError(f"`--resume`: no checkpoint {self.last_checkpoint}; check `--name` and `--output_dir`.")

    def _check_options(self) -> None:
        for taken in ("trainer.logger", "trainer.default_root_dir", "checkpoint.dirpath"):
            if self.config[taken] is not None:
                raise UserError(f"`--{taken}` follows from `--output_dir`, `--name` and `--wandb`; leave it out.")
        trainer = self.config.trainer
        if trainer.enable_checkpointing is False or trainer.barebones:
            raise UserError(
                "A run keeps its log and its checkpoints; leave out `--trainer.enable_checkpointing` and "
                "`--trainer.barebones`, or try the network out by `--trainer.fast_dev_run true`."
            )
        if trainer.precision in ("16-true", "bf16-true"):
            mixed = trainer.precision.replace("true", "mixed")
            raise UserError(f"`--trainer.precision {trainer.precision}` is too coarse for parts of it; use `{mixed}`.")

    def _monitor(self) -> str:
        """What the best checkpoint is best by."""
        measured = [metric for head, metric in MONITORS.items() if head in self.config.model.heads]
        chosen: str | None = self.config.checkpoint.monitor
        if measured and chosen not in (None, *measured):
            raise UserError(
                f"`--checkpoint.monitor` must be one of {', '.join(measured)}, which are measured of the heads "
                f"{self.config.model.heads}, got {chosen}; correct it, or leave it out."
            )
        return chosen or next(iter(measured), "")

    def instantiate_classes(self) -> None:
        """Make the task, the data and the trainer."""
        super().instantiate_classes()
        self.config.checkpoint.dirpath = None  # the kept configuration can start another run, with a folder of its own

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer with the run's loggers.

        Raises:
            UserError: if there is no such device, strategy or the like.
        """
        # A callback of its own: with `save_last`, Lightning writes a last checkpoint only when a best one is written.
        last = ModelCheckpoint(
            self.last_checkpoint.parent,
            filename=self.last_checkpoint.stem,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        callbacks: list[Callback] = [LearningRateMonitor(), last]
        loggers: list[Logger] = [CSVLogger(self.run_dir, name="logs")]
        if self.config.wandb != "off":
            from alpharefine.training.wandb import PairPanel, wandb_logger

            loggers.append(wandb_logger(self.run_name, self.run_dir, self.config.wandb, self.config.as_dict()))
            callbacks.append(PairPanel())
        self.trainer_defaults["callbacks"] = callbacks
        plugins = self.config_init.trainer.plugins or []
        plugins = [*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpointIO()]
        try:
            return super().instantiate_trainer(
                logger=loggers, default_root_dir=str(self.run_dir), plugins=plugins, **kwargs
            )
        except (MisconfigurationException, ValueError) as error:
            raise UserError(f"`--trainer`: {error} Correct what was given, or leave it out.") from error


def main(args: Sequence[str] | None = None) -> None:
    """Parse the arguments, train.

    Args:
        args: the command line's by default.

    Raises:
        UserError: if something the user gave is missing or unfit.
    """
    arguments = find_configs(list(sys.argv[1:] if args is None else args), CONFIGS)
    cli = TrainCLI(
        RefineTask,
        PairDataModule,
        subclass_mode_data=True,
        args=arguments,
        run=False,
        auto_configure_optimizers=False,  # the task has its own, whose values `--optimizer` would silently void
        parser_kwargs={
            "default_config_files": [str(CONFIGS / "base.yaml")],
            "allow_abbrev": False,
            "exit_on_error": False,
        },
        save_config_kwargs={"overwrite": True},
    )
    if "mask" in cli.config.model.heads and not cli.datamodule.has_masks:
        raise UserError(
            "The mask head would learn nothing: no data set in `data.train` has masks; add one, or train with "
            "`--model.heads [corner]`."
        )
    if cli.config.checkpoint.monitor == MONITORS["mask"] and not cli.datamodule.has_val_masks:
        raise UserError(
            f"`{MONITORS['mask']}`, by which the best checkpoint is chosen, cannot be measured: no data set in "
            "`data.val` has masks; add one."
        )
    if _starts_the_others(cli.trainer):
        # A mistake in the data is told once, and leaves no process behind that waits for this one.
        cli.datamodule.prepare_data()
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.last_checkpoint if cli.config.resume else None)


def _starts_the_others(trainer: Trainer) -> bool:
    """Whether this process is the only one so far; a launcher such as torchrun or SLURM starts all of them alike."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return environment is None or not environment.creates_processes_externally


if __name__ == "__main__":
    sys.exit(run_command(main))
