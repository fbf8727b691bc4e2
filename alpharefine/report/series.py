"""Overlap of every frame, and frames with boxes and masks, for the report."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from alpharefine.boxes import is_valid, paired_iou, xywh_to_xyxy
from alpharefine.data.images import read_image
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.tracker_scores import SequenceBoxes
from alpharefine.video.drawing import BASE, REFINED, TRUTH, draw_box, draw_mask

_LINE_WIDTH = 2
_STYLES = {"base": BASE, "refined": REFINED}


def frame_overlaps(boxes_xywh: np.ndarray, sequence: EvaluationSequence) -> np.ndarray:
    """Compute the intersection over union with the ground truth in every frame.

    Args:
        boxes_xywh: ``(N, 4)`` boxes.
        sequence: Sequence with the ground truth of N frames.

    Returns:
        ``(N,)`` in 0..1; NaN in frames without a target. A box that is not finite or not positive has 0.
    """
    truth_xywh = sequence.truth.boxes_xywh
    boxes_xywh = boxes_xywh[: len(truth_xywh)]
    boxes, truth = (torch.from_numpy(xywh_to_xyxy(each)) for each in (boxes_xywh, truth_xywh))
    overlaps = np.where(is_valid(boxes_xywh), paired_iou(boxes, truth).numpy(), 0.0)
    overlaps[sequence.truth.absent | ~is_valid(truth_xywh)] = np.nan
    return overlaps


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
