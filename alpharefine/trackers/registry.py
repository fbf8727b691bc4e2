"""Registry of trackers: those of this package and those that other packages register.

A package registers a tracker by an entry point in the group `ENTRY_POINT_GROUP`. Its name is the name of the
tracker. Its object is a `TrackerEntry`, or a function without arguments that returns one:

    [project.entry-points."alpharefine.trackers"]
    my_tracker = "my_package.alpharefine:ENTRY"
"""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from alpharefine.errors import UserError
from alpharefine.trackers.builtin import CUSTOM, ENTRIES
from alpharefine.trackers.entry import TrackerEntry, no_code_files, refuse

ENTRY_POINT_GROUP = "alpharefine.trackers"
"""Entry-point group in which other packages register their trackers."""

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


_EntryPoints = dict[str, list[EntryPoint]]
"""Entry points of other packages by name of the tracker."""


def find_tracker(name: str, in_evaluation: bool = True) -> TrackerEntry:
    """Return the entry of a tracker.

    Args:
        name: Name of the tracker: a registered name, ``cmd:program arguments``, ``oracle:<name>`` or
            ``package.module:Class``.
        in_evaluation: Accept trackers with `TrackerEntry.needs_evaluation`.

    Raises:
        UserError: If the name is unknown or ambiguous, the tracker needs an evaluation and there is none, or the
            package that registers it cannot be loaded.
    """
    entry = _find(name, in_evaluation)
    if entry.needs_evaluation and not in_evaluation:
        raise UserError(
            f"--tracker {name} runs only in an evaluation; choose one of {', '.join(_names(in_evaluation))}."
        )
    return entry


def _find(name: str, in_evaluation: bool) -> TrackerEntry:
    points = _entry_points()
    entry = _registered(name, points)
    if entry is not None and not entry.is_family:
        return entry
    for prefix in (*(entry.name for entry in ENTRIES), *points):
        family = _registered(prefix, points) if name.startswith(prefix) else None
        if family is not None and family.is_family:
            return _member(family, name, points)
    if _IMPORT_PATH.fullmatch(name):
        return replace(CUSTOM, name=name)
    names = _names(in_evaluation)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(f"--tracker {name} is not a known tracker.{hint} Available are {', '.join(names)}.")


def tracker_entries() -> tuple[TrackerEntry, ...]:
    """Return the entries of all trackers and families, in the order of the documentation.

    If a tracker of another package cannot be used, the summary of its entry gives the reason, and its `load` raises it.
    """
    points = _entry_points()
    return (*ENTRIES, *(_entry_or_reason(name, points) for name in points))


def tracker_names() -> tuple[str, ...]:
    """Return the names of all trackers as on the command line, without importing the packages that register them."""
    return _names(in_evaluation=True)


def _names(in_evaluation: bool) -> tuple[str, ...]:
    entries = [entry for entry in ENTRIES if in_evaluation or not entry.needs_evaluation]
    return (*(entry.usage for entry in entries), *_entry_points())


def _registered(name: str, points: _EntryPoints) -> TrackerEntry | None:
    """Return the entry registered under exactly this name, or None."""
    external = points.get(name, [])
    built_in = next((entry for entry in ENTRIES if entry.name == name), None)
    if external and (built_in is not None or len(external) > 1):
        sources = [*(["alpharefine"] if built_in is not None else []), *map(_describe, external)]
        raise UserError(
            f"--tracker {name} is registered by {' and by '.join(sources)}; uninstall the package that you do not use."
        )
    return _load_point(external[0]) if external else built_in


def _member(family: TrackerEntry, name: str, points: _EntryPoints) -> TrackerEntry:
    if family.derive is None:
        return replace(family, name=name)
    inner_name = name.removeprefix(family.name)
    inner = _registered(inner_name, points)
    derived = None if inner is None else family.derive(inner)
    if derived is None:
        suitable = [entry.name for entry in ENTRIES if family.derive(entry) is not None]
        raise UserError(
            f"--tracker {name} must be {family.name} followed by one of {', '.join(suitable)}, got {inner_name!r}; "
            "correct it."
        )
    return derived


def _entry_points() -> _EntryPoints:
    points: _EntryPoints = {}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        points.setdefault(point.name, []).append(point)
    return points


def _load_point(point: EntryPoint) -> TrackerEntry:
    try:
        loaded = point.load()
        entry = loaded() if callable(loaded) else loaded
    except Exception as error:  # no error in another package may break the other trackers
        raise UserError(
            f"--tracker {point.name}: {_describe(point)} cannot be loaded ({type(error).__name__}: {error}); repair "
            "or uninstall that package."
        ) from error
    if not isinstance(entry, TrackerEntry) or entry.name != point.name:
        got = f"an entry named {entry.name!r}" if isinstance(entry, TrackerEntry) else repr(entry)
        raise UserError(
            f"--tracker {point.name}: {_describe(point)} must be a `TrackerEntry` named {point.name!r}, or a function "
            f"that returns one, got {got}; correct that package."
        )
    if entry.code_files is not no_code_files:
        return entry
    path = getattr(sys.modules[point.module], "__file__", None)
    return replace(entry, code_files=lambda _: [] if path is None else [Path(path)])


def _describe(point: EntryPoint) -> str:
    package = "" if point.dist is None else f" of {point.dist.name}"
    return f"`{point.value}`{package}"


def _entry_or_reason(name: str, points: _EntryPoints) -> TrackerEntry:
    try:
        entry = _registered(name, points)
    except UserError as error:
        return TrackerEntry(name=name, summary=f"not available: {error}", load=refuse(str(error)))
    assert entry is not None, "called with the names of entry points only"
    return entry
