"""Masks of a sequence in progress, as files."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from pathlib import Path

import cv2
import numpy as np

from alpharefine.errors import SequenceError

_PREFIX = ".masks-"
_DAY_S = 86_400


class MaskFiles:
    """Masks of one sequence, written one by one into a hidden folder, which gets its name when the sequence is done.

    A mask is a black-and-white PNG image in which the target is white, named by the number of its frame from 1.

    Args:
        parent: Folder of the hidden folder, on the disk of the results.
        threshold: Probability above which a pixel belongs to the target.

    Attributes:
        folder: Hidden folder. It is created with the first mask.
    """

    def __init__(self, parent: Path, threshold: float) -> None:
        self._threshold = threshold
        self.folder = parent / f"{_PREFIX}{uuid.uuid4().hex}"

    def write(self, frame_index: int, mask: np.ndarray | None, image_size: tuple[int, int]) -> None:
        """Write the mask of a frame.

        Args:
            frame_index: Index of the frame, from 0.
            mask: Probability map, ``(H, W)``. None is an empty mask.
            image_size: Height and width in pixels.

        Raises:
            SequenceError: If it cannot be written.
        """
        inside = np.zeros(image_size, bool) if mask is None else mask > self._threshold
        png = cv2.imencode(".png", inside.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{frame_index + 1:08d}.png").write_bytes(png)
        except OSError as error:
            raise SequenceError(
                f"{self.folder.parent}: masks cannot be written ({error.strerror}); free disk space, or give another "
                "`--output_dir`."
            ) from error

    def discard(self) -> None:
        """Remove the masks of a sequence that has failed."""
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_killed(parent: Path) -> None:
    """Remove the hidden folders of commands that were killed, which are those without a new mask for a day.

    Args:
        parent: Folder of the hidden folders.
    """
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # its command has just ended
            if time.time() - folder.stat().st_mtime > _DAY_S:
                shutil.rmtree(folder, ignore_errors=True)
