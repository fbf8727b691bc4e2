"""Loading of the authors' files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from alpharefine.checkpoints.files import read_weight_file
from alpharefine.checkpoints.fit import require_fit
from alpharefine.checkpoints.state_dicts import find_state
from alpharefine.models.folding import fold_batch_norms
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp
from alpharefine.trackers.siamrpnpp.variants import VARIANTS, Variant


def load_network(name: str, path: Path) -> SiamRPNpp:
    """Read a ``model.pth`` or a snapshot of its training.

    Args:
        name: Name of the tracker.
        path: Path of the file.

    Returns:
        Network on the CPU in evaluation mode, with batch norms folded into convolutions.

    Raises:
        UserError: If the file cannot be read or is not of this network.
    """
    state = find_state(read_weight_file(path, "--tracker_weights").content, f"`--tracker_weights`: {path}")
    require_fit(path, name, state, {name: partial(_network, variant) for name, variant in VARIANTS.items()})
    return build_network(VARIANTS[name], state)


def build_network(variant: Variant, state: Mapping[str, Tensor]) -> SiamRPNpp:
    """Return the network of a variant in evaluation mode, with batch norms folded into convolutions.

    Args:
        variant: Configuration of the network.
        state: All parameters by name; the counters of batch norms may be missing.
    """
    with torch.device("meta"):
        network = _network(variant)
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=False, assign=True)
    network.eval().requires_grad_(False)
    fold_batch_norms(network)
    return network


def _network(variant: Variant) -> SiamRPNpp:
    return SiamRPNpp(variant.backbone, variant.neck_channels, variant.weighted)
