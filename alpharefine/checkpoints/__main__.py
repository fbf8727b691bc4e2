"""``python -m alpharefine.checkpoints convert IN OUT``: any checkpoint to exported weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from safetensors import SafetensorError

from alpharefine.checkpoints.exported import save_exported
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.cli.command import UserErrorParser, run_command
from alpharefine.errors import UserError
from alpharefine.models import CornerHeadName, NeckName


def main(args: Sequence[str] | None = None) -> None:
    """Convert a file and say what was in it.

    Args:
        args: the command line's by default.

    Raises:
        UserError: if the input is no checkpoint, or the output is there already or cannot be written.
    """
    parser = UserErrorParser(prog="python -m alpharefine.checkpoints", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "convert", help="write the network of a checkpoint as .safetensors, with its hyperparameters in the header"
    )
    command.add_argument(
        "input", type=Path, help="a checkpoint of train.py or of the authors' code (.pth.tar), or a .safetensors"
    )
    command.add_argument("output", type=Path, help="the .safetensors file to write")
    for option, names in (("--neck", NeckName), ("--corner_head", CornerHeadName)):
        command.add_argument(
            option, choices=get_args(names), help="in place of the one that the file tells; for weights that fit both"
        )
    options = parser.parse_args(args)
    if options.output.suffix != ".safetensors" or options.output.exists():
        raise UserError(f"{options.output} must be a .safetensors file that is not there yet; give another name.")
    if not options.output.absolute().parent.is_dir():
        raise UserError(f"{options.output.parent} is no folder; make it, or give another place.")
    loaded = load_checkpoint(options.input, neck=options.neck, corner_head=options.corner_head)
    part = options.output.with_name(f".{options.output.name}.part")
    try:
        save_exported(loaded.network, part)
        part.replace(options.output)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{options.output} cannot be written ({error}); give another place.") from error
    finally:
        part.unlink(missing_ok=True)
    sys.stdout.write(f"{options.input}: {loaded.description}\n")
    if loaded.doubts and options.neck is None and options.corner_head is None:
        sys.stdout.write(f"{loaded.doubts}\n")
    sys.stdout.write(f"{options.output}: {loaded.network.config}\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
