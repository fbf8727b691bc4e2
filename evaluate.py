"""One-pass evaluation: ``python evaluate.py --ckpt last.ckpt --tracker nano --data_root LASOT --baseline``."""

import sys

from alpharefine.cli.command import run_command
from alpharefine.cli.evaluate import main

if __name__ == "__main__":
    sys.path.append("")  # folder of `--tracker package.module:Class`
    sys.exit(run_command(main))
