"""Command that writes synthetic data sets.

``python -m alpharefine.synthetic ROOT`` writes ``ROOT/lasot``, ``got10k``, ``coco``, ``davis2016`` and ``ecssd``, each
in the layout of the real data set, and on request ``ROOT/photos`` and ``photos_train``.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from jsonargparse import auto_cli
from jsonargparse.typing import NonNegativeInt, PositiveInt

from alpharefine.cli.command import run_command
from alpharefine.cores import available_cores
from alpharefine.synthetic.layouts import (
    require_free,
    write_coco,
    write_got10k,
    write_lasot,
    write_mask_video,
    write_saliency,
)
from alpharefine.synthetic.scenes import FRAME_SIZE

_NUM_CORES = available_cores()


def write_all(
    root: Path,
    lasot_train: NonNegativeInt = 24,
    lasot_test: NonNegativeInt = 6,
    got10k: NonNegativeInt = 30,
    coco: NonNegativeInt = 100,
    coco_val: NonNegativeInt = 20,
    davis: NonNegativeInt = 6,
    ecssd: NonNegativeInt = 40,
    photos: NonNegativeInt = 0,
    frames: PositiveInt = 60,
    frame_size: tuple[int, int] = FRAME_SIZE,
    seed: NonNegativeInt = 0,
    num_workers: PositiveInt = _NUM_CORES,
) -> None:
    """Write synthetic data sets in the layouts of the real ones. A data set with a count of 0 is omitted.

    Args:
        root: Parent folder of the data sets.
        lasot_train: Number of LaSOT training sequences.
        lasot_test: Number of LaSOT test sequences.
        got10k: Number of GOT-10k training sequences.
        coco: Number of images in COCO train2017.
        coco_val: Number of images in COCO val2017.
        davis: Number of DAVIS 2016 sequences.
        ecssd: Number of ECSSD images.
        photos: Number of videos of objects cut out of photographs: test sequences in the layout of LaSOT, and as many
            training sequences in that of DAVIS 2016. All show the same three objects.
        frames: Number of frames per sequence.
        frame_size: Height and width in pixels, at least 48 each.
        seed: Random seed. The same seed produces the same files.
        num_workers: Number of worker processes.

    Raises:
        UserError: If an argument is out of range, the folder of a data set is not empty, or an image cannot be written.
    """
    video = {"num_frames": frames}
    jobs = {
        "lasot": (lasot_train + lasot_test, partial(write_lasot, num_train=lasot_train, num_test=lasot_test, **video)),
        "got10k": (got10k, partial(write_got10k, num_sequences=got10k, **video)),
        "coco": (coco + coco_val, partial(write_coco, num_train=coco, num_val=coco_val)),
        "davis2016": (davis, partial(write_mask_video, num_sequences=davis, **video)),
        "photos": (photos, partial(write_lasot, num_train=0, num_test=photos, look="photos", **video)),
        "photos_train": (photos, partial(write_mask_video, num_sequences=photos, look="photos", **video)),
        "ecssd": (ecssd, partial(write_saliency, num_images=ecssd)),
    }
    chosen = {name: write for name, (count, write) in jobs.items() if count}
    for name in chosen:
        require_free(root / name)
    for name, write in chosen.items():
        write(root / name, frame_size=frame_size, seed=seed, num_workers=num_workers, progress=True)


def main(args: list[str] | None = None) -> int:
    """Run the command.

    Args:
        args: Command line arguments. The default is ``sys.argv[1:]``.

    Returns:
        Exit code: 0 on success, 2 after a user error, which is printed on one line.
    """
    return run_command(lambda: auto_cli(write_all, args=args))


if __name__ == "__main__":
    sys.exit(main())
