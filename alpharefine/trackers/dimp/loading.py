"""From an official file to a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

import torch
from torch import Tensor

from alpharefine.checkpoints.files import Record, read_torch_file
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

_NEVER_RUN = ("feature_extractor.layer4.", "feature_extractor.fc.")
_REASON_LENGTH = 300

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


def dimp_source(name: str, path: Path, device: str) -> TrackerSource:
    """A tracker of the DiMP family.

    Args:
        name: one of `NETWORKS`, or ``dimp`` for ``super_dimp``, which Alpha-Refine's authors refined as ARDiMP.
        path: of the official file.
        device: ``auto`` takes the graphics card where there is one.

    Raises:
        UserError: if the file is not that of this tracker.
    """
    variant = "super_dimp" if name == "dimp" else name
    network, parameters = load_dimp(variant, path, device), read_parameters(variant)
    return TrackerSource(
        name,
        accepts_feedback=True,
        needs_frames=True,
        gives_score=True,
        open=lambda *_: DiMPTracker(network, parameters),
    )


def atom_source(name: str, path: Path, device: str) -> TrackerSource:
    """ATOM.

    Args:
        name: as asked for.
        path: of the official file.
        device: ``auto`` takes the graphics card where there is one.

    Raises:
        UserError: if the file is not ATOM's.
    """
    content = read_torch_file(path, "--tracker_weights")
    network, parameters = fill(BoxNet("resnet18"), content, name, path, device), read_atom_parameters()
    return TrackerSource(
        name,
        accepts_feedback=True,
        needs_frames=True,
        gives_score=True,
        open=lambda *_: ATOMTracker(network, parameters),
    )


def load_dimp(name: str, path: Path, device: str = "cpu") -> DiMPNet:
    """Read a network of the DiMP family.

    Args:
        name: one of `NETWORKS`.
        path: of the official file.
        device: to put it on.

    Raises:
        UserError: if the file is not of this network.
    """
    content = read_torch_file(path, "--tracker_weights")
    backbone, optimizer = NETWORKS[name]
    values = _recorded(content.get("constructor"), name, path)
    ours = {ours: values[theirs] for theirs, ours in _RECORDED[optimizer].items() if values.get(theirs) is not None}
    network = DiMPNet(backbone, optimizer(**ours))
    return fill(network, content, name, path, device)


def fill(network: Network, content: Mapping[Any, Any], name: str, path: Path, device: str) -> Network:
    """Fill a network with the parameters of an official file, for use without training.

    Args:
        network: to fill.
        content: of the file.
        name: of the tracker, for messages.
        path: of the file, for messages.
        device: to put the network on; ``auto`` takes the graphics card where there is one.

    Raises:
        UserError: if a parameter is missing, unknown or of another shape.
    """
    state = content.get("net")
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(f"--tracker_weights: {path} holds no `net` of named tensors; give the official file of {name}.")
    used = {key: value for key, value in state.items() if not key.startswith(_NEVER_RUN)}
    # Files of old versions of torch do not count batches.
    counts = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(counts | used)
    except RuntimeError as error:
        reason = shorten(str(error), _REASON_LENGTH)
        raise UserError(f"--tracker_weights: {path} does not hold the network of {name} ({reason}).") from error
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return network.requires_grad_(False).eval().to(device)


def _recorded(constructor: object, name: str, path: Path) -> dict[str, Any]:
    values = getattr(constructor, "kwds", None) if isinstance(constructor, Record) else None
    if not isinstance(values, dict):
        return {}
    for key, value in _REQUIRED.items():
        if values.get(key, value) != value:
            raise UserError(
                f"--tracker_weights: {path} records {key} = {values[key]!r}; the published networks of {name} have "
                f"{value!r}, and no other is known here."
            )
    return values
