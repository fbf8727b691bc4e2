"""From one of the authors' files to a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alpharefine.checkpoints.files import read_torch_file
from alpharefine.errors import UserError
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp, fold_batch_norms
from alpharefine.trackers.siamrpnpp.variants import VARIANTS, Variant

_COUNTER = ".num_batches_tracked"
"""Of batch norms while they are trained; files from before torch 0.4.1 have none."""

Shapes = dict[str, tuple[int, ...]]


def load_network(name: str, path: Path) -> SiamRPNpp:
    """Read a ``model.pth`` or a snapshot of its training.

    Args:
        name: of the tracker.
        path: of the file.

    Returns:
        On the CPU, in evaluation mode, batch norms folded into convolutions.

    Raises:
        UserError: if the file cannot be read or is not of this network.
    """
    state = _weights(read_torch_file(path, option="--tracker_weights"))
    expected = _shapes(VARIANTS[name])
    found: Shapes = {key: tuple(value.shape) for key, value in state.items()}
    if found != expected:
        raise UserError(
            f"`--tracker_weights`: {path} does not hold the network of --tracker {name} "
            f"({_difference(expected, found)}){_belongs_to(found)}; give its authors' file."
        )
    return build_network(VARIANTS[name], state)


def build_network(variant: Variant, state: Mapping[str, Tensor]) -> SiamRPNpp:
    """Make the network of a variant from its parameters, complete but for the counters of batch norms."""
    network = _without_values(variant)
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=False, assign=True)
    network.eval().requires_grad_(False)
    fold_batch_norms(network)
    return network


def _without_values(variant: Variant) -> SiamRPNpp:
    with torch.device("meta"):
        return SiamRPNpp(variant.backbone, variant.neck_channels, variant.weighted)


def _weights(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Names as in released files, whether it is one or a snapshot of training."""
    nested = content.get("state_dict")
    state = nested if isinstance(nested, Mapping) else content
    named = {str(key).removeprefix("module."): value for key, value in state.items()}
    return {key: value for key, value in named.items() if isinstance(value, Tensor) and not key.endswith(_COUNTER)}


def _shapes(variant: Variant) -> Shapes:
    state = _without_values(variant).state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}


def _difference(expected: Shapes, found: Shapes) -> str:
    def told(what: str, keys: list[str], tell: Callable[[str], object]) -> str:
        return f"{len(keys)} {what}, such as {tell(keys[0])}" if keys else ""

    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    reshaped = [key for key in expected if key in found and found[key] != expected[key]]
    parts = (
        told("missing", missing, str),
        told("unknown", unknown, str),
        told("of another shape", reshaped, lambda key: f"{key} {found[key]} in place of {expected[key]}"),
    )
    return "; ".join(part for part in parts if part)


def _belongs_to(found: Shapes) -> str:
    names = [name for name, variant in VARIANTS.items() if _shapes(variant) == found]
    return f": it is that of {' or '.join(names)}" if names else ""
