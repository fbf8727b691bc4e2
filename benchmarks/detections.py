"""Frames a second of `DetectionsRefiner` for 1, 10 and 50 objects: ``python benchmarks/detections.py``.

Generated video of 1280 x 720 pixels; tracked boxes in every frame; shipped weights. The first frame, in which templates
are taken, counts by itself. Medians over the other frames. Runs on the graphics card where there is one.
"""

from __future__ import annotations

import resource
import statistics
from time import perf_counter

import numpy as np
import supervision as sv
import torch

from alpharefine import Refiner
from alpharefine.boxes import xywh_to_xyxy
from alpharefine.integrations.supervision import DetectionsRefiner
from alpharefine.synthetic import generate_crowd

FRAME_SIZE = (720, 1280)
FRAMES = 12


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
                start = perf_counter()
                each.update(frame, detections)
                times_s.append(perf_counter() - start)
            median_s = statistics.median(times_s[1:])
            output = "box + mask" if mask else "box"
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{num_objects:3} objects, {output:10}: {1 / median_s:7.2f} frames a second, "
                f"{num_objects / median_s:6.1f} objects a second, first frame {times_s[0]:.2f} s, "
                f"peak memory so far {peak_mib:.0f} MiB"
            )


if __name__ == "__main__":
    main()
