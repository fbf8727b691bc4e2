"""Errors of a base tracker's boxes on training videos: ``python benchmarks/tracker_errors.py DATA BACKBONE HEAD``.

Runs NanoTrack over the data sets that `alpharefine.data.pair_recipe.BoxJitter` was chosen by. Prints the standard
deviations of the shift of the center over the side, of the log of both sides' factor and of half the log of the aspect
ratio's factor, and the correlation of the sizes of the first two.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.data.got10k import GOT10k
from alpharefine.data.images import read_image
from alpharefine.data.lasot import LaSOT
from alpharefine.data.mask_video import MaskVideo
from alpharefine.data.reader import Reader, SequenceRecord
from alpharefine.trackers.nano import NanoTracker

MAX_FRAMES = 40
FOUND_IOU = 0.3
LOST_IOU = 0.15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="Folder of the data sets.")
    parser.add_argument("backbone", help="Backbone of NanoTrack, an ONNX file.")
    parser.add_argument("head", help="Head of NanoTrack, an ONNX file.")
    options = parser.parse_args()
    root, backbone, head = options.data, options.backbone, options.head
    readers: dict[str, Reader] = {
        "davis_more": MaskVideo(root / "davis_more"),
        "got10k_more": GOT10k(root / "got10k_more"),
        "lasot": LaSOT(root / "lasot", "train"),
    }
    for name, reader in readers.items():
        rows = np.concatenate([errors(reader, record, backbone, head) for record in reader.records()])
        ious, shifts, logs = rows[:, 0], rows[:, 1:3], rows[:, 3:]
        found = ious > FOUND_IOU
        scale, aspect = logs[found].mean(1), (logs[found, 0] - logs[found, 1]) / 2
        together = np.corrcoef(np.abs(shifts[found, 0]), np.abs(scale))[0, 1]
        print(
            f"{name}: {len(rows)} frames, {100 * (1 - found.mean()):.0f} % lost, IoU {ious[found].mean():.3f}, "
            f"center {shifts[found].std(0).round(3)}, scale {scale.std():.3f}, aspect {aspect.std():.3f}, "
            f"correlation {together:.2f}"
        )


def errors(reader: Reader, record: SequenceRecord, backbone: str, head: str) -> np.ndarray:
    """Track one target; the tracker starts anew from the true box where it is lost.

    Args:
        reader: The data set.
        record: The target.
        backbone: Path of the tracker's backbone.
        head: Path of the tracker's head.

    Returns:
        ``(N, 5)``: IoU, shift of the center over the side in x and y, log of the factor of width and height.
    """
    frames = np.flatnonzero(record.visible)[:MAX_FRAMES]
    tracker = NanoTracker(cv2.dnn.readNetFromONNX(backbone), cv2.dnn.readNetFromONNX(head))
    rows = np.empty((max(len(frames) - 1, 0), 5))
    for row, frame in enumerate(frames, start=-1):
        image = read_image(reader.frame_path(record.name, record.frame_names[frame]))
        true_xywh = record.boxes_xywh[frame]
        if row < 0:
            tracker.initialize(image, true_xywh)
            continue
        box_xywh = tracker.track(image).box_xywh
        both_xyxy = torch.from_numpy(xywh_to_xyxy(np.stack([box_xywh, true_xywh])))
        rows[row, 0] = paired_iou(both_xyxy[0], both_xyxy[1])
        rows[row, 1:3] = (box_xywh[:2] + box_xywh[2:] / 2 - true_xywh[:2] - true_xywh[2:] / 2) / box_xywh[2:]
        rows[row, 3:] = np.log(box_xywh[2:] / true_xywh[2:])
        if rows[row, 0] < LOST_IOU:
            tracker.set_box(true_xywh)
    return rows


if __name__ == "__main__":
    main()
