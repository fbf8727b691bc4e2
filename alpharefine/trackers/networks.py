"""Trackers whose networks are ONNX files, run by `cv2.dnn` on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from alpharefine.errors import UserError
from alpharefine.trackers.base import Tracker, TrackerSource


def network_source(
    name: str, tracker_class: Callable[..., Tracker], roles: Sequence[str], weights: Sequence[Path]
) -> TrackerSource:
    """Read the networks of a tracker and try them once, so that a wrong file shows before any sequence is run.

    Files are read once. Each sequence gets its own networks, parsed from memory, for they hold the target's template.

    Args:
        name: of the tracker.
        tracker_class: takes one `cv2.dnn.Net` for each role.
        roles: what each file is, in the order of the files.
        weights: one ONNX file for each role.

    Raises:
        UserError: if a file is missing or unreadable, or the number, the order or the kind of the files is wrong.
    """
    if len(weights) != len(roles):
        given = ", ".join(str(path) for path in weights) or "none"
        raise UserError(
            f"--tracker {name} needs {len(roles)} ONNX file(s), got {len(weights)} ({given}); "
            f"pass --tracker_weights {','.join(f'{role}.onnx' for role in roles)}, in this order."
        )
    files = [_read_onnx(path) for path in weights]

    def open_tracker(*_: object) -> Tracker:
        return tracker_class(*(cv2.dnn.readNetFromONNX(file) for file in files))

    try:
        _try_out(open_tracker())
    except (cv2.error, ValueError, IndexError) as error:
        given = ", ".join(str(path) for path in weights)
        raise UserError(
            f"--tracker_weights: {given} cannot be run as the networks of --tracker {name}, which are, in this order: "
            f"{', '.join(roles)}. Check the files and their order. The first run said: {' '.join(str(error).split())}"
        ) from error
    return TrackerSource(name, accepts_feedback=True, needs_frames=True, gives_score=True, open=open_tracker)


def _read_onnx(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"--tracker_weights: {path} is not a file; give the path of an ONNX file.")
    file = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    try:
        network = cv2.dnn.readNetFromONNX(file)
    except cv2.error as error:
        raise UserError(
            f"--tracker_weights: {path} cannot be read as an ONNX network: {' '.join(str(error).split())}"
        ) from error
    if network.empty():
        raise UserError(f"--tracker_weights: {path} holds no network; give an ONNX file.")
    return file


def _try_out(tracker: Tracker) -> None:
    frame = np.full((128, 128, 3), 127, dtype=np.uint8)
    tracker.initialize(frame, np.array([48.0, 48.0, 32.0, 32.0]))
    tracker.track(frame)
