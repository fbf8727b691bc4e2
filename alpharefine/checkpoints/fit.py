"""Check that a file holds the parameters of a tracker's network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from alpharefine.errors import UserError

_COUNTER = ".num_batches_tracked"
"""Suffix of the step counters of batch norms; files from before torch 0.4.1 do not have them."""

Shapes = dict[str, tuple[int, ...]]


def require_fit(
    path: Path, tracker: str, state: Mapping[str, Tensor], networks: Mapping[str, Callable[[], nn.Module]]
) -> None:
    """Require that names and shapes in a file equal those of a network; step counters of batch norms are ignored.

    Args:
        path: Path of the file, for the message.
        tracker: Name of the tracker whose network is expected, a key of `networks`.
        state: Tensors in the file.
        networks: Constructors of the networks of all trackers whose file it could be, by their names.

    Raises:
        UserError: If they differ. The message names the trackers whose network it is.
    """
    found, expected = _shapes(state), _shapes_of(networks[tracker])
    if found == expected:
        return
    names = [name for name, network in networks.items() if _shapes_of(network) == found]
    belongs_to = f": it is that of {' or '.join(names)}" if names else ""
    raise UserError(
        f"`--tracker_weights`: {path} does not hold the network of --tracker {tracker} "
        f"({_difference(expected, found)}){belongs_to}; give the file of that tracker's authors."
    )


def _shapes_of(make_network: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return _shapes(make_network().state_dict())


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}


def _difference(expected: Shapes, found: Shapes) -> str:
    def described(kind: str, keys: list[str], describe: Callable[[str], object]) -> str:
        return f"{len(keys)} {kind}, such as {describe(keys[0])}" if keys else ""

    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    reshaped = [key for key in expected if key in found and found[key] != expected[key]]
    parts = (
        described("missing", missing, str),
        described("unknown", unknown, str),
        described("of another shape", reshaped, lambda key: f"{key} {found[key]} in place of {expected[key]}"),
    )
    return "; ".join(part for part in parts if part)
