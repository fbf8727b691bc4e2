"""Export the network of any checkpoint: ``alpharefine convert IN OUT``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from alpharefine.cli.command import UserErrorParser
from alpharefine.errors import UserError


def make_parser() -> UserErrorParser:
    """Build the parser of the command."""
    parser = UserErrorParser(
        prog="alpharefine convert",
        description="Write the network of a checkpoint as .safetensors, with its configuration in the header.",
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="IN",
        help="checkpoint of the training command or of the authors' code, .safetensors file, or state dict",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="path of the new .safetensors file")
    parser.add_argument(
        "--neck", help="neck in place of the recorded one; pixel and pixel_gate_first have the same parameters"
    )
    parser.add_argument(
        "--corner_head", help="corner head in place of the recorded one; towers and towers_256 have the same parameters"
    )
    parser.add_argument("--geometry", help="geometry in place of the recorded one: exact, original or original_window")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Convert a checkpoint and print what it holds.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If the input is not a checkpoint, or the output exists or cannot be written.
    """
    options = make_parser().parse_args(args)
    if options.output.suffix != ".safetensors" or options.output.exists():
        raise UserError(f"{options.output} must be a .safetensors file that does not exist; give another name.")
    if not options.output.absolute().parent.is_dir():
        raise UserError(f"{options.output.parent} must be an existing folder; create it, or give another place.")
    # Imported here, so that `--help` does not wait for torch.
    from safetensors import SafetensorError

    from alpharefine.checkpoints.exported import save_exported
    from alpharefine.checkpoints.loading import load_checkpoint

    loaded = load_checkpoint(options.input, options.geometry, options.neck, options.corner_head, option="IN")
    part = options.output.with_name(f".{options.output.name}.part")
    try:
        save_exported(loaded.network, part)
        part.replace(options.output)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{options.output} cannot be written ({error}); give another place.") from error
    finally:
        part.unlink(missing_ok=True)
    doubts = f"{loaded.doubts}\n" if loaded.doubts else ""
    sys.stdout.write(f"{options.input}: {loaded.description}\n{doubts}{options.output}: {loaded.network.config}\n")
