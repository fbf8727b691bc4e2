"""Table of all trackers for the documentation."""

from __future__ import annotations

from alpharefine.trackers.entry import TrackerEntry
from alpharefine.trackers.registry import tracker_entries

_HEADER = ("name", "tracker", "weight files (`--tracker_weights`)", "feedback", "score", "reports lost", "reads frames")


def tracker_table() -> str:
    """Return a Markdown table of all trackers, one row a tracker."""
    rows = [_HEADER, ("---",) * len(_HEADER), *(_row(entry) for entry in tracker_entries())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(entry: TrackerEntry) -> tuple[str, ...]:
    abilities = (entry.accepts_feedback, entry.gives_score, entry.reports_lost, entry.needs_frames)
    if entry.derive is not None:  # the abilities of the members differ
        return f"`{entry.usage}`", entry.summary, "those of the tracker", *("as the tracker",) * len(abilities)
    return f"`{entry.usage}`", entry.summary, _files(entry), *("yes" if ability else "no" for ability in abilities)


def _files(entry: TrackerEntry) -> str:
    if entry.official_file is not None:
        return f"`{entry.official_file}`"
    if entry.takes_any_weights:
        return "any"
    return ", ".join(entry.roles) or "none"
