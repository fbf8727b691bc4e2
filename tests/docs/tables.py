"""Tables of the documentation that follow from the registries."""

from __future__ import annotations

from alpharefine.trackers.entry import TrackerEntry


def tracker_rows(entries: tuple[TrackerEntry, ...]) -> list[str]:
    """Return the rows of the table in ``docs/trackers.md``.

    Args:
        entries: Entries of the trackers.
    """
    return [
        f"| `{entry.usage}` | {entry.summary} | {_weights(entry)} | {_yes(entry.accepts_feedback)} "
        f"| {_yes(entry.gives_score)} | {_yes(entry.reports_lost)} |"
        for entry in entries
    ]


def _weights(entry: TrackerEntry) -> str:
    if entry.official_file is not None:
        return f"`{entry.official_file}`"
    if entry.derive is not None:
        return "those of the tracker"
    if entry.takes_any_weights:
        return "any, passed to the class"
    return ", ".join(f"`{role}`" for role in entry.roles) or "none"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
