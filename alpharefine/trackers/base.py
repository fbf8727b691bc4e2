"""Protocols between base trackers, refiners and the evaluation."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np


class TrackState(StrEnum):
    """State that a tracker reports for a frame."""

    NORMAL = "normal"
    UNCERTAIN = "uncertain"
    HARD_NEGATIVE = "hard_negative"
    NOT_FOUND = "not_found"


class Track(NamedTuple):
    """Result of a tracker for one frame.

    Attributes:
        box_xywh: Box of the target, ``(4,)`` float64 in image pixels.
        score: Confidence, usually in 0..1; NaN if the tracker has none.
        state: State of the tracker. In state `NOT_FOUND`, `box_xywh` is the last known box.
    """

    box_xywh: np.ndarray
    score: float
    state: TrackState


class Tracker(Protocol):
    """Single-object tracker in one sequence.

    Frames are RGB uint8 ``(H, W, 3)``; boxes are ``(4,)`` xywh in image pixels. A class may inherit from this protocol
    to get the default `close`.
    """

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame of the sequence, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.
        """

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame.

        Args:
            frame: Next frame of the sequence, ``(H, W, 3)`` RGB uint8.
        """
        raise NotImplementedError

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box, around which the next frame is searched; the target model does not change.

        Trackers that do not accept feedback ignore the call.

        Args:
            box_xywh: Box of the target in the last frame, ``(4,)`` in image pixels.
        """

    def close(self) -> None:
        """Release the resources of the sequence, such as a process. `initialize` may be called again afterwards."""
        return  # so that the method is not abstract: most trackers have nothing to release


class Refined(Protocol):
    """Result of a refiner for one box."""

    @property
    def box_xywh(self) -> np.ndarray:
        """Refined box, ``(4,)`` in image pixels."""

    @property
    def refined(self) -> bool:
        """True if the refiner found the target; otherwise `box_xywh` is close to the input box."""


class BoxRefiner(Protocol):
    """Refiner that is already initialized with a target."""

    def refine(self, frame: np.ndarray, box_xywh: np.ndarray) -> Refined:
        """Refine a box.

        Args:
            frame: Frame, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box to refine, ``(4,)`` in image pixels.
        """
