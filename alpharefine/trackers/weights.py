"""Where the weights of the trackers lie that have been published by their authors as one file each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from alpharefine.errors import UserError
from alpharefine.trackers.oracle import CENTRED

WEIGHTS_VARIABLE = "ALPHAREFINE_WEIGHTS"
"""The environment variable that names a folder of official files."""

OFFICIAL_FILES = {
    "atom": "atom_default.pth",
    "dimp": "super_dimp.pth.tar",
    "dimp18": "dimp18.pth",
    "dimp50": "dimp50.pth",
    "prdimp18": "prdimp18.pth.tar",
    "prdimp50": "prdimp50.pth.tar",
    "super_dimp": "super_dimp.pth.tar",
    "super_dimp_simple": "super_dimp_simple.pth.tar",
    "siamrpnpp": "siamrpn_r50_l234_dwxcorr/model.pth",
    "siamrpnpp-lt": "siamrpn_r50_l234_dwxcorr_lt/model.pth",
    "siamrpnpp-otb": "siamrpn_r50_l234_dwxcorr_otb/model.pth",
    "siamrpnpp-mobilev2": "siamrpn_mobilev2_l234_dwxcorr/model.pth",
    "siamrpnpp-alex": "siamrpn_alex_dwxcorr/model.pth",
    "siamrpnpp-alex-otb": "siamrpn_alex_dwxcorr_otb/model.pth",
}
"""The authors' name of each tracker's file, below the folder of weights."""


def official_file(tracker: str) -> str | None:
    """The authors' name of a tracker's file, below the folder of weights; None if there is none.

    >>> official_file("atom"), official_file("oracle:atom"), official_file("mil")
    ('atom_default.pth', 'atom_default.pth', None)
    """
    return OFFICIAL_FILES.get(tracker.removeprefix(CENTRED))


def resolve_weights(tracker: str, given: Sequence[Path]) -> tuple[Path, ...]:
    """Find the files of a tracker.

    Args:
        tracker: its name.
        given: by ``--tracker_weights``: files, or of the trackers in `OFFICIAL_FILES` the folder of the official file.

    Returns:
        The files; of trackers without an official file those that were given.

    Raises:
        UserError: if a tracker's official file is in neither place, or more than one is given.
    """
    official = official_file(tracker)
    if official is None:
        return tuple(given)
    if len(given) > 1:
        raise UserError(f"--tracker {tracker} needs one file, {official}, got {len(given)}; give one.")
    folder = os.environ.get(WEIGHTS_VARIABLE)
    if not given and folder is None:
        raise UserError(
            f"--tracker {tracker} needs its authors' file {official}; give it or its folder as --tracker_weights, or "
            f"set {WEIGHTS_VARIABLE} to the folder."
        )
    path = given[0] if given else Path(str(folder))
    where = "--tracker_weights" if given else WEIGHTS_VARIABLE
    if path.is_dir():
        path = path / official
    if not path.is_file():
        raise UserError(f"{where}: no file {path}; --tracker {tracker} needs its authors' file {official}.")
    return (path,)
