"""Loading of trackers whose networks are ONNX files, run by `cv2.dnn` on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from alpharefine.errors import UserError
from alpharefine.trackers.base import Tracker
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest
from alpharefine.trackers.onnx_weights import first_bad_tensor

_MAX_NAME = 100


def load_onnx(request: TrackerRequest, tracker_class: Callable[..., Tracker], roles: Sequence[str]) -> LoadedTracker:
    """Read the networks of a tracker and run them once, so that a wrong file is found before the first sequence.

    The files are read once. Each sequence gets networks of its own, because they hold the template of the target.

    Args:
        request: Request with one ONNX file for each role.
        tracker_class: Class of the tracker; its arguments are one `cv2.dnn.Net` for each role.
        roles: Roles of the files, in order.

    Raises:
        UserError: If a file is missing or unreadable, does not fit its role, or holds weights that are not finite.
    """
    files = [_read_onnx(path) for path in request.weights]

    def make(_: object = None) -> Tracker:
        return tracker_class(*(cv2.dnn.readNetFromONNX(file) for file in files))

    try:
        _try_out(make())
    except (cv2.error, ValueError, IndexError) as error:
        given = ", ".join(map(str, request.weights))
        raise UserError(
            f"--tracker_weights: {given} cannot be run as the networks of --tracker {request.name}, which are, in this "
            f"order: {', '.join(roles)}. Check the files and their order. Error: {' '.join(str(error).split())}"
        ) from error
    return LoadedTracker(make)


def _read_onnx(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"--tracker_weights: {path} is not a file; give the path of an ONNX file.")
    file = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    try:
        network = cv2.dnn.readNetFromONNX(file)
    except cv2.error as error:
        raise UserError(
            f"--tracker_weights: {path} cannot be read as an ONNX network ({' '.join(str(error).split())}); give "
            "another file."
        ) from error
    if network.empty():
        raise UserError(f"--tracker_weights: {path} contains no network; give an ONNX file.")
    try:
        bad = first_bad_tensor(file.tobytes())
    except ValueError as error:
        raise UserError(
            f"--tracker_weights: {path} cannot be read as an ONNX network ({error}); copy it again."
        ) from error
    if bad is not None:
        raise UserError(f"--tracker_weights: {path}: values of `{bad[:_MAX_NAME]}` are not finite; give another file.")
    return file


def _try_out(tracker: Tracker) -> None:
    frame = np.full((128, 128, 3), 127, dtype=np.uint8)
    tracker.initialize(frame, np.array([48.0, 48.0, 32.0, 32.0]))
    tracker.track(frame)
