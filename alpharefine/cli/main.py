"""The command ``alpharefine``: dispatches to a subcommand, which is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from alpharefine.cli.command import run_command
from alpharefine.errors import UserError

SUBCOMMANDS = {
    "track": "Follow a target through a video, and draw its boxes and masks.",
    "vot": "Speak TraX as a tracker, for the VOT toolkit.",
    "train": "Train, fine-tune or validate a refinement network.",
    "evaluate": "Run a base tracker with and without refinement, and score it.",
    "score": "Score the boxes of a results folder.",
    "report": "Print the scores of results folders, or write them as a page, tables and plots.",
    "crops": "Write the crop store of a training configuration, which training reads faster than frames.",
    "check": "Read a whole data root and list every defect with file and row.",
    "export": "Export a checkpoint to ONNX, torch.export or .safetensors.",
}


def main(args: Sequence[str] | None = None) -> None:
    """Run a subcommand.

    Args:
        args: Arguments; those of the command line by default.

    Raises:
        UserError: If the subcommand is unknown or fails because of its input.
    """
    name, *others = sys.argv[1:] if args is None else args or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(_help())
    elif name == "--version":
        import alpharefine

        sys.stdout.write(f"alpharefine {alpharefine.__version__}\n")
    elif name in SUBCOMMANDS:
        importlib.import_module(f"alpharefine.cli.{name}").main(others)
    else:
        raise UserError(f"Subcommand must be one of {', '.join(SUBCOMMANDS)}, got {name!r}; see `alpharefine --help`.")


def _help() -> str:
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, summary in SUBCOMMANDS.items()]
    return "\n".join(
        [
            "usage: alpharefine SUBCOMMAND [arguments]",
            "",
            "Alpha-Refine: precise boxes and masks for any visual object tracker.",
            "",
            *lines,
            "",
            "`alpharefine SUBCOMMAND --help` lists the arguments of a subcommand.",
            "",
        ]
    )


def console() -> None:
    """Run the command as an installed script, with one line for an error that the user can fix."""
    sys.path.append("")  # folder of `--tracker package.module:Class`
    sys.exit(run_command(main))
