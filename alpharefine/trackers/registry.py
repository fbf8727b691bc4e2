"""Base trackers by name.

| name | what it is | weights (`--tracker_weights`, in this order) | feedback | looks at frames |
| --- | --- | --- | --- | --- |
| `dimp` | SuperDiMP, the base of ARDiMP; the same as `super_dimp` | the official file, or its folder | yes | yes |
| `dimp18`, `dimp50`, `prdimp18`, `prdimp50`, `super_dimp`, `super_dimp_simple` | DiMP, PrDiMP | the same | yes | yes |
| `atom` | ATOM | the same | yes | yes |
| `siamrpnpp`, `siamrpnpp-lt` | SiamRPN++ with ResNet-50, short-term and long-term | the same | yes | yes |
| `siamrpnpp-otb`, `siamrpnpp-mobilev2`, `siamrpnpp-alex`, `siamrpnpp-alex-otb` | SiamRPN++ | the same | yes | yes |
| `nano` | NanoTrack v2, the boxes of `cv2.TrackerNano` | backbone, head | yes | yes |
| `vit` | VitTrack, the boxes of `cv2.TrackerVit` | vittrack | yes | yes |
| `dasiamrpn` | DaSiamRPN, the boxes of `cv2.TrackerDaSiamRPN` | model, kernel_cls1, kernel_r1 | yes | yes |
| `mil` | `cv2.TrackerMIL` | none | yes | yes |
| `replay` | published boxes, `<sequence>.txt` in `--results_dir` | none | no | no |
| `oracle` | the true centre, the size fed back | none | yes | no |
| `oracle-size` | the true size, the centre fed back | none | yes | no |
| `self` | the last box: the refiner fed its own box | none | yes | no |
| `self:2` | like `self`, refined once before it is returned | none | yes | yes |
| `oracle:` and a name | one of those above `replay`, put on the true centre after every frame | its own | yes | yes |
| `cmd:program arguments` | a program that speaks TraX, in a process of its own | none | no | yes |
| `package.module:Class` | your own class with the methods of `Tracker` | any: the class gets the paths | yes | yes |
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from alpharefine.errors import UserError
from alpharefine.trackers import dasiamrpn, nano, siamrpnpp, vit
from alpharefine.trackers.base import BoxRefiner, TrackerSource
from alpharefine.trackers.custom import custom_source
from alpharefine.trackers.dimp.loading import NETWORKS, online_source
from alpharefine.trackers.mil import MILTracker
from alpharefine.trackers.networks import network_source
from alpharefine.trackers.oracle import CENTRED, centred_source, oracle_source
from alpharefine.trackers.replay import replay_source
from alpharefine.trackers.self_refinement import SelfTracker
from alpharefine.trackers.trax import SCHEME, TimeLimits, trax_source
from alpharefine.trackers.weights import resolve_weights

TRACKER_NAMES = (
    *("dimp", *NETWORKS, "atom"),
    *siamrpnpp.VARIANTS,
    *("nano", "vit", "dasiamrpn", "mil"),
    *("replay", "oracle", "oracle-size", "self", "self:2"),
)
"""The names that `load_tracker` knows, beside ``cmd:program arguments`` and ``package.module:Class``."""

SELF_TRACKERS = ("self", "self:2")
"""Those that are nothing without a refiner."""

_NETWORK_TRACKERS = {
    "nano": (nano.NanoTracker, nano.ROLES),
    "vit": (vit.VitTracker, vit.ROLES),
    "dasiamrpn": (dasiamrpn.DaSiamRPNTracker, dasiamrpn.ROLES),
}
_OFFICIAL_TRACKERS: dict[str, Callable[[str, Path, str], TrackerSource]] = {
    **dict.fromkeys(("dimp", *NETWORKS, "atom"), online_source),
    **dict.fromkeys(siamrpnpp.VARIANTS, siamrpnpp.siamrpnpp_source),
}
"""Those whose authors published one file: read from its path, onto a device."""

_CENTRED_TRACKERS = (*_OFFICIAL_TRACKERS, *_NETWORK_TRACKERS, "mil")
"""Those that can be put back on their target."""

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_import_path(name: str) -> bool:
    """Whether a tracker's name is ``package.module:Class``.

    >>> is_import_path("my.module:Tracker"), is_import_path("cmd:python"), is_import_path("self:2")
    (True, False, False)
    """
    return not name.startswith((SCHEME, CENTRED)) and _IMPORT_PATH.fullmatch(name) is not None


def load_tracker(
    name: str,
    *,
    weights: Sequence[Path] = (),
    results_dir: Path | None = None,
    refiner: BoxRefiner | None = None,
    device: str = "auto",
    limits: TimeLimits | None = None,
) -> TrackerSource:
    """Find a base tracker by its name, read its networks and check its arguments.

    Args:
        name: one of `TRACKER_NAMES`, ``oracle:`` and one of these, ``cmd:program arguments`` or
            ``package.module:Class``.
        weights: files, see the table at the top of this module.
        results_dir: folder of result files, for `replay` alone.
        refiner: the one that the boxes will be refined with; `self` and `self:2` need it, the others do without.
        device: of networks in PyTorch; ``auto`` takes the graphics card where there is one.
        limits: how long the program of a ``cmd:`` may take; None for the usual ones.

    Raises:
        UserError: if the name is unknown, or an argument is missing, does not belong to this tracker or cannot be read.
    """
    if name.startswith(CENTRED):
        if name.removeprefix(CENTRED) not in _CENTRED_TRACKERS:
            raise UserError(
                f"--tracker {name} must be {CENTRED} and one of {', '.join(_CENTRED_TRACKERS)}; correct it."
            )
        inner = name.removeprefix(CENTRED)
        return centred_source(load_tracker(inner, weights=weights, results_dir=results_dir, device=device))
    is_custom = is_import_path(name)
    is_command = name.startswith(SCHEME)
    if name not in TRACKER_NAMES and not is_custom and not is_command:
        raise UserError(_unknown(name))
    if weights and not is_custom and name not in _NETWORK_TRACKERS | _OFFICIAL_TRACKERS:
        given = ",".join(str(path) for path in weights)
        raise UserError(f"--tracker {name} takes no weights, got --tracker_weights {given}; leave them out.")
    if results_dir is not None and name != "replay":
        raise UserError(
            f"--results_dir is for --tracker replay, got {results_dir} with --tracker {name}; leave it out."
        )

    if name in _OFFICIAL_TRACKERS:
        (path,) = resolve_weights(name, weights)
        return _OFFICIAL_TRACKERS[name](name, path, device)
    if name in _NETWORK_TRACKERS:
        return network_source(name, *_NETWORK_TRACKERS[name], weights)
    if is_custom:
        return custom_source(name, weights)
    if is_command:
        return trax_source(name, limits or TimeLimits())
    return _plain_source(name, results_dir, refiner)


def _plain_source(name: str, results_dir: Path | None, refiner: BoxRefiner | None) -> TrackerSource:
    match name:
        case "mil":
            return TrackerSource(
                name, accepts_feedback=True, needs_frames=True, gives_score=False, open=lambda *_: MILTracker()
            )
        case "oracle":
            return oracle_source(name, knows="centre")
        case "oracle-size":
            return oracle_source(name, knows="size")
        case "replay":
            if results_dir is None:
                raise UserError(
                    "--tracker replay needs --results_dir, a folder with <sequence>.txt files; none was given."
                )
            return replay_source(results_dir)
        case _:
            return _self_source(name, refiner)


def _self_source(name: str, refiner: BoxRefiner | None) -> TrackerSource:
    if refiner is None:
        raise UserError(f"--tracker {name} needs --ckpt: it is the refiner fed its own box; none was given.")
    inner = refiner if name == "self:2" else None
    return TrackerSource(
        name,
        accepts_feedback=True,
        needs_frames=inner is not None,
        gives_score=False,
        open=lambda *_: SelfTracker(inner),
    )


def _unknown(name: str) -> str:
    available = f"{', '.join(TRACKER_NAMES)}, cmd:program arguments and package.module:Class"
    close = difflib.get_close_matches(name, TRACKER_NAMES, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"--tracker {name} is no known tracker.{hint} Available are {available}."
