"""What a base tracker is: the protocol between the trackers and the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np


class TrackState(StrEnum):
    """How sure a tracker is that it still sees its target."""

    NORMAL = "normal"
    UNCERTAIN = "uncertain"
    HARD_NEGATIVE = "hard_negative"
    NOT_FOUND = "not_found"


class Track(NamedTuple):
    """The answer for one frame.

    Attributes:
        box_xywh: ``(4,)`` float64 in image pixels.
        score: confidence in 0..1, NaN where the tracker has none.
        state: how sure the tracker is; with `NOT_FOUND` the box is the last one known.
    """

    box_xywh: np.ndarray
    score: float
    state: TrackState


class Tracker(Protocol):
    """Follows one target through one sequence. Frames are RGB uint8 ``(H, W, 3)``, boxes ``(4,)`` in image pixels."""

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from its box in the first frame."""

    def track(self, frame: np.ndarray) -> Track:
        """Find the target in the next frame."""

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box, about which the next frame is searched; the model of the target stays as it is."""


@dataclass(frozen=True)
class TrackerSource:
    """A tracker by name, its networks and files read and checked: opens a tracker for each sequence.

    Attributes:
        name: as asked for.
        accepts_feedback: whether the next frame depends on the box given to `Tracker.set_box`.
        needs_frames: whether the tracker looks at the pixels of the frames.
        gives_score: whether `Track.score` is a number.
        open: makes the tracker of one sequence from its name and its ground truth ``(N, 4)`` xywh in image pixels, one
            row a frame; the oracles alone look at the values.
        opens_files: whether the tracker reads the frames' files by itself, so that nobody has to for its sake.
    """

    name: str
    accepts_feedback: bool
    needs_frames: bool
    gives_score: bool
    open: Callable[[str, np.ndarray], Tracker]
    opens_files: bool = False


class Refined(Protocol):
    """What a refiner returns: a box, among other things."""

    @property
    def box_xywh(self) -> np.ndarray:
        """``(4,)`` in image pixels."""

    @property
    def refined(self) -> bool:
        """Whether the target was found; else the box is the one that was given, or near it."""


class BoxRefiner(Protocol):
    """A refiner that has learnt its target already."""

    def refine(self, frame: np.ndarray, box_xywh: np.ndarray) -> Refined:
        """Make the box ``(4,)`` xywh precise in an RGB frame."""
