"""Command that writes generated data sets.

``python -m alpharefine.synthetic ROOT`` writes ``ROOT/lasot``, ``got10k``, ``coco``, ``davis2016`` and ``ecssd``,
each in the layout of the real data set.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from jsonargparse import auto_cli
from jsonargparse.typing import NonNegativeInt, PositiveInt

from alpharefine.cli.command import run_command
from alpharefine.synthetic.layouts import (
    require_free,
    write_coco,
    write_got10k,
    write_lasot,
    write_mask_video,
    write_saliency,
)
from alpharefine.synthetic.scenes import FRAME_SIZE

_NUM_CORES = os.cpu_count() or 1


def write_all(
    root: Path,
    lasot_train: NonNegativeInt = 24,
    lasot_test: NonNegativeInt = 6,
    got10k: NonNegativeInt = 30,
    coco: NonNegativeInt = 100,
    coco_val: NonNegativeInt = 20,
    davis: NonNegativeInt = 6,
    ecssd: NonNegativeInt = 40,
    frames: PositiveInt = 60,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: NonNegativeInt = 0,
    num_workers: PositiveInt = _NUM_CORES,
) -> None:
    """Write synthetic data sets in the layouts of the real ones; those of which nothing is asked for are left out.

    Args:
        root: folder that gets a folder for each data set.
        lasot_train: sequences of LaSOT's training set.
        lasot_test: sequences of LaSOT's testing set.
        got10k: sequences of GOT-10k's training set.
        coco: pictures of COCO's train2017.
        coco_val: pictures of COCO's val2017.
        davis: sequences of DAVIS 2016.
        ecssd: pictures of ECSSD.
        frames: length of every sequence.
        frame_size: height and width in pixels, at least 48 each.
        seed: the same seed gives the same files.
        num_workers: processes that write.

    Raises:
        UserError: if an argument is out of range, a data set's folder is not empty, or a picture cannot be written.
    """
    video = {"num_frames": frames}
    jobs = {
        "lasot": (lasot_train + lasot_test, partial(write_lasot, num_train=lasot_train, num_test=lasot_test, **video)),
        "got10k": (got10k, partial(write_got10k, num_sequences=got10k, **video)),
        "coco": (coco + coco_val, partial(write_coco, num_train=coco, num_val=coco_val)),
        "davis2016": (davis, partial(write_mask_video, num_sequences=davis, **video)),
        "ecssd": (ecssd, partial(write_saliency, num_pictures=ecssd)),
    }
    chosen = {name: write for name, (count, write) in jobs.items() if count}
    for name in chosen:
        require_free(root / name)
    for name, write in chosen.items():
        write(root / name, frame_size=frame_size, seed=seed, num_workers=num_workers, progress=True)


def main(args: list[str] | None = None) -> int:
    """Run the command.

    Args:
        args: in place of the words of the command line.

    Returns:
        The exit code: 0, or 2 after a user's mistake, which is told in one line.
    """
    return run_command(lambda: auto_cli(write_all, args=args))


if __name__ == "__main__":
    sys.exit(main())
