"""Loading of the authors' files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from alpharefine.checkpoints.files import ForeignObject, read_weight_file
from alpharefine.checkpoints.fit import require_fit
from alpharefine.checkpoints.state_dicts import find_state
from alpharefine.errors import UserError
from alpharefine.models.device import select_device
from alpharefine.trackers.dimp.atom import ATOMTracker
from alpharefine.trackers.dimp.network import BoxNet, DiMPNet, TrackerBackbone
from alpharefine.trackers.dimp.optimizers import DiMPOptimizer, FilterOptimizer, HingeOptimizer, PrDiMPOptimizer
from alpharefine.trackers.dimp.parameters import read_atom_parameters, read_parameters
from alpharefine.trackers.dimp.tracker import DiMPTracker
from alpharefine.trackers.entry import LoadedTracker, TrackerRequest

NETWORKS: dict[str, tuple[TrackerBackbone, type[FilterOptimizer]]] = {
    "dimp18": ("resnet18", DiMPOptimizer),
    "dimp50": ("resnet50", DiMPOptimizer),
    "prdimp18": ("resnet18", PrDiMPOptimizer),
    "prdimp50": ("resnet50", PrDiMPOptimizer),
    "super_dimp": ("resnet50", DiMPOptimizer),
    "super_dimp_simple": ("resnet50", HingeOptimizer),
}
"""Backbone and filter optimizer by the name of the tracker."""

Network = TypeVar("Network", bound=BoxNet)

_COUNTER = ".num_batches_tracked"
"""Suffix of the counters of batch norms, which are used in training only; old files have none."""

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
"""Constructor arguments in a file that are the same for all published networks and are not configurable here."""

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
"""Constructor arguments in a file that are not parameters of the network, and their names here."""


def load(request: TrackerRequest) -> LoadedTracker:
    """Read the network of ATOM or of a tracker of the DiMP family, once for all sequences.

    Args:
        request: Request with the tracker's official file and its name: ``atom``, one of `NETWORKS`, or ``dimp``, the
            name of ``super_dimp`` as the base tracker of ARDiMP.

    Raises:
        UserError: If the file cannot be read or is not of this tracker.
    """
    (path,), device = request.weights, select_device(request.device)
    if request.name == "atom":
        box_net, atom_parameters = load_atom(path).to(device), read_atom_parameters()
        return LoadedTracker(lambda _: ATOMTracker(box_net, atom_parameters))
    variant = "super_dimp" if request.name == "dimp" else request.name
    network, parameters = load_dimp(variant, path).to(device), read_parameters(variant)
    return LoadedTracker(lambda _: DiMPTracker(network, parameters))


def load_atom(path: Path) -> BoxNet:
    """Read ATOM's network for inference.

    Args:
        path: Path of the official file.

    Raises:
        UserError: If the file is not of this network.
    """
    state = _fitting_state(read_weight_file(path, "--tracker_weights").content, "atom", path)
    return fill(BoxNet("resnet18"), state)


def load_dimp(name: str, path: Path) -> DiMPNet:
    """Read a network of the DiMP family for inference.

    Args:
        name: Name of one of `NETWORKS`.
        path: Path of the official file.

    Raises:
        UserError: If the file is not of this network.
    """
    content = read_weight_file(path, "--tracker_weights").content
    state, recorded = _fitting_state(content, name, path), _recorded(content.get("constructor"), name, path)
    backbone, optimizer = NETWORKS[name]
    values = {
        ours: recorded[theirs] for theirs, ours in _RECORDED[optimizer].items() if recorded.get(theirs) is not None
    }
    return fill(DiMPNet(backbone, optimizer(**values)), state)


def fill(network: Network, state: Mapping[str, Tensor]) -> Network:
    """Fill a network with all its parameters for inference; the counters of batch norms may be missing.

    Batch norms are not folded into the convolutions. Folding would save 5 % of the time of a frame, but its rounding
    moves a box of a golden trace by 0.2 px.

    Args:
        network: Network to fill; it is changed in place.
        state: Parameters by name.

    Returns:
        The network in evaluation mode, without gradients of its parameters.
    """
    counts = {key: value for key, value in network.state_dict().items() if key.endswith(_COUNTER)}
    network.load_state_dict(counts | dict(state))
    return network.requires_grad_(False).eval()


def _fitting_state(content: Mapping[Any, Any], name: str, path: Path) -> dict[str, Tensor]:
    state = find_state(content, f"`--tracker_weights`: {path}")
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
