"""Deterministic weights for SiamRPN++ networks; see `make_weights` for the principle.

The input is not normalized (0..255) and the correlation is a large sum. The factors in `GAINS` and the removed means
keep the scores within (0, 1) and the standard deviation of the box deltas at a few tenths.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tests.golden.make_weights import generator_of

LAST_NORM = r"backbone\.layer\d+\.(\d+\.bn3|[1-9]\d*\.conv\.7)\.weight"
"""Names of the last batch norm of a residual branch."""

CENTERED = r"rpn_head\..*head\.[03]\.weight"
"""Names of the convolutions whose mean over the input channels is removed."""

LEVEL_WEIGHTS = ("rpn_head.cls_weight", "rpn_head.loc_weight")

GAINS = (
    (r"backbone\.(conv1|features\.0)\.weight", 2.0**-7),  # reads pixels
    (r"backbone\.layer0\.0\.weight", 2.0**-6),  # the same in MobileNetV2
    (r"rpn_head\.rpn2\.(cls|loc)\.head\.0\.weight", 2.0**-9),  # these read the correlation maps
    (r"rpn_head\.rpn3\.(cls|loc)\.head\.0\.weight", 2.0**-10),
    (r"rpn_head\.rpn4\.(cls|loc)\.head\.0\.weight", 2.0**-12),
    (r"rpn_head\.(cls|loc)\.head\.0\.weight", 2.0**-8),  # AlexNet: a single level
    (r"rpn_head\.(rpn\d\.)?cls\.head\.3\.weight", 4.0),
    (r"rpn_head\.(rpn\d\.)?loc\.head\.3\.weight", 0.25),
)
"""Pattern of a name and the factor of its tensor."""


def golden_state_dict(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Draw all weights of a network.

    Args:
        shapes: Name in pysot's state dict to shape.

    Returns:
        Name to tensor, in the order of `shapes`.
    """
    return {name: _tensor(name, tuple(shape)) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    rng = generator_of(name)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", ".bias")):
        values = rng.standard_normal(shape) * 0.1
    elif name in LEVEL_WEIGHTS:
        values = rng.standard_normal(shape)
    elif len(shape) == 1:
        values = rng.uniform(0.2, 0.4, shape) if re.fullmatch(LAST_NORM, name) else rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.standard_normal(shape) * math.sqrt(2 / np.prod(shape[1:]))
        if re.fullmatch(CENTERED, name):
            values = values - values.mean(axis=1, keepdims=True)
    gain = next((factor for pattern, factor in GAINS if re.fullmatch(pattern, name)), 1.0)
    return torch.from_numpy(np.asarray(values * gain, dtype=np.float32))
