"""Check the arguments of a tracker and load it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from alpharefine.errors import UserError
from alpharefine.options import WEIGHTS_VARIABLE
from alpharefine.trackers.base import BoxRefiner
from alpharefine.trackers.builtin import ENTRIES
from alpharefine.trackers.entry import LoadedTracker, TimeLimits, TrackerEntry, TrackerRequest
from alpharefine.trackers.registry import find_tracker


def load_tracker(
    name: str,
    *,
    weights: Sequence[Path] = (),
    refiner: BoxRefiner | None = None,
    device: str = "auto",
    limits: TimeLimits | None = None,
) -> LoadedTracker:
    """Find a tracker, check its arguments and read its files.

    Args:
        name: Name of the tracker, see `find_tracker`.
        weights: Paths of the weight files in the order of the tracker's roles, or the folder of an official file.
        refiner: Refiner of the evaluation; only trackers with `TrackerEntry.requires_refiner` use it.
        device: Torch device; ``auto`` selects the GPU if there is one.
        limits: Time limits of trackers with `TrackerEntry.takes_limits`; None selects the defaults.

    Raises:
        UserError: If the name is unknown, or an argument is missing, does not apply to the tracker or cannot be read.
    """
    entry = find_tracker(name)
    paths = check_arguments(entry, weights=weights, limits=limits, has_refiner=refiner is not None)
    return entry.load(TrackerRequest(name, paths, refiner, device, limits or TimeLimits()))


def check_arguments(
    entry: TrackerEntry,
    *,
    weights: Sequence[Path] = (),
    results_dir: Path | None = None,
    limits: TimeLimits | None = None,
    has_refiner: bool = False,
) -> tuple[Path, ...]:
    """Check that the arguments given for a tracker apply to it, without reading any file.

    Args:
        entry: Entry of the tracker.
        weights: Paths of the weight files, or the folder of an official file.
        results_dir: Folder or archive of published results.
        limits: Time limits; None if none were given.
        has_refiner: True if the evaluation has a refiner.

    Returns:
        Paths of the weight files, those of official files resolved.

    Raises:
        UserError: If an argument is missing or does not apply to the tracker.
    """
    if results_dir is not None and not entry.replays:
        names = _names_of([other for other in ENTRIES if other.replays])
        raise UserError(
            f"--results_dir is for --tracker {names}, got {results_dir} with --tracker {entry.name}; leave it out."
        )
    if results_dir is None and entry.replays:
        raise UserError(
            f"--tracker {entry.name} needs --results_dir, a folder with <sequence>.txt files; none was given."
        )
    if limits is not None and not entry.takes_limits:
        names = _names_of([other for other in ENTRIES if other.takes_limits])
        raise UserError(
            f"`--startup_limit` and `--frame_limit` are for --tracker {names}, got --tracker {entry.name}; leave them "
            "out."
        )
    if entry.requires_refiner and not has_refiner:
        raise UserError(f"--tracker {entry.name} needs --ckpt: the refiner takes its own output as input; add --ckpt.")
    return _resolve_weights(entry, weights)


def _resolve_weights(entry: TrackerEntry, given: Sequence[Path]) -> tuple[Path, ...]:
    if entry.official_file is not None:
        return (_official_path(entry.name, entry.official_file, given),)
    if entry.takes_any_weights:
        return tuple(given)
    if not entry.roles and given:
        files = ",".join(map(str, given))
        raise UserError(f"--tracker {entry.name} takes no weights, got --tracker_weights {files}; leave them out.")
    if len(given) != len(entry.roles):
        files = ", ".join(map(str, given)) or "none"
        count = f"{len(entry.roles)} weight file{'s' if len(entry.roles) > 1 else ''}"
        raise UserError(
            f"--tracker {entry.name} needs {count}, got {len(given)} ({files}); give `--tracker_weights "
            f"{','.join(f'<{role}>{entry.file_suffix}' for role in entry.roles)}` with paths in this order."
        )
    return tuple(given)


def _official_path(name: str, official_file: str, given: Sequence[Path]) -> Path:
    if len(given) > 1:
        raise UserError(f"--tracker {name} needs one file, {official_file}, got {len(given)}; give one.")
    folder = os.environ.get(WEIGHTS_VARIABLE)
    if not given and folder is None:
        raise UserError(
            f"--tracker {name} needs its authors' file {official_file}; give the file or its folder as "
            f"--tracker_weights, or set {WEIGHTS_VARIABLE} to the folder."
        )
    path = given[0] if given else Path(str(folder))
    if path.is_dir():
        path = path / official_file
    if not path.is_file():
        option = "--tracker_weights" if given else WEIGHTS_VARIABLE
        raise UserError(f"{option}: no file {path}; --tracker {name} needs its authors' file {official_file}.")
    return path


def _names_of(entries: Sequence[TrackerEntry]) -> str:
    return " or ".join(entry.usage for entry in entries)
