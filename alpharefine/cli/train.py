"""Train or validate a refinement network: ``alpharefine train --config ar34_cm.yaml --data.root DATA``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpharefine.cli.configs import BASE_CONFIG, find_configs
from alpharefine.cores import remark_shared_cores
from alpharefine.errors import UserError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from alpharefine.training.lightning_cli import TrainCLI

HELP = """\
usage: train.py [options]                       train a network
       train.py validate --ckpt_path FILE [options]   measure a checkpoint on the validation data

options:
  -c, --config FILE      configuration, a path or the name of a shipped one; later ones override earlier ones
  --name NAME            name of the run (default: the file name of the last configuration)
  --output_dir DIR       parent of the run's folder (default: runs)
  --resume [auto]        continue from the run's last checkpoint; auto: start the run if there is none
  --init_from FILE       start from the weights of a checkpoint: of this command, exported (.safetensors), or of the
                         authors' code (.pth.tar). Backbone and neck must fit. Heads of the same kind are loaded, other
                         heads are initialized. `model.backbone_weights` is not used
  --wandb MODE           auto, online, offline or off (default: auto, online if there is a key)
  --tensorboard          also write the log for TensorBoard
  --log_checkpoints      log the best checkpoint to wandb as an artifact when the training is complete
  --max_nonfinite_steps N
                         end after N consecutive steps with a non-finite loss or gradient (default: 3)
  --ckpt_path FILE       checkpoint to validate, of the same three formats; its network replaces `model`
  --SECTION.KEY VALUE    any value of the configuration; sections are model, data, trainer and checkpoint
  --print_config         print the resolved configuration and exit
  -h, --help             print this help and exit
  --help_all             print all values of the configuration with their types and exit

examples:
  train.py --config ar34_cm.yaml --data.root DATA --trainer.devices 4
  train.py --config ar18_cm.yaml --data.root DATA --init_from SEcmnet_ep0040-c.pth.tar --model.backbone resnet34
  train.py --config ar18_cm.yaml --data.root DATA --resume auto --checkpoint.every_n_train_steps 1000
  train.py --config ar18_cm.yaml --data.root DATA --resume --trainer.max_epochs 60
  train.py validate --config ar18_cm.yaml --data.root DATA --ckpt_path runs/ar18_cm/checkpoints/best.ckpt

`alpharefine train` is the same command.
"""

_OF_A_RUN = (
    "--model",
    "--name",
    "--output_dir",
    "--resume",
    "--init_from",
    "--wandb",
    "--tensorboard",
    "--log_checkpoints",
    "--max_nonfinite_steps",
    "--checkpoint",
)
"""Options without effect on a validation."""


def main(args: Sequence[str] | None = None) -> None:
    """Train or validate a network.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If an argument or a file is missing or invalid.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return
    arguments = ["--help" if argument == "--help_all" else argument for argument in arguments]
    if arguments[:1] == ["validate"]:
        _validate(arguments[1:])
    else:
        _train(find_configs(arguments))


def _train(arguments: list[str]) -> None:
    import torch

    from alpharefine.training.checkpoint_io import LAST
    from alpharefine.training.lightning_cli import MONITORS, TrainCLI

    cli = _build(TrainCLI, arguments, save_config_kwargs={"overwrite": True})
    if "mask" in cli.config.model.heads and not cli.datamodule.has_masks:
        raise UserError(
            "`data.train` must hold a data set with masks to train the mask head; add one, or train with "
            "`--model.heads [corner]`."
        )
    if cli.config.checkpoint.monitor == MONITORS["mask"] and not cli.datamodule.has_val_masks:
        raise UserError(
            f"`data.val` must hold a data set with masks to measure `{MONITORS['mask']}`, which selects the best "
            "checkpoint; add one."
        )
    checkpoint, fault = cli.found
    if checkpoint is None and cli.config.init_from is not None:
        _initialize(cli, cli.config.init_from)
    if fault and cli.trainer.is_global_zero:
        sys.stderr.write(f"{fault}; continuing from {checkpoint}\n")
        (cli.checkpoint_dir / LAST).unlink(missing_ok=True)  # the next save would keep it in place of `checkpoint`
    if _starts_the_others(cli.trainer):
        # An error in the data is reported once, before other processes start and wait for this one.
        cli.datamodule.prepare_data()
    # Lightning divides the cores among its processes unless the number of threads is given.
    remark_shared_cores(cli.trainer.num_devices if "OMP_NUM_THREADS" in os.environ else 1, torch.get_num_threads())
    _fit(cli, checkpoint)
    names = sorted(path.name for path in cli.checkpoint_dir.glob("*.ckpt"))
    if names and cli.trainer.is_global_zero:
        sys.stdout.write(f"{', '.join(names)} in {cli.checkpoint_dir}\n")


