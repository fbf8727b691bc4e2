"""Videos of evaluated sequences with the ground truth, the boxes of all runs and saved masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.evaluation.config import VideoRank
from alpharefine.evaluation.metrics_file import Metrics, TrackerMetrics
from alpharefine.evaluation.tracker_scores import SequenceBoxes, TrackerBoxes
from alpharefine.report.scores import gains_of, has_gain, main_scores
from alpharefine.report.series import draw_frame
from alpharefine.video.drawing import BASE, REFINED, TRUTH, draw_legend
from alpharefine.video.frames import DEFAULT_RATE
from alpharefine.video.writer import VideoWriter

VIDEO_FOLDER = "videos"
"""Name of the folder of the videos in a results folder."""

_WIDTHS = (640, 1280)
"""Least and largest width of a video in pixels; others are enlarged or reduced, so that lines are seen."""


def write_videos(
    metrics: Metrics, boxes: Mapping[str, TrackerBoxes], output_dir: Path, chosen: Sequence[VideoRank | str]
) -> list[Path]:
    """Write videos of sequences, for each tracker, as ``<output_dir>/videos/<tracker>/<sequence>.mp4``.

    A sequence without a result of a tracker has no video of it.

    Args:
        metrics: Scores of the results.
        boxes: Boxes by tracker.
        output_dir: Results folder.
        chosen: Names of sequences, ``best`` and ``worst``: the sequence with the highest and the lowest gain, or score
            if the tracker has one run.

    Returns:
        Paths of the videos.

    Raises:
        UserError: If a frame or mask cannot be read, or a video cannot be written.
    """
    paths = []
    for tracker, sequences in boxes.items():
        names = _chosen_names(metrics.trackers[tracker], chosen)
        for name in (name for name in sequences if name in names):
            paths.append(output_dir / VIDEO_FOLDER / tracker / f"{name}.mp4")
            _write_video(sequences[name], paths[-1])
    return paths


def _chosen_names(tracker: TrackerMetrics, chosen: Sequence[VideoRank | str]) -> set[str]:
    """Return the names of the sequences, the ranks resolved."""
    scores = next(iter(tracker.scores.values()), None)
    if scores is None:
        return set(chosen)
    by_run = {run: main_scores(each) for run, each in tracker.scores.items()}
    values = gains_of(by_run) if has_gain(by_run) else main_scores(scores)
    ranks = {"best": max(values, key=values.__getitem__), "worst": min(values, key=values.__getitem__)}
    return {ranks.get(name, name) for name in chosen}


def _write_video(boxes: SequenceBoxes, path: Path) -> None:
    """Write the video of one sequence. After an error there is none."""
    assert boxes.sequence.frame_paths is not None
    first_width = read_image(boxes.sequence.frame_paths[0]).shape[1]
    width = int(np.clip(first_width, *_WIDTHS))
    runs = (("base", BASE), ("refined", REFINED))
    styles = [TRUTH, *(style for run, style in runs if run in boxes.boxes_xywh)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be created ({error.strerror}); remove what is in its place.") from error
    try:
        with VideoWriter(path) as writer:
            for index in tqdm(range(len(boxes.sequence)), desc=f"video of {boxes.sequence.name}", unit=" frames"):
                picture = draw_frame(boxes, index, width)
                draw_legend(picture, styles, has_mask=boxes.mask_folder is not None)
                writer.write(picture, index / DEFAULT_RATE)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
