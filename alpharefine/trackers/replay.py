"""Replay: the published boxes of a tracker as if it ran; `alpharefine.evaluation.replay` does the same in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alpharefine.errors import UserError
from alpharefine.trackers.base import Track, Tracker, TrackerSource, TrackState
from alpharefine.trackers.result_files import results_of_one


class ReplayTracker:
    """Returns recorded boxes one after the other. The first row belongs to the frame of `initialize`.

    Args:
        boxes_xywh: ``(N, 4)`` in image pixels, handed on as they are.

    Attributes:
        first_xywh: ``(4,)``, the box recorded for the first frame; some published files have another than the truth's.
    """

    def __init__(self, boxes_xywh: np.ndarray) -> None:
        self._boxes_xywh = boxes_xywh
        self.first_xywh = boxes_xywh[0]

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:  # noqa: ARG002 - the protocol's
        """Go back to the first frame."""
        self._index = 0

    def track(self, frame: np.ndarray) -> Track:  # noqa: ARG002 - the protocol's
        """The recorded box of the next frame."""
        self._index += 1
        return Track(self._boxes_xywh[self._index].copy(), float("nan"), TrackState.NORMAL)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Nothing changes: what comes next is recorded."""


def replay_source(results_dir: Path) -> TrackerSource:
    """Read the boxes of each sequence from ``<results_dir>/<sequence>.txt``, or ``.txt.gz``.

    Raises:
        UserError: if the folder is missing; on opening, if a file is missing, malformed or shorter than the sequence.
    """
    if not results_dir.is_dir():
        raise UserError(f"--results_dir {results_dir} is not a folder; --tracker replay reads <sequence>.txt from it.")

    def open_tracker(sequence_name: str, boxes_xywh: np.ndarray) -> Tracker:
        results = results_of_one(results_dir, [sequence_name])
        if results is None:
            raise UserError(
                f"--results_dir {results_dir} has no {sequence_name}.txt; --tracker replay needs a file for each "
                "sequence."
            )
        return ReplayTracker(results.boxes_xywh(sequence_name, boxes_xywh[0], len(boxes_xywh)))

    return TrackerSource("replay", accepts_feedback=False, needs_frames=False, gives_score=False, open=open_tracker)
