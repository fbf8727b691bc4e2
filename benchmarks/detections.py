"""Frames per second of `DetectionsRefiner` for 1, 10 and 50 objects, on the GPU if there is one.

Generated video of 1280 x 720 pixels; a rough box of every object in every frame, with normal noise of 8 % of its sides;
shipped weights. Medians over all frames but the first, in which the templates are taken. Processor time hardly depends
on other programs that share the cores.
"""

from __future__ import annotations

from time import perf_counter, process_time

import numpy as np
import supervision as sv
import torch

from alpharefine import Refiner
from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.integrations.supervision import DetectionsRefiner
from alpharefine.synthetic import SyntheticCrowd, generate_crowd
from benchmarks.rows import Row

FRAME_SIZE = (720, 1280)
FRAMES, NOISE = 6, 0.08


def measure(quick: bool) -> list[Row]:
    """Measure boxes, and boxes with masks.

    Args:
        quick: Measure one object only.
    """
    refiner = Refiner.from_checkpoint("ar18_cm")
    rows = []
    for num_objects in (1,) if quick else (1, 10, 50):
        crowd = generate_crowd(0, num_objects, FRAMES, FRAME_SIZE)
        noise = np.random.default_rng(0).normal(0, NOISE, crowd.boxes_xywh.shape)
        rough_xyxy = xywh_to_xyxy(crowd.boxes_xywh + noise * crowd.boxes_xywh[..., [2, 3, 2, 3]])
        for mask in (False, True):
            times_s, xyxy = refine(DetectionsRefiner(refiner, mask=mask, channels="rgb"), crowd, rough_xyxy)
            elapsed_s, processor_s = np.median(times_s[1:], axis=0)
            rough_iou, iou = (mean_iou(boxes_xyxy, crowd) for boxes_xyxy in (rough_xyxy, xyxy))
            output = "box + mask" if mask else "box"
            what = f"detections, {num_objects} objects, {output}, on {torch.device(refiner.backend.device).type}"
            rows.append(Row(what, "frames/s", 1 / elapsed_s, None, f"IoU {rough_iou:.3f}, refined {iou:.3f}"))
            rows.append(Row(f"{what}, a second of processor time", "frames/s", 1 / processor_s))
    return rows


def refine(refiner: DetectionsRefiner, crowd: SyntheticCrowd, rough_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Refine all frames. Return seconds and seconds of processor time, ``(N, 2)``, and boxes, ``(N, K, 4)``."""
    times_s, boxes_xyxy = [], []
    for frame, xyxy in zip(crowd.frames, rough_xyxy, strict=True):
        detections = sv.Detections(xyxy, tracker_id=np.arange(len(xyxy)))
        start = np.array([perf_counter(), process_time()])
        boxes_xyxy.append(refiner.update(frame, detections).xyxy)
        times_s.append(np.array([perf_counter(), process_time()]) - start)
    return np.stack(times_s), np.stack(boxes_xyxy)


def mean_iou(boxes_xyxy: np.ndarray, crowd: SyntheticCrowd) -> float:
    """Return the mean overlap of boxes, ``(N, K, 4)``, with the true ones."""
    return paired_iou(torch.tensor(boxes_xyxy), torch.tensor(xywh_to_xyxy(crowd.boxes_xywh))).mean().item()
