"""Pretrained weights of the backbone: torchvision's own, or a file with its names."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from textwrap import shorten
from typing import cast

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from alpharefine.errors import UserError
from alpharefine.models import BackboneName, Trunk

_UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, struct.error),
    *(RuntimeError, ValueError, EOFError, LookupError, TypeError, AssertionError),
)
"""What the two readers raise for files that are damaged or of another kind."""

_MESSAGE_LENGTH = 200


def imagenet_weights(name: BackboneName) -> dict[str, Tensor]:
    """ImageNet weights of torchvision's first set (``IMAGENET1K_V1``), downloaded once to torch's cache.

    Raises:
        UserError: if they cannot be downloaded.
    """
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    try:
        return cast("dict[str, Tensor]", weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # the second is torch's for a file with a wrong check sum
        raise UserError(
            f"Backbone weights: {weights.url} cannot be downloaded ({error}); fetch it elsewhere and give the file, "
            "or null for random weights."
        ) from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a torch file, executing nothing.

    Raises:
        UserError: if the file is missing, or does not hold named tensors in one of the two forms.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Backbone weights: no file {path}. Give 'imagenet', an existing file, or null.")
    try:
        is_safe = path.suffix == ".safetensors"
        state = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = shorten(f"{type(error).__name__}: {error}", _MESSAGE_LENGTH)
        raise UserError(
            f"Backbone weights: {path} is not a readable .safetensors or torch file ({reason}); fetch it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(f"Backbone weights: {path} must hold named tensors and nothing else; give a state dict.")
    return state


def load_backbone_weights(trunk: Trunk, name: BackboneName, source: str) -> None:
    """Fill a trunk with pretrained weights.

    Args:
        trunk: the network to fill, in place.
        name: which classifier it is of.
        source: ``imagenet`` for torchvision's weights, else the path of a file with torchvision's names.

    Raises:
        UserError: if the file is not of this network.
    """
    state = imagenet_weights(name) if source == "imagenet" else read_weights(source)
    state = {key: value for key, value in state.items() if not key.startswith(trunk.unused_prefixes)}
    try:
        trunk.load_state_dict(state)
    except RuntimeError as error:
        reason = shorten(str(error), _MESSAGE_LENGTH)
        raise UserError(
            f"Backbone weights: {source} does not hold a {name} with torchvision's names ({reason}); give "
            "the weights of that network, or set `backbone` to the one that they belong to."
        ) from error
