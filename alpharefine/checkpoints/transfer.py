"""Transfer of weights between networks that share a backbone and a neck."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from alpharefine.errors import UserError
from alpharefine.models import AlphaRefineNet

_CONFIG_NAMES = {"backbone": ("backbone",), "neck": ("neck", "spatial_attention")}


class Transfer(NamedTuple):
    """Parts of the target network and of the source network of a transfer.

    Attributes:
        loaded: Parts whose weights were loaded.
        initialized: Parts that only the target network has; their weights are unchanged.
        unused: Parts that only the source network has.
    """

    loaded: list[str]
    initialized: list[str]
    unused: list[str]

    def __str__(self) -> str:
        return "; ".join(f"{kind} {', '.join(parts) or 'nothing'}" for kind, parts in self._asdict().items())


def transfer_weights(target: AlphaRefineNet, source: AlphaRefineNet, place: str) -> Transfer:
    """Load the weights of the parts that two networks share.

    Backbone and neck are always shared: their parameters must have the same names and shapes. A head is shared if both
    networks have the same kind of it.

    Args:
        target: Network that receives the weights; changed in place.
        source: Network that provides the weights.
        place: Option and path of the source's file, for messages.

    Raises:
        UserError: If the backbones or the necks differ.
    """
    for part, options in _CONFIG_NAMES.items():
        if _shapes(getattr(target, part)) != _shapes(getattr(source, part)):
            values = " ".join(f"--model.{name} {getattr(source.config, name)}" for name in options)
            raise UserError(
                f"{place}: the {part} of its network ({source.config}) does not fit that of the network to train "
                f"({target.config}); use `{values}`, or another checkpoint."
            )
    transfer = Transfer(list(_CONFIG_NAMES), [], [])
    for head in ("corner_head", "mask_head", "quality_head"):
        ours, theirs = getattr(target, head), getattr(source, head)
        is_same = getattr(target.config, head) == getattr(source.config, head)
        if ours is not None and theirs is not None and is_same:
            transfer.loaded.append(head)
        else:
            transfer.initialized.extend([f"{head} {getattr(target.config, head)}"] if ours is not None else [])
            transfer.unused.extend([f"{head} {getattr(source.config, head)}"] if theirs is not None else [])
    for part in transfer.loaded:
        getattr(target, part).load_state_dict(getattr(source, part).state_dict())
    return transfer


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}
