"""Frames a second of `DetectionsRefiner` for 1, 10 and 50 objects: ``python benchmarks/detections.py``.

Generated video of 1280 x 720 pixels; tracked boxes in every frame; shipped weights. The first frame, in which templates
are taken, counts by itself. Medians over the other frames. Processor time does not depend on other programs that share
the cores. Runs on the graphics card where there is one.
"""

from __future__ import annotations

import resource
from time import perf_counter, process_time

import numpy as np
import supervision as sv
import torch

from alpharefine import Refiner
from alpharefine.boxes import xywh_to_xyxy
from alpharefine.integrations.supervision import DetectionsRefiner
from alpharefine.synthetic import generate_crowd

FRAME_SIZE = (720, 1280)
FRAMES = 6


def main() -> None:
    """Measure and print."""
    refiner = Refiner.from_checkpoint("ar18_cm")
    print(f"on {refiner.backend.device}, {torch.get_num_threads()} threads")
    for num_objects in (1, 10, 50):
        crowd = generate_crowd(0, num_objects, FRAMES, FRAME_SIZE)
        for mask in (False, True):
            each = DetectionsRefiner(refiner, mask=mask, channels="rgb")
            times_s = []
            for frame, boxes_xywh in zip(crowd.frames, crowd.boxes_xywh, strict=True):
                detections = sv.Detections(xywh_to_xyxy(boxes_xywh), tracker_id=np.arange(num_objects))
                start = np.array([perf_counter(), process_time()])
                each.update(frame, detections)
                times_s.append([perf_counter(), process_time()] - start)
            elapsed_s, processor_s = np.median(times_s[1:], axis=0)
            print(
                f"{num_objects:3} objects, {'box + mask' if mask else 'box':10}: {1 / elapsed_s:6.2f} frames a second, "
                f"{1 / processor_s:6.2f} a second of processor time; first frame {times_s[0][0]:.2f} s, "
                f"{times_s[0][1]:.2f} s of processor time; peak so far {peak_mib():.0f} MiB"
            )


def peak_mib() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
