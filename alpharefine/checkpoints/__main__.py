"""``python -m alpharefine.checkpoints convert IN OUT``, the same as ``alpharefine convert IN OUT``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alpharefine.cli import convert
from alpharefine.cli.command import run_command
from alpharefine.errors import UserError


def main(args: Sequence[str] | None = None) -> None:
    """Run the subcommand ``convert``.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If the subcommand is unknown, or see `alpharefine.cli.convert.main`.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if arguments[:1] not in (["convert"], ["-h"], ["--help"]):
        raise UserError(f"The subcommand must be convert, got {arguments[:1]}; use `convert IN OUT`.")
    convert.main(arguments[1:] if arguments[0] == "convert" else arguments)


if __name__ == "__main__":
    sys.exit(run_command(main))
