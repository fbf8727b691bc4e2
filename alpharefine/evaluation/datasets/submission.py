"""Submission archives for evaluation servers: checked for completeness, written whole or not at all."""

from __future__ import annotations

import logging
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationDataset

_LOGGER = logging.getLogger(__name__)


def require_complete(
    dataset: EvaluationDataset, boxes_xywh: Mapping[str, np.ndarray], num_official: int
) -> dict[str, np.ndarray]:
    """Return the boxes of every sequence of the split, in its order.

    A warning is logged if the data root has fewer sequences than the official split.

    Args:
        dataset: Data set whose server scores the boxes.
        boxes_xywh: ``(N, 4)`` boxes by name of the sequence.
        num_official: Number of sequences of the official split.

    Raises:
        UserError: If a sequence is missing, or boxes are not finite or differ in number from the frames.
    """
    names = dataset.official_names()
    missing = [name for name in names if name not in boxes_xywh]
    if missing:
        listed = ", ".join(missing[:5]) + (" and others" if len(missing) > 5 else "")
        raise UserError(
            f"A submission needs the boxes of all {len(names)} sequences of the split, {len(missing)} are missing "
            f"({listed}); run the tracker on the whole split."
        )
    for name in names:
        _require_box_a_frame(name, boxes_xywh[name], len(dataset.load(name)))
    if len(names) != num_official:
        _LOGGER.warning(
            "The server expects %d sequences and this archive holds the %d of the data root: it is incomplete.",
            *(num_official, len(names)),
        )
    return {name: boxes_xywh[name] for name in names}


def _require_box_a_frame(name: str, boxes_xywh: np.ndarray, num_frames: int) -> None:
    if boxes_xywh.shape != (num_frames, 4):
        raise UserError(
            f"Sequence {name}: a submission needs one box for each of the {num_frames} frames, got an array of shape "
            f"{boxes_xywh.shape}; run the tracker on this sequence again."
        )
    if not np.isfinite(boxes_xywh).all():
        row = int((~np.isfinite(boxes_xywh)).any(1).argmax())
        raise UserError(f"Sequence {name}, row {row + 1}: a box must be finite, got {boxes_xywh[row].tolist()}.")


def rows_text(rows: np.ndarray, decimals: int) -> str:
    r"""Return numbers as text, one line a row, separated by commas.

    Args:
        rows: ``(N, C)`` numbers.
        decimals: Number of decimals.

    >>> rows_text(np.array([[1, 2.5]]), 2)
    '1.00,2.50\n'
    """
    return "".join(",".join(f"{value:.{decimals}f}" for value in row) + "\n" for row in rows)


def write_archive(path: Path, files: Sequence[tuple[str, str]]) -> None:
    """Write a zip archive under its name once it is complete.

    Args:
        path: Path of the archive.
        files: Name and text of each file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files:
                archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        partial.replace(path)
