"""Check that a file holds the parameters of a network, and that they are finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from alpharefine.errors import UserError

_COUNTER = ".num_batches_tracked"
"""Suffix of the step counters of batch norms; files from before torch 0.4.1 do not have them."""

_MAX_NAME = 100

Shapes = dict[str, tuple[int, ...]]


def require_fit(
    path: Path, tracker: str, state: Mapping[str, Tensor], networks: Mapping[str, Callable[[], nn.Module]]
) -> None:
    """Require the names and shapes of the parameters of a network, and finite values.

    Step counters of batch norms are ignored.

    Args:
        path: Path of the file, for the message.
        tracker: Name of the tracker whose network is expected, a key of `networks`.
        state: Tensors in the file.
        networks: Constructors of the networks of all trackers whose file it could be, by their names.

    Raises:
        UserError: If they differ. The message names the trackers whose network it is.
    """
    place = f"`--tracker_weights`: {path}"
    found, expected = shapes(state), _shapes_of(networks[tracker])
    if found == expected:
        require_finite(state, place)
        return
    names = [name for name, network in networks.items() if _shapes_of(network) == found]
    belongs_to = f": it is that of {' or '.join(names)}" if names else ""
    raise UserError(
        f"{place} does not hold the network of --tracker {tracker} ({difference(expected, found)}){belongs_to}; give "
        "the file of that tracker's authors."
    )


def require_finite(state: Mapping[str, Tensor], place: str) -> None:
    """Require that all values of all tensors are finite.

    Args:
        state: Tensors whose shapes were checked: a file can describe a tensor of any size.
        place: Option and path of the file, for messages.

    Raises:
        UserError: If a value is not finite. The message names the first tensor with such values.
    """
    for name, tensor in state.items():
        num_bad = int(tensor.numel() - tensor.isfinite().sum())
        if num_bad:
            raise UserError(
                f"{place}: {num_bad:,} of {tensor.numel():,} values of `{name[:_MAX_NAME]}` are not finite; training "
                "diverged, or the file is damaged. Give another checkpoint."
            )


def shapes(state: Mapping[str, Tensor]) -> Shapes:
    """Return the shapes of tensors by their names, without the step counters of batch norms.

    Args:
        state: State dict.
    """
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}


def difference(expected: Shapes, found: Shapes) -> str:
    """Describe how the parameters in a file differ from those of a network.

    Args:
        expected: Shapes of the parameters of the network.
        found: Shapes of the parameters in the file.
    """

    def described(kind: str, keys: list[str], describe: Callable[[str], object]) -> str:
        return f"{len(keys)} {kind}, such as {describe(keys[0])}" if keys else ""

    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    reshaped = [key for key in expected if key in found and found[key] != expected[key]]
    parts = (
        described("missing", missing, str),
        described("unknown", unknown, lambda key: key[:_MAX_NAME]),
        described("of another shape", reshaped, lambda key: f"{key} {found[key]} in place of {expected[key]}"),
    )
    return "; ".join(part for part in parts if part)


def _shapes_of(make_network: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return shapes(make_network().state_dict())
