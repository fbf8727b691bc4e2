"""Frames a second of `DetectionsRefiner` for 1, 10 and 50 objects: ``python benchmarks/detections.py``.

Generated video of 1280 x 720 pixels; a rough box of every object in every frame, with normal noise of 8 % of its sides;
shipped weights. The first frame, in which templates are taken, counts by itself. Medians over the other frames.
Processor time hardly depends on other programs that share the cores. Runs on the graphics card where there is one.
"""

from __future__ import annotations

import resource
from time import perf_counter, process_time

import numpy as np
import supervision as sv
import torch

from alpharefine import Refiner
from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.integrations.supervision import DetectionsRefiner
from alpharefine.synthetic import SyntheticCrowd, generate_crowd

FRAME_SIZE = (720, 1280)
FRAMES, NOISE = 6, 0.08


def main() -> None:
    """Measure and print."""
    refiner = Refiner.from_checkpoint("ar18_cm")
    print(f"on {refiner.backend.device}, {torch.get_num_threads()} threads")
    for num_objects in (1, 10, 50):
        crowd = generate_crowd(0, num_objects, FRAMES, FRAME_SIZE)
        noise = np.random.default_rng(0).normal(0, NOISE, crowd.boxes_xywh.shape)
        rough_xyxy = xywh_to_xyxy(crowd.boxes_xywh + noise * crowd.boxes_xywh[..., [2, 3, 2, 3]])
        for mask in (False, True):
            times_s, xyxy = measure(DetectionsRefiner(refiner, mask=mask, channels="rgb"), crowd, rough_xyxy)
            elapsed_s, processor_s = np.median(times_s[1:], axis=0)
            rough_iou, iou = (mean_iou(boxes_xyxy, crowd) for boxes_xyxy in (rough_xyxy, xyxy))
            print(
                f"{num_objects:2} objects, {'box + mask' if mask else 'box':10}: {1 / elapsed_s:6.2f} frames a second, "
                f"{1 / processor_s:6.2f} a second of processor time; first frame {times_s[0, 0]:.2f} s, "
                f"{times_s[0, 1]:.2f} s of processor time; IoU {rough_iou:.3f}, refined {iou:.3f}; "
                f"peak so far {peak_mib():.0f} MiB",
                flush=True,
            )


def measure(refiner: DetectionsRefiner, crowd: SyntheticCrowd, rough_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def peak_mib() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
