"""Masks and tighter boxes for all objects of a detector.

``python examples/refine_detections.py`` writes a short video of five objects with the rough boxes of a detector, tracks
the boxes with ByteTrack, refines them, and draws rough boxes, refined boxes and masks.
``python examples/refine_detections.py clip.mp4 --boxes det.txt`` does so with a video and boxes of your own.

Requires ``pip install "alpharefine[supervision]"``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker, load_mot_file

from alpharefine import Refiner
from alpharefine.cli.command import UserErrorParser, run_command
from alpharefine.errors import UserError
from alpharefine.integrations.supervision import DetectionsRefiner
from alpharefine.synthetic import generate_crowd
from alpharefine.video.frames import DEFAULT_RATE, open_source
from alpharefine.video.writer import VideoWriter


def main(args: Sequence[str] | None = None) -> None:
    """Refine the detections of a video.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        UserError: If a file cannot be read or written.
    """
    options = parse(args)
    boxes_file = options.boxes
    written = [options.output]
    if options.video is None:
        options.video, boxes_file = str(options.output.with_stem("crowd")), options.output.with_name("crowd.txt")
        written += [Path(options.video), boxes_file]
    for path in written:
        if path.exists():
            raise UserError(f"`--output`: {path} exists, and is not overwritten; give another name.")
    if options.boxes is None:
        write_crowd(Path(options.video), boxes_file)
    detections_of, has_ids = read_detections(boxes_file)
    tracker = ByteTrackTracker()
    refiner = DetectionsRefiner(Refiner.from_checkpoint(options.ckpt, options.device), channels="rgb")
    num_objects, num_refined, num_frames, seconds = 0, 0, 0, 0.0
    with VideoWriter(options.output) as writer, closing(open_source(options.video).frames()) as frames:
        for num_frames, frame in enumerate(frames, start=1):
            detections = detections_of.get(num_frames, sv.Detections.empty())
            if not has_ids:
                detections = tracker.update(detections)
            start = perf_counter()
            refined = refiner.update(frame.pixels, detections)
            seconds += perf_counter() - start
            num_objects += len(refined)
            num_refined += int(np.count_nonzero(refined.data["refined"]))
            writer.write(draw(frame.pixels, detections, refined), frame.time_s)
    if max(detections_of, default=0) > num_frames:
        raise UserError(
            f"`--boxes {boxes_file}` has frame {max(detections_of)}, the video has {num_frames} frames; give its boxes."
        )
    sys.stdout.write(
        f"{options.output}: {num_refined} of {num_objects} boxes in {num_frames} frames refined, "
        f"{num_frames / seconds:.1f} frames a second\n"
    )


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    """Return the options.

    Args:
        args: Arguments; those of the process by default.
    """
    parser = UserErrorParser(description="Refine the boxes of a detector, and predict masks.")
    parser.add_argument("video", nargs="?", help="video file or folder of images (default: a generated video)")
    parser.add_argument(
        "--boxes",
        type=Path,
        help="boxes of a detector or tracker in the format of MOTChallenge: frame,id,x,y,width,height,confidence; "
        "frames from 1; the id is -1 for boxes without track, which ByteTrack then tracks",
    )
    parser.add_argument("--ckpt", default="ar18_cm", help="checkpoint, or name of shipped weights")
    parser.add_argument("--device", default="auto", help="torch device (default: the GPU if there is one)")
    parser.add_argument(
        "--output", type=Path, default=Path("refined.mp4"), help="video to write (default: %(default)s)"
    )
    options = parser.parse_args(args)
    if (options.video is None) != (options.boxes is None):
        raise UserError("A video needs `--boxes`, and `--boxes` a video; give both, or none of them.")
    return options


def write_crowd(video: Path, boxes: Path) -> None:
    """Write a generated video, and boxes as a detector gives them: rough, without ids, one in twenty missing.

    Args:
        video: Path of the video.
        boxes: Path of the boxes.
    """
    crowd, rng = generate_crowd(seed=0, num_objects=5, num_frames=90, frame_size=(480, 640)), np.random.default_rng(0)
    with VideoWriter(video) as writer:
        for index, pixels in enumerate(crowd.frames):
            writer.write(pixels, index / DEFAULT_RATE)
    sides = crowd.boxes_xywh[..., [2, 3, 2, 3]]
    rough_xywh = crowd.boxes_xywh + rng.normal(0, 0.06, sides.shape) * sides
    rows = [
        f"{index + 1},-1,{','.join(f'{value:.2f}' for value in box_xywh)},0.9\n"
        for index, boxes_xywh in enumerate(rough_xywh)
        for box_xywh in boxes_xywh
        if rng.random() > 0.05
    ]
    boxes.write_text("".join(rows))


def read_detections(path: Path) -> tuple[dict[int, sv.Detections], bool]:
    """Return the detections of each frame by its number, and True if they have ids.

    Args:
        path: Path of a file in the format of MOTChallenge.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        frames = load_mot_file(path)
    except (OSError, ValueError) as error:
        raise UserError(f"`--boxes {path}`: {error}; correct it.") from error
    if min(frames, default=1) < 1:
        raise UserError(f"`--boxes {path}`: frame {min(frames)}; the frames are counted from 1, correct them.")
    detections = {
        number: sv.Detections(
            xyxy=sv.xywh_to_xyxy(rows.boxes).astype(np.float32),
            confidence=rows.confidences.astype(np.float32),
            class_id=rows.classes.astype(int),
            tracker_id=rows.ids.astype(int),
        )
        for number, rows in frames.items()
    }
    return detections, all((rows.ids >= 0).all() for rows in frames.values())


def draw(frame: np.ndarray, rough: sv.Detections, refined: sv.Detections) -> np.ndarray:
    """Return a copy of a frame with masks and refined boxes in a color a track, and rough boxes in white.

    Args:
        frame: Frame, ``(H, W, 3)`` uint8.
        rough: Detections with ids.
        refined: Refined detections.
    """
    picture = sv.MaskAnnotator(color_lookup=sv.ColorLookup.TRACK).annotate(frame.copy(), refined)
    picture = sv.BoxAnnotator(color=sv.Color.WHITE, thickness=1).annotate(picture, rough)
    return np.asarray(sv.BoxAnnotator(color_lookup=sv.ColorLookup.TRACK).annotate(picture, refined))


if __name__ == "__main__":
    sys.exit(run_command(main))
