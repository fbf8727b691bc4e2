"""From an official file to a tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from alpharefine.checkpoints.files import ForeignObject, read_torch_file
from alpharefine.checkpoints.fit import require_fit
from alpharefine.errors import UserError
from alpharefine.trackers.base import TrackerSource
from alpharefine.trackers.dimp.atom import ATOMTracker
from alpharefine.trackers.dimp.network import BoxNet, DiMPNet, TrackerBackbone
from alpharefine.trackers.dimp.optimizers import DiMPOptimizer, FilterOptimizer, HingeOptimizer, PrDiMPOptimizer
from alpharefine.trackers.dimp.parameters import read_atom_parameters, read_parameters
from alpharefine.trackers.dimp.tracker import DiMPTracker

NETWORKS: dict[str, tuple[TrackerBackbone, type[FilterOptimizer]]] = {
    "dimp18": ("resnet18", DiMPOptimizer),
    "dimp50": ("resnet50", DiMPOptimizer),
    "prdimp18": ("resnet18", PrDiMPOptimizer),
    "prdimp50": ("resnet50", PrDiMPOptimizer),
    "super_dimp": ("resnet50", DiMPOptimizer),
    "super_dimp_simple": ("resnet50", HingeOptimizer),
}
"""Backbone and filter optimiser of each tracker."""

Network = TypeVar("Network", bound=BoxNet)

_COUNTER = ".num_batches_tracked"
"""Of batch norms while they are trained; old files have none."""

_NEVER_RUN = ("feature_extractor.layer4.", "feature_extractor.fc.")

_REQUIRED = {
    "filter_size": 4,
    "num_dist_bins": 100,
    "bin_displacement": 0.1,
    "score_act": "relu",
    "target_mask_act": "sigmoid",
    "clf_feat_norm": True,
    "final_conv": True,
}
"""Values of a file's constructor that all published networks share, and that are built in here."""

_RECORDED: dict[type[FilterOptimizer], dict[str, str]] = {
    DiMPOptimizer: {},
    PrDiMPOptimizer: {
        "gauss_sigma": "gauss_sigma",
        "optim_min_reg": "min_filter_reg",
        "alpha_eps": "alpha_eps",
        "normalize_label": "normalize_label",
        "init_uni_weight": "uni_weight",
        "label_shrink": "label_shrink",
        "softmax_reg": "softmax_reg",
        "label_threshold": "label_threshold",
    },
    HingeOptimizer: {"hinge_threshold": "hinge_threshold", "activation_leak": "activation_leak"},
}
"""Values of a file's constructor that its parameters do not hold, and our names for them."""


def online_source(name: str, path: Path, device: str) -> TrackerSource:
    """ATOM, or a tracker of the DiMP family.

    Args:
        name: ``atom``, one of `NETWORKS`, or ``dimp``: ``super_dimp``, which Alpha-Refine's authors refined as ARDiMP.
        path: of the official file.
        device: ``auto`` takes the graphics card where there is one.

    Raises:
        UserError: if the file is not that of this tracker.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return TrackerSource(
        name,
        accepts_feedback=True,
        needs_frames=True,
        gives_score=True,
        open=_atom_opener(path, device) if name == "atom" else _dimp_opener(name, path, device),
    )


def _atom_opener(path: Path, device: str) -> Callable[..., ATOMTracker]:
    network, parameters = load_atom(path).to(device), read_atom_parameters()
    return lambda *_: ATOMTracker(network, parameters)


def _dimp_opener(name: str, path: Path, device: str) -> Callable[..., DiMPTracker]:
    variant = "super_dimp" if name == "dimp" else name
    network, parameters = load_dimp(variant, path).to(device), read_parameters(variant)
    return lambda *_: DiMPTracker(network, parameters)


def load_atom(path: Path) -> BoxNet:
    """Read ATOM's network, for use without training.

    Raises:
        UserError: if the file is not of this network.
    """
    state = _fitting_state(read_torch_file(path, "--tracker_weights"), "atom", path)
    return fill(BoxNet("resnet18"), state)


def load_dimp(name: str, path: Path) -> DiMPNet:
    """Read a network of the DiMP family, for use without training.

    Args:
        name: one of `NETWORKS`.
        path: of the official file.

    Raises:
        UserError: if the file is not of this network.
    """
    content = read_torch_file(path, "--tracker_weights")
    state, recorded = _fitting_state(content, name, path), _recorded(content.get("constructor"), name, path)
    backbone, optimizer = NETWORKS[name]
    values = {
        ours: recorded[theirs] for theirs, ours in _RECORDED[optimizer].items() if recorded.get(theirs) is not None
    }
    return fill(DiMPNet(backbone, optimizer(**values)), state)


def fill(network: Network, state: Mapping[str, Tensor]) -> Network:
    """Fill a network with all its parameters, for use without training; counters of batch norms may be missing.

    Batch norms stay layers of their own: folded into the convolutions they would save a twentieth of a frame's time,
    and round otherwise, which moves a box of a golden trace by 0.2 px where the box search meets a kink.
    """
    counts = {key: value for key, value in network.state_dict().items() if key.endswith(_COUNTER)}
    network.load_state_dict(counts | dict(state))
    return network.requires_grad_(False).eval()


def _fitting_state(content: Mapping[Any, Any], name: str, path: Path) -> dict[str, Tensor]:
    state = content.get("net")
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(
            f"`--tracker_weights`: {path} holds no `net` of named tensors; give the authors' file of --tracker {name}."
        )
    used = {k: v for k, v in state.items() if not k.startswith(_NEVER_RUN) and not k.endswith(_COUNTER)}
    require_fit(path, name, used, _MAKERS)
    return used


def _make(name: str) -> BoxNet:
    if name == "atom":
        return BoxNet("resnet18")
    backbone, optimizer = NETWORKS[name]
    return DiMPNet(backbone, optimizer())


_MAKERS = {name: partial(_make, name) for name in (*NETWORKS, "atom")}


def _recorded(constructor: object, name: str, path: Path) -> dict[str, Any]:
    values = getattr(constructor, "kwds", None) if isinstance(constructor, ForeignObject) else None
    if not isinstance(values, dict):
        return {}
    for key, value in _REQUIRED.items():
        if values.get(key, value) != value:
            raise UserError(
                f"`--tracker_weights`: {path} records {key} = {values[key]!r}; the published networks of {name} have "
                f"{value!r}, and no other is known here."
            )
    return values