def _fit(cli: TrainCLI, checkpoint: Path | None) -> None:
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint)
    except SystemExit as error:
        if isinstance(error, SIGTERMException):  # a signal before the training started; Lightning exits with 0
            raise SystemExit(128 + signal.SIGTERM) from error
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning exits with 1
            raise KeyboardInterrupt from error
        raise
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            f"{str(error).strip().rstrip('.')}; continue with `--resume auto`. If memory was short, decrease "
            "`data.num_workers`."
        ) from error


def _initialize(cli: TrainCLI, path: str) -> None:
    """Load the weights of a checkpoint into the network to train."""
    from alpharefine.checkpoints.loading import load_checkpoint
    from alpharefine.checkpoints.transfer import transfer_weights

    loaded = load_checkpoint(path, option="--init_from")
    transfer = transfer_weights(cli.model.network, loaded.network, f"`--init_from`: {path}")
    if cli.trainer.is_global_zero:
        doubts = f"{loaded.doubts}\n" if loaded.doubts else ""
        sys.stdout.write(f"{path}: {loaded.description}: {transfer}\n{doubts}")


def _validate(arguments: list[str]) -> None:
    from alpharefine.checkpoints.loading import load_checkpoint
    from alpharefine.training.lightning_cli import MONITORS, ValidateCLI

    path, arguments = _pop_ckpt_path(arguments)
    for argument in arguments:
        option = argument.partition("=")[0].partition(".")[0]
        if option in _OF_A_RUN:
            raise UserError(
                f"`{argument.partition('=')[0]}` has no effect on `validate`, which takes the network from the "
                "checkpoint and writes no files; leave it out."
            )
    loaded = load_checkpoint(path, option="--ckpt_path")
    config = loaded.network.config
    values = config.to_dict() | {"heads": f"[{', '.join(config.heads)}]", "backbone_weights": "null"}
    network = [f"--model.{name}={value}" for name, value in values.items()]
    cli = _build(ValidateCLI, [*find_configs(arguments), *network], save_config_callback=None)
    if config.heads == ("mask",) and not cli.datamodule.has_val_masks:
        raise UserError(f"`data.val` must hold a data set with masks to measure `{MONITORS['mask']}`; add one.")
    cli.model.network.load_state_dict(loaded.network.state_dict())
    if _starts_the_others(cli.trainer):
        _ = cli.datamodule.val_dataset
    (metrics,) = cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero:
        doubts = f"{loaded.doubts}\n" if loaded.doubts else ""
        sys.stdout.write(f"{path}: {loaded.description}; {config}\n{doubts}")
        for name, value in metrics.items():
            is_measured = name != MONITORS["mask"] or cli.datamodule.has_val_masks
            sys.stdout.write(f"{name} {f'{value:.4f}' if is_measured else 'not measured: `data.val` has no masks'}\n")


def _pop_ckpt_path(arguments: list[str]) -> tuple[Path, list[str]]:
    """Path of the checkpoint to validate, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--ckpt_path")
    try:
        chosen, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(f"`--ckpt_path`: {error.message}; give a checkpoint.") from error
    if chosen.ckpt_path is None:
        raise UserError("`validate` requires `--ckpt_path`, got none; give the checkpoint to validate.")
    return Path(chosen.ckpt_path), others


def _build(cli_class: type[TrainCLI], arguments: list[str], **kwargs: Any) -> TrainCLI:
    """Parse the arguments and build task, data module and trainer."""
    from alpharefine.training.task import RefineTask
    from datamodules import PairDataModule

    return cli_class(
        RefineTask,
        PairDataModule,
        subclass_mode_data=True,
        args=arguments,
        run=False,
        auto_configure_optimizers=False,  # the task configures its own; `--optimizer` would silently replace it
        parser_kwargs={
            "default_config_files": [str(BASE_CONFIG)],
            "allow_abbrev": False,
            "exit_on_error": False,
        },
        **kwargs,
    )


def _starts_the_others(trainer: Trainer) -> bool:
    """Return True unless a launcher such as torchrun or SLURM starts all processes."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return environment is None or not environment.creates_processes_externally
