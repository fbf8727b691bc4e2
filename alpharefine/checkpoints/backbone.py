"""Pretrained weights of the backbone, from torchvision or from a file with its parameter names."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import cast

import torchvision
from torch import Tensor

from alpharefine.checkpoints.files import read_weight_file
from alpharefine.checkpoints.fit import require_finite
from alpharefine.checkpoints.state_dicts import find_state
from alpharefine.errors import UserError
from alpharefine.models import Backbone, BackboneName

_OPTION = "backbone_weights"

_PREFIXES = ("backbone.", "feature_extractor.")
"""Prefixes of the backbone in refinement networks and in trackers."""

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
    """Read the state dict of a classifier, or of the backbone of a refinement network.

    Args:
        path: Path of a ``.safetensors`` file or a torch file, see `read_weight_file`.

    Raises:
        UserError: If the file is missing, or does not hold named tensors in one of the two formats.
    """
    if not Path(path).is_file():
        raise UserError(f"`{_OPTION}`: no file {path}; give 'imagenet', an existing file, or null.")
    state = find_state(read_weight_file(Path(path), _OPTION).content, f"`{_OPTION}`: {path}")
    prefix = next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in state)), "")
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_backbone_weights(backbone: Backbone, name: BackboneName, source: str) -> None:
    """Load pretrained weights into a backbone.

    Args:
        backbone: Backbone, changed in place.
        name: Name of its classifier.
        source: ``imagenet`` for torchvision's weights, else the path of a file with torchvision's names.

    Raises:
        UserError: If the file is missing or unreadable, holds another network, or a weight is not finite.
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
    require_finite(backbone.state_dict(), f"`{_OPTION}`: {source}")
