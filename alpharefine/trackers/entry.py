"""Registry entry of a base tracker: its files, its capabilities and the function that loads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alpharefine.errors import SequenceError, UserError
from alpharefine.trackers.base import BoxRefiner, Track, Tracker


@dataclass(frozen=True)
class TimeLimits:
    """Time limits of a tracker that runs in a process of its own.

    Attributes:
        startup_s: Limit in seconds from the start of the process to its answer for the first frame.
        frame_s: Limit in seconds for each further frame.
    """

    startup_s: float = 120.0
    frame_s: float = 30.0


@dataclass(frozen=True)
class TrackerRequest:
    """Arguments for loading a tracker, already checked.

    Attributes:
        name: Full name of the tracker, such as ``dimp`` or ``cmd:python tracker.py``.
        weights: Paths of the weight files, in the order of `TrackerEntry.roles`.
        refiner: Refiner of the evaluation. Only trackers with `TrackerEntry.requires_refiner` use it.
        device: Torch device. ``auto`` selects the GPU if there is one.
        limits: Time limits of trackers with `TrackerEntry.takes_limits`.
    """

    name: str
    weights: tuple[Path, ...] = ()
    refiner: BoxRefiner | None = None
    device: str = "auto"
    limits: TimeLimits = field(default_factory=TimeLimits)


class TrackedSequence(NamedTuple):
    """Sequence on which a tracker runs.

    Attributes:
        name: Name of the sequence.
        truth_xywh: Ground truth, ``(N, 4)`` in image pixels, one row per frame. Only oracles may use it.
        frame_paths: Paths of the N frames. None if the sequence has no frame files.
    """

    name: str
    truth_xywh: np.ndarray
    frame_paths: Sequence[Path] | None = None


_LEAST_SIDE = 1.0  # px


def require_first_box(owner: str, box_xywh: np.ndarray, remedy: str) -> None:
    """Check that a tracker can start from a box.

    Args:
        owner: Name of the box, for the message.
        box_xywh: Box of the target in the first frame, ``(4,)`` in image pixels.
        remedy: What to do if it cannot.

    Raises:
        SequenceError: If a value is not finite, or a side is shorter than 1 px.
    """
    box = np.asarray(box_xywh, dtype=np.float64)
    if not np.isfinite(box).all() or (box[2:] < _LEAST_SIDE).any():
        hint = "" if (np.abs(box) > 1).any() else " Values in 0..1 are usually fractions of the image size."
        raise SequenceError(
            f"{owner} must be finite x,y,w,h in pixels with sides of at least 1 px, got "
            f"{','.join(f'{value:g}' for value in box)}; {remedy}.{hint}"
        )


class OpenedTracker(Tracker):
    """Tracker of one sequence that checks its first box.

    Args:
        tracker: Tracker that receives all calls.
        name: Name of the sequence, for messages.
    """

    def __init__(self, tracker: Tracker, name: str) -> None:
        self.tracker = tracker
        self._name = name

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Learn the target from the first frame.

        Args:
            frame: First frame of the sequence, ``(H, W, 3)`` RGB uint8.
            box_xywh: Box of the target, ``(4,)`` in image pixels.

        Raises:
            SequenceError: If a value of the box is not finite, or a side is shorter than 1 px.
        """
        require_first_box(f"{self._name}: the first box", box_xywh, "correct the first row of the annotation")
        self.tracker.initialize(frame, box_xywh)

    def track(self, frame: np.ndarray) -> Track:
        """Locate the target in the next frame.

        Args:
            frame: Next frame of the sequence, ``(H, W, 3)`` RGB uint8.
        """
        return self.tracker.track(frame)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Replace the last box, around which the next frame is searched.

        Args:
            box_xywh: Box of the target in the last frame, ``(4,)`` in image pixels.
        """
        self.tracker.set_box(box_xywh)

    def close(self) -> None:
        """Release the resources of the sequence."""
        self.tracker.close()


@dataclass(frozen=True)
class LoadedTracker:
    """Tracker whose files have been loaded. It creates one `Tracker` per sequence.

    Attributes:
        make: Function that creates the tracker of one sequence.
    """

    make: Callable[[TrackedSequence], Tracker]

    def open(
        self, sequence_name: str, truth_xywh: np.ndarray, frame_paths: Sequence[Path] | None = None
    ) -> OpenedTracker:
        """Create the tracker of one sequence. The caller closes it after the last frame.

        Args:
            sequence_name: Name of the sequence.
            truth_xywh: Ground truth, ``(N, 4)`` in image pixels, one row per frame. Only oracles may use it.
            frame_paths: Paths of the N frames. None if the sequence has no frame files.
        """
        return OpenedTracker(self.make(TrackedSequence(sequence_name, truth_xywh, frame_paths)), sequence_name)


def no_code_files(name: str) -> list[Path]:  # noqa: ARG001 - the signature of `TrackerEntry.code_files`
    """Return an empty list, for trackers whose results depend on no code outside this package.

    Args:
        name: Full name of the tracker.
    """
    return []


def refuse(message: str) -> Callable[[TrackerRequest], LoadedTracker]:
    """Return a `TrackerEntry.load` that always raises a `UserError`.

    Args:
        message: Message of the error.
    """

    def load(request: TrackerRequest) -> LoadedTracker:  # noqa: ARG001 - the signature of `TrackerEntry.load`
        raise UserError(message)

    return load


@dataclass(frozen=True, kw_only=True)
class TrackerEntry:
    """Properties of a tracker, or of a family of trackers.

    The name of a family is a prefix that ends with a colon, such as ``cmd:``. `find_tracker` returns the entry of a
    member of the family under the full name of the member, such as ``cmd:python tracker.py``.

    Attributes:
        name: Name of the tracker, or prefix of a family.
        summary: One-line description.
        load: Function that loads the tracker.
        argument: Placeholder for the text after the prefix of a family, for tables and help.
        roles: Roles of the weight files, in order.
        file_suffix: Suffix of the weight files such as ``.onnx``, for messages.
        official_file: Path of the authors' file relative to a folder of weights.
        takes_any_weights: Whether the tracker accepts any number of weight files, in place of `roles`.
        accepts_feedback: Whether the next box depends on the box given to `Tracker.set_box`.
        gives_score: Whether `Track.score` is a number.
        reports_lost: Whether `Track.state` can be `TrackState.NOT_FOUND`.
        needs_frames: Whether the tracker uses the frames.
        needs_truth: Whether the tracker uses the ground truth, so that it runs only in an evaluation.
        opens_files: Whether the tracker reads the frame files itself, so that the caller need not decode them.
        requires_refiner: Whether the tracker runs only with a refiner.
        replays: Whether the entry stands for published results, which the evaluation refines in batches. Such an entry
            cannot be loaded.
        runs_in_torch: Whether the boxes depend on the torch device.
        takes_limits: Whether time limits apply.
        code_files: Function from a full name to the files of code outside this package that the results of the tracker
            depend on. For a tracker of another package, the default is the module of its entry point.
        derive: Function from the entry of a tracker ``<name>`` to the entry of the member ``<prefix><name>`` of this
            family, or to None if the family does not include it. None for trackers and other families.
    """

    name: str
    summary: str
    load: Callable[[TrackerRequest], LoadedTracker]
    argument: str = ""
    roles: tuple[str, ...] = ()
    file_suffix: str = ""
    official_file: str | None = None
    takes_any_weights: bool = False
    accepts_feedback: bool = True
    gives_score: bool = False
    reports_lost: bool = False
    needs_frames: bool = True
    needs_truth: bool = False
    opens_files: bool = False
    requires_refiner: bool = False
    replays: bool = False
    runs_in_torch: bool = False
    takes_limits: bool = False
    code_files: Callable[[str], list[Path]] = no_code_files
    derive: Callable[[TrackerEntry], TrackerEntry | None] | None = None

    @property
    def may_change_frames(self) -> bool:
        """True if code outside of this package runs on the frames, which could draw on them."""
        return self.code_files is not no_code_files and not self.opens_files

    @property
    def needs_evaluation(self) -> bool:
        """True if the tracker runs only in an evaluation: it uses the ground truth, or stands for published results."""
        return self.needs_truth or self.replays

    @property
    def is_family(self) -> bool:
        """True if `name` is the prefix of a family of trackers."""
        return self.name.endswith(":")

    @property
    def usage(self) -> str:
        """Name as on the command line, with a placeholder for the argument of a family."""
        return f"{self.name}{self.argument}"
