"""``python -m alpharefine.checkpoints convert IN OUT``: any checkpoint to exported weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError

from alpharefine.checkpoints.exported import save_exported
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.cli import UserErrorParser, run_command
from alpharefine.errors import UserError


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
    options = parser.parse_args(args)
    if options.output.suffix != ".safetensors" or options.output.exists():
        raise UserError(f"{options.output} must be a .safetensors file that is not there yet; give another name.")
    if not options.output.absolute().parent.is_dir():
        raise UserError(f"{options.output.parent} is no folder; make it, or give another place.")
    network, description = load_checkpoint(options.input)
    part = options.output.with_name(f".{options.output.name}.part")
    try:
        save_exported(network, part)
        part.replace(options.output)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{options.output} cannot be written ({error}); give another place.") from error
    finally:
        part.unlink(missing_ok=True)
    parts = ", ".join(f"{name} {_told(value)}" for name, value in network.parts.items())
    sys.stdout.write(f"{options.input}: {description}\n{options.output}: {parts}\n")


def _told(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    sys.exit(run_command(main))
