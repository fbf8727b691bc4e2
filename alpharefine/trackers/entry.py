"""Description of a base tracker: its files, its abilities and the functions that load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alpharefine.errors import UserError
from alpharefine.trackers.base import BoxRefiner, Tracker


@dataclass(frozen=True)
class TimeLimits:
    """Time limits of a tracker that runs in a process of its own.

    Attributes:
        startup_s: Seconds from the start of the process to its answer for the first frame.
        frame_s: Seconds for each further frame.
    """

    startup_s: float = 120.0
    frame_s: float = 30.0


@dataclass(frozen=True)
class TrackerRequest:
    """Checked arguments of a tracker.

    Attributes:
        name: Full name of the tracker, such as ``dimp`` or ``cmd:python tracker.py``.
        weights: Paths of the weight files, in the order of `TrackerEntry.roles`.
        refiner: Refiner of the evaluation; trackers with `TrackerEntry.requires_refiner` use it.
        device: Torch device; ``auto`` selects the GPU if there is one.
        limits: Time limits of trackers with `TrackerEntry.takes_limits`.
    """

    name: str
    weights: tuple[Path, ...] = ()
    refiner: BoxRefiner | None = None
    device: str = "auto"
    limits: TimeLimits = field(default_factory=TimeLimits)


class TrackedSequence(NamedTuple):
    """Sequence that a tracker is opened for.

    Attributes:
        name: Name of the sequence.
        truth_xywh: Ground truth, ``(N, 4)`` xywh in image pixels, one row a frame. Only oracles read its values.
        frame_paths: Paths of the N frames; None if the sequence has no files.
    """

    name: str
    truth_xywh: np.ndarray
    frame_paths: Sequence[Path] | None = None


@dataclass(frozen=True)
class LoadedTracker:
    """Tracker whose files have been read and checked.

    Attributes:
        make: Function that returns the tracker of one sequence.
    """

    make: Callable[[TrackedSequence], Tracker]

    def open(self, sequence_name: str, truth_xywh: np.ndarray, frame_paths: Sequence[Path] | None = None) -> Tracker:
        """Return the tracker of one sequence; close it after the last frame.

        Args:
            sequence_name: Name of the sequence.
            truth_xywh: Ground truth, ``(N, 4)`` xywh in image pixels, one row a frame. Only oracles read its values.
            frame_paths: Paths of the N frames; None if the sequence has no files.
        """
        return self.make(TrackedSequence(sequence_name, truth_xywh, frame_paths))


def no_code_files(name: str) -> list[Path]:  # noqa: ARG001 - the signature of `TrackerEntry.code_files`
    """Return no files: the results of the tracker depend on no code outside this package.

    Args:
        name: Full name of the tracker.
    """
    return []


def refuse(message: str) -> Callable[[TrackerRequest], LoadedTracker]:
    """Return the `TrackerEntry.load` of an entry that cannot be loaded.

    Args:
        message: Message of the `UserError` that the function raises.
    """

    def load(request: TrackerRequest) -> LoadedTracker:  # noqa: ARG001 - the signature of `TrackerEntry.load`
        raise UserError(message)

    return load


@dataclass(frozen=True, kw_only=True)
class TrackerEntry:
    """Everything that the evaluation and the commands need to know about a tracker.

    A name that ends with a colon is the prefix of a family. `find_tracker` returns the entry of a member under the
    member's full name.

    Attributes:
        name: Name of the tracker, or prefix of a family.
        summary: Description in one line.
        load: Function that reads and checks the files of a request and returns the loaded tracker.
        argument: Placeholder for the text after the prefix of a family, for tables and help.
        roles: Roles of the weight files, in order.
        official_file: Path of the authors' file below a folder of weights.
        takes_any_weights: Accepts any number of weight files, in place of `roles`.
        accepts_feedback: The next frame depends on the box given to `Tracker.set_box`.
        gives_score: `Track.score` is a number.
        reports_lost: `Track.state` can be `TrackState.NOT_FOUND`.
        needs_frames: Reads the pixels of the frames.
        opens_files: Reads the files of the frames itself, so that the caller need not decode them.
        requires_refiner: Needs a refiner.
        replays: Stands for published results, which the evaluation refines in batches; it cannot be loaded.
        runs_in_torch: The boxes depend on the torch device.
        takes_limits: The time limits apply.
        code_files: Function that takes a full name and returns the files of foreign code that its results depend on.
            For a tracker of another package, the default is the module of its entry point.
        derive: Function that returns the entry of ``<prefix><name>`` from the entry of ``<name>``, or None if the
            family does not apply to that tracker. Only for families over other trackers.
    """

    name: str
    summary: str
    load: Callable[[TrackerRequest], LoadedTracker]
    argument: str = ""
    roles: tuple[str, ...] = ()
    official_file: str | None = None
    takes_any_weights: bool = False
    accepts_feedback: bool = True
    gives_score: bool = False
    reports_lost: bool = False
    needs_frames: bool = True
    opens_files: bool = False
    requires_refiner: bool = False
    replays: bool = False
    runs_in_torch: bool = False
    takes_limits: bool = False
    code_files: Callable[[str], list[Path]] = no_code_files
    derive: Callable[[TrackerEntry], TrackerEntry | None] | None = None

    @property
    def is_family(self) -> bool:
        """True if `name` is the prefix of a family of trackers."""
        return self.name.endswith(":")

    @property
    def usage(self) -> str:
        """Name as a user writes it, with a placeholder for the argument of a family."""
        return f"{self.name}{self.argument}"
