"""Whether the parameters in a file are those of a tracker's network, and what is wrong if they are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from alpharefine.errors import UserError

_COUNTER = ".num_batches_tracked"
"""Of batch norms while they are trained; files from before torch 0.4.1 have none."""

Shapes = dict[str, tuple[int, ...]]


def require_fit(
    path: Path, tracker: str, state: Mapping[str, Tensor], networks: Mapping[str, Callable[[], nn.Module]]
) -> None:
    """Compare the names and shapes in a file with those of a network; counters of batch norms do not matter.

    Args:
        path: of the file, for the message.
        tracker: whose network it should hold, one of `networks`.
        state: what it holds.
        networks: makes the network of each tracker whose file it could be.

    Raises:
        UserError: if they differ, with the trackers whose network it is.
    """
    found, expected = _shapes(state), _shapes_of(networks[tracker])
    if found == expected:
        return
    names = [name for name, network in networks.items() if _shapes_of(network) == found]
    belongs_to = f": it is that of {' or '.join(names)}" if names else ""
    raise UserError(
        f"`--tracker_weights`: {path} does not hold the network of --tracker {tracker} "
        f"({_difference(expected, found)}){belongs_to}; give its authors' file."
    )


def _shapes_of(make_network: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return _shapes(make_network().state_dict())


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
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
