"""Train or validate a refinement network: ``python train.py --config ar34_cm.yaml --data.root DATA``."""

import sys

from alpharefine.cli.command import run_command
from alpharefine.cli.train import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command(main))
