"""Custom trackers: classes outside this package, named by their import path."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np

from alpharefine.errors import UserError, describe_exception
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest

_METHODS = ("initialize", "track", "set_box")
_MAX_QUOTED = 200  # characters of an answer in a message


class CheckedTracker(Tracker):
    """Forwards calls to a custom tracker with copies of the boxes, and checks its results.

    Args:
        name: Import path of the tracker's class, for messages.
        tracker: Object with the methods of `Tracker`. `track` may return a plain tuple ``(box, score, state)``; `close`
            is optional.
    """

    def __init__(self, name: str, tracker: Any) -> None:
        self._name = name
        self._tracker = tracker

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """
        self._tracker.initialize(frame, np.array(box_xywh))

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box."""
        self._tracker.set_box(np.array(box_xywh))

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame.

        Raises:
            UserError: If the result is not a tuple of four numbers, a score and a state.
        """
        answer: Any = self._tracker.track(frame)
        try:
            box, score, state = answer
            track = Track(np.array(box, dtype=np.float64), float(score), TrackState(state))
        except (TypeError, ValueError) as error:
            raise UserError(self._wrong(answer)) from error
        if not isinstance(answer, tuple) or track.box_xywh.shape != (4,):
            raise UserError(self._wrong(answer))
        return track

    def close(self) -> None:
        """Close the custom tracker if its class has a method `close`."""
        close = getattr(self._tracker, "close", None)
        if callable(close):
            close()

    def _wrong(self, answer: object) -> str:
        return (
            f"--tracker {self._name}: `track` must return a `Track` or a tuple (box_xywh of 4 numbers, score, state) "
            f"with a state of {', '.join(TrackState)}; got {' '.join(repr(answer).split())[:_MAX_QUOTED]}. Correct the "
            "class."
        )


def load(request: TrackerRequest) -> LoadedTracker:
    """Import a class and create one tracker, which follows all sequences one after the other.

    Args:
        request: Request with the name ``package.module:Class``; the class is called with the paths of the weight files.

    Raises:
        UserError: If the module or class does not exist, the class lacks a method of `Tracker`, or it does not accept
            the weight files.
    """
    tracker_class = _import_class(request.name)
    try:
        inspect.signature(tracker_class).bind(*request.weights)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"--tracker {request.name}: `{tracker_class.__name__}` cannot be made from {len(request.weights)} files "
            f"({error}); it is called with the paths of --tracker_weights, one argument each."
        ) from error
    tracker = CheckedTracker(request.name, tracker_class(*request.weights))
    return LoadedTracker(lambda _: tracker)


def code_files(name: str) -> list[Path]:
    """Return the file that defines the class of a tracker; none if the class has no file.

    Args:
        name: Import path ``package.module:Class``.

    Raises:
        UserError: If the class does not exist or lacks a method of `Tracker`.
    """
    path = getattr(sys.modules[_import_class(name).__module__], "__file__", None)
    return [] if path is None else [Path(path)]


def _import_class(name: str) -> type[Any]:
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"--tracker {name}: `{module_name}` cannot be imported ({error}); give package.module:Class, with the "
            "package installed or in the current folder."
        ) from error
    except (Exception, SystemExit) as error:  # whatever the module does while it is imported
        raise UserError(
            f"--tracker {name}: `{module_name}` fails while it is imported: {describe_exception(error)}; correct it."
        ) from error
    tracker_class = getattr(module, class_name, None)
    if not isinstance(tracker_class, type):
        raise UserError(f"--tracker {name}: `{module_name}` has no class `{class_name}`; give package.module:Class.")
    missing = [method for method in _METHODS if not callable(getattr(tracker_class, method, None))]
    if missing:
        raise UserError(
            f"--tracker {name}: a tracker needs the methods {', '.join(_METHODS)}, but `{class_name}` has no "
            f"{', '.join(missing)}; see `alpharefine.trackers.Tracker`."
        )
    return tracker_class
