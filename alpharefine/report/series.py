"""Overlap of every frame, and frames with boxes and masks, for the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from alpharefine.boxes import is_valid, xywh_to_xyxy
from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.results import read_result, run_folders
from alpharefine.video.drawing import BASE, REFINED, TRUTH, draw_box, draw_mask

_LINE_WIDTH = 2
_STYLES = {"base": BASE, "refined": REFINED}


class SequenceBoxes(NamedTuple):
    """Boxes of one tracker in one sequence of N frames.

    Attributes:
        sequence: Sequence with its ground truth.
        boxes_xywh: Boxes by run, ``(N, 4)``.
        mask_folder: Folder of saved masks. None if there is none.
    """

    sequence: EvaluationSequence
    boxes_xywh: Mapping[str, np.ndarray]
    mask_folder: Path | None


@dataclass(frozen=True)
class TrackerBoxes:
    """Boxes of one tracker.

    Attributes:
        name: Name of the tracker.
        sequences: Boxes by name of the sequence.
    """

    name: str
    sequences: Mapping[str, SequenceBoxes]


def read_boxes(
    output_dir: Path, tracker: str, runs: Collection[str], sequences: list[EvaluationSequence]
) -> TrackerBoxes:
    """Read the boxes of a tracker. Sequences whose files cannot be read are left out.

    Args:
        output_dir: Results folder.
        tracker: Name of the tracker.
        runs: Names of the runs. The folder may hold another one, of an earlier command.
        sequences: Sequences with their ground truth.
    """
    folders = {run: folder for run, folder in run_folders(output_dir)[tracker].items() if run in runs}
    found = {}
    for sequence in sequences:
        try:
            boxes_xywh = {
                run: read_result(folder, sequence.name, sequence.truth.boxes_xywh).boxes_xywh
                for run, folder in folders.items()
            }
        except UserError:  # it has no score either, and is listed among the failures
            continue
        masks = folders["refined"] / "masks" / sequence.name if "refined" in folders else None
        found[sequence.name] = SequenceBoxes(sequence, boxes_xywh, masks if masks and masks.is_dir() else None)
    return TrackerBoxes(tracker, found)


def frame_overlaps(boxes_xywh: np.ndarray, sequence: EvaluationSequence) -> np.ndarray:
    """Compute the intersection over union with the ground truth in every frame.

    Args:
        boxes_xywh: ``(N, 4)`` boxes.
        sequence: Sequence with the ground truth of N frames.

    Returns:
        ``(N,)`` in 0..1; NaN in frames without a target. A box that is not finite or not positive has 0.
    """
    truth_xywh = sequence.truth.boxes_xywh
    (boxes, truth) = (xywh_to_xyxy(each[: len(truth_xywh)]) for each in (boxes_xywh, truth_xywh))
    with np.errstate(invalid="ignore", divide="ignore"):
        sides = np.minimum(boxes[:, 2:], truth[:, 2:]) - np.maximum(boxes[:, :2], truth[:, :2])
        common = sides.clip(min=0).prod(1)
        areas = [each[: len(truth_xywh), 2:].prod(1) for each in (boxes_xywh, truth_xywh)]
        overlaps = common / (areas[0] + areas[1] - common)
    overlaps[~is_valid(boxes_xywh[: len(truth_xywh)])] = 0
    overlaps[sequence.truth.absent | ~is_valid(truth_xywh)] = np.nan
    return np.asarray(overlaps)


def shown_frames(num_frames: int, most: int) -> list[int]:
    """Return the indices of at most `most` frames, evenly spaced, with the first and the last.

    Args:
        num_frames: Number of frames.
        most: Largest number of indices.

    >>> shown_frames(10, 4)
    [0, 3, 6, 9]
    """
    return sorted(set(np.linspace(0, num_frames - 1, min(most, num_frames)).round().astype(int).tolist()))


def draw_frame(boxes: SequenceBoxes, index: int, width: int) -> np.ndarray:
    """Draw a frame with the ground truth, the boxes of all runs and the mask.

    Args:
        boxes: Boxes of one sequence, whose frames are available.
        index: Index of the frame.
        width: Width of the picture in pixels. A narrower frame is enlarged.

    Returns:
        ``(h, width, 3)`` RGB uint8.

    Raises:
        UserError: If the frame cannot be read.
    """
    assert boxes.sequence.frame_paths is not None
    frame = read_image(boxes.sequence.frame_paths[index])
    scale = width / frame.shape[1]
    size = (width, max(1, round(frame.shape[0] * scale)))
    picture = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if boxes.mask_folder is not None and index > 0:
        mask = read_image(boxes.mask_folder / f"{index + 1:08d}.png")[..., 0]
        draw_mask(picture, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0)
    truth = boxes.sequence.truth
    if not truth.absent[index]:
        draw_box(picture, truth.boxes_xywh[index] * scale, TRUTH, _LINE_WIDTH)
    for run in ("refined", "base"):
        if run in boxes.boxes_xywh:
            draw_box(picture, boxes.boxes_xywh[run][index] * scale, _STYLES[run], _LINE_WIDTH)
    return np.asarray(picture)
