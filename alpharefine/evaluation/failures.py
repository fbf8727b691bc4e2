"""Sequences without a result, and the counts of frames that were not refined."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from alpharefine.errors import UserError

_NUM_NAMED = 10
"""Largest number of sequences that a sentence names."""


NO_FILE = "no result file"
"""Reason of a sequence that was not run, or of which no result was published."""


class Failure(NamedTuple):
    """Sequence without a result.

    Attributes:
        sequence: Name of the sequence.
        reason: Type, text and place of the error.
        tracker: Name of the tracker. Empty if all trackers lack the sequence.
        run: Name of the run. Empty if all runs of the tracker lack the sequence.
    """

    sequence: str
    reason: str
    tracker: str = ""
    run: str = ""

    @property
    def is_absent(self) -> bool:
        """True if there is no result file, as opposed to an error."""
        return self.reason == NO_FILE

    @property
    def line(self) -> str:
        """Reason in one line: its first line, and the last one of a program's output."""
        first, *others = self.reason.splitlines() or [""]
        return " ".join([first, *(line.strip() for line in others[-1:])])


FRAME_COUNTS = {
    "frames": "frames after the first",
    "refined": "refined",
    "invalid_box": "tracker boxes not finite or not positive",
    "not_finite": "predictions not finite",
    "outside": "search regions outside of the image",
    "not_found": "empty predictions",
    "lost": "frames with a lost target",
    "low_score": "tracker scores below `--min_score`",
}
"""Description of each count of a run."""

NOT_REFINED = tuple(FRAME_COUNTS)[2:]
"""Keys of the reasons why frames were not refined."""

FrameCounts = Mapping[str, int]
"""Number of frames by key of `FRAME_COUNTS`. A base run has ``frames`` and ``invalid_box`` only."""


def add_counts(counts: Iterable[FrameCounts]) -> dict[str, int]:
    """Add the counts of sequences. Keys with a count of 0 are left out.

    Args:
        counts: Counts of each sequence.

    >>> add_counts([{"frames": 5, "not_found": 1}, {"frames": 3, "refined": 0}])
    {'frames': 8, 'not_found': 1}
    """
    every = list(counts)
    sums = {key: sum(each.get(key, 0) for each in every) for key in FRAME_COUNTS}
    return {key: number for key, number in sums.items() if number}


def describe_counts(counts: FrameCounts, is_refined: bool = True) -> str:
    """Describe the frames of a run that were not refined, by reason.

    Args:
        counts: Counts of the run.
        is_refined: True for a run with refinement.

    Returns:
        One line, empty if there are no such frames.

    >>> describe_counts({"frames": 5, "refined": 4, "not_found": 1})
    '4 of 5 frames refined; 1 empty predictions'
    >>> describe_counts({"frames": 5, "refined": 5})
    ''
    """
    reasons = [f"{counts[key]} {FRAME_COUNTS[key]}" for key in NOT_REFINED if counts.get(key)]
    if not reasons:
        return ""
    what = f"{counts.get('refined', 0)} of {counts.get('frames', 0)} frames refined; " if is_refined else ""
    return f"{what}{', '.join(reasons)}"


def require_finite_predictions(tracker: str, counts: FrameCounts) -> None:
    """Check that a refined run is not one of a network whose predictions are not finite.

    Args:
        tracker: Name of the tracker, for the message.
        counts: Counts of the refined run.

    Raises:
        UserError: If no frame was refined because the predictions are not finite.
    """
    if counts.get("not_finite") and not counts.get("refined"):
        raise UserError(
            f"{tracker}: no frame was refined, because the predictions of the network are not finite; use another "
            "checkpoint, or `--precision 32`."
        )


def unique(failures: Iterable[Failure]) -> list[Failure]:
    """Remove repeated failures: each process of a launch reports those of the data set.

    Args:
        failures: Failures of all processes.
    """
    first: dict[tuple[str, str, str], Failure] = {}
    for failure in failures:
        first.setdefault((failure.sequence, failure.tracker, failure.run), failure)
    return list(first.values())


def summarize(failures: Iterable[Failure], chosen: Collection[str], is_scored: bool = False) -> str:
    """Return one sentence about the sequences without a result.

    Args:
        failures: Sequences without a result.
        chosen: Names of all chosen sequences.
        is_scored: True if some tracker has a result.
    """
    every = list(failures)
    lacking: dict[str, set[str]] = {}
    for failure in every:
        lacking.setdefault(failure.tracker, set()).add(failure.sequence)
    failed = [name for name in chosen if any(name in names for names in lacking.values())]
    if len(lacking.keys() - {""}) > 1 or (is_scored and len(failed) == len(chosen)):
        each = ", ".join(f"{tracker or 'all trackers'} {len(names)}" for tracker, names in lacking.items())
        return f"Sequences without a result, of {len(chosen)}: {each}."
    reasons = {failure.line for failure in every}
    some = f"{', '.join(failed[:_NUM_NAMED])}{', ...' if len(failed) > _NUM_NAMED else ''}"
    if len(chosen) == 1:
        return f"Sequence {some} failed: {every[0].line.rstrip('.')}."
    if len(failed) < len(chosen):
        return f"{len(failed)} of {len(chosen)} sequences failed ({some})."
    how = f" in the same way: {reasons.pop().rstrip('.')}." if len(reasons) == 1 else f" ({some})."
    return f"All {len(chosen)} sequences failed{how}"
