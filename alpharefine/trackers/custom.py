"""Anybody's own tracker, named by its import path."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alpharefine.errors import UserError
from alpharefine.trackers.base import Track, Tracker, TrackerSource, TrackState

_METHODS = ("initialize", "track", "set_box")


class CheckedTracker:
    """Passes calls on to a foreign tracker, with boxes that it may change, and checks what it returns.

    Args:
        name: import path of the tracker's class, for messages.
        tracker: follows the protocol `Tracker`; `track` may also return a plain ``(box, score, state)``.
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name = name
        self._tracker = tracker

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from its box in the first frame."""
        self._tracker.initialize(frame, np.array(box_xywh))

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box."""
        self._tracker.set_box(np.array(box_xywh))

    def track(self, frame: np.ndarray) -> Track:
        """Find the target in the next frame.

        Raises:
            UserError: if the answer is not four numbers, a score and a state.
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

    def _wrong(self, answer: object) -> str:
        return (
            f"--tracker {self._name}: `track` must return a `Track` or a tuple (box_xywh of 4 numbers, score, state), "
            f"the state one of {', '.join(TrackState)}; got {answer!r}. Correct the class."
        )


def custom_source(name: str, weights: Sequence[Path]) -> TrackerSource:
    """Import a class and make one tracker of it, used for all sequences one after the other.

    Args:
        name: ``package.module:Class``.
        weights: handed to the class, if there are any.

    Raises:
        UserError: if there is no such module or class, it lacks a method of `Tracker`, or it does not take the weights.
    """
    tracker_class = _import_class(name)
    try:
        inspect.signature(tracker_class).bind(*weights)
    except TypeError as error:
        raise UserError(
            f"--tracker {name}: `{tracker_class.__name__}` cannot be made from {len(weights)} files ({error}); it is "
            "called with the paths of --tracker_weights, each an argument."
        ) from error
    tracker = CheckedTracker(name, tracker_class(*weights))
    return TrackerSource(name, accepts_feedback=True, needs_frames=True, gives_score=True, open=lambda *_: tracker)


def code_file(name: str) -> Path | None:
    """The file that holds the class ``package.module:Class``; None if there is none.

    Raises:
        UserError: if there is no such class.
    """
    found = getattr(sys.modules[_import_class(name).__module__], "__file__", None)
    return None if found is None else Path(found)


def _import_class(name: str) -> type[Any]:
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"--tracker {name}: `{module_name}` cannot be imported ({error}); give package.module:Class, "
            "with the package installed or in the folder that the command is run from."
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
