"""Pretrained weights of the backbone, from torchvision or from a file with its parameter names."""

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
from alpharefine.models import Backbone, BackboneName

_UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, struct.error),
    *(RuntimeError, ValueError, EOFError, LookupError, TypeError, AssertionError),
)
"""Exceptions of the two readers for damaged files and files of another kind."""

_MESSAGE_LENGTH = 200


def imagenet_weights(name: BackboneName) -> dict[str, Tensor]:
    """Return torchvision's first ImageNet weights (``IMAGENET1K_V1``), downloaded once to torch's cache.

    Args:
        name: Name of the classifier.

    Raises:
        UserError: If the weights cannot be downloaded.
    """
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    try:
        return cast("dict[str, Tensor]", weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a wrong check sum
        raise UserError(
            f"`backbone_weights`: {weights.url} cannot be downloaded ({error}); download it elsewhere and give the "
            "file, or null for random weights."
        ) from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a torch file, without running code in it.

    Args:
        path: Path of the file.

    Raises:
        UserError: If the file is missing, or does not hold named tensors in one of the two formats.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"`backbone_weights`: no file {path}; give 'imagenet', an existing file, or null.")
    try:
        is_safe = path.suffix == ".safetensors"
        state = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = shorten(f"{type(error).__name__}: {error}", _MESSAGE_LENGTH)
        raise UserError(
            f"`backbone_weights`: {path} is not a readable .safetensors or torch file ({reason}); download it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(f"`backbone_weights`: {path} must hold named tensors and nothing else; give a state dict.")
    return state


def load_backbone_weights(backbone: Backbone, name: BackboneName, source: str) -> None:
    """Load pretrained weights into a backbone.

    Args:
        backbone: Backbone, changed in place.
        name: Name of its classifier.
        source: ``imagenet`` for torchvision's weights, else the path of a file with torchvision's names.

    Raises:
        UserError: If the file is missing or unreadable, or holds another network.
    """
    state = imagenet_weights(name) if source == "imagenet" else read_weights(source)
    state = {key: value for key, value in state.items() if not key.startswith(backbone.unused_prefixes)}
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        reason = shorten(str(error), _MESSAGE_LENGTH)
        raise UserError(
            f"`backbone_weights`: {source} does not hold a {name} with torchvision's names ({reason}); give the "
            "weights of that network, or set `backbone` to the network of the file."
        ) from error
