"""Deterministic weights for the DiMP family and ATOM; see `make_weights` for the principle.

The learned scalars and radial profiles of the filter optimizers have the values of an untrained network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.golden.make_weights import generator_of

GAIN = {"bb_regressor.iou_predictor.weight": 0.02}
"""Name and factor; with larger weights the box refinement diverges."""

CENTERED = r"classifier\.feature_extractor\.\d+\.weight"
"""Names of the convolutions whose mean over the input channels is removed, without which no score peak forms."""


class Untrained(NamedTuple):
    """Values of an untrained filter optimizer; NaN where a model has no such value.

    Attributes:
        step_length: Length of the first step.
        regularization: Weight of the filter's norm.
        sigma: Standard deviation of the label in feature cells.
    """

    step_length: float
    regularization: float
    sigma: float


UNTRAINED = {
    "dimp18": Untrained(0.9, 0.1, 0.25 / 5 * 18),
    "dimp50": Untrained(0.9, 0.1, 0.25 / 5 * 18),
    "super_dimp": Untrained(0.9, 0.1, 0.25 / 6 * 22),
    "prdimp18": Untrained(1.0, 0.05, math.nan),
    "prdimp50": Untrained(1.0, 0.05, math.nan),
    "super_dimp_simple": Untrained(math.nan, 0.1, math.nan),
    "atom": Untrained(math.nan, math.nan, math.nan),
}


def golden_state_dict(shapes: Mapping[str, Sequence[int]], model: str) -> dict[str, Tensor]:
    """Draw all weights of a network.

    Args:
        shapes: Name in the original's state dict to shape.
        model: Name of the network, a key of `UNTRAINED`.

    Returns:
        Name to tensor, in the order of `shapes`.
    """
    state = {}
    for name, shape in shapes.items():
        known = _untrained(name, UNTRAINED[model])
        values = _draw(name, tuple(shape), shapes) if known is None else known.reshape(tuple(shape))
        dtype = np.int64 if name.endswith("num_batches_tracked") else np.float32
        state[name] = torch.from_numpy(np.asarray(values, dtype=dtype))
    return state


def _untrained(name: str, values: Untrained) -> np.ndarray | None:
    distance = np.arange(100, dtype=np.float32).astype(np.float64) * 0.1
    if name.endswith("num_batches_tracked"):
        return np.zeros(())
    if name.endswith("filter_optimizer.log_step_length"):
        return np.array([math.log(values.step_length)])
    if name.endswith(("filter_optimizer.filter_reg", "filter_optimizer.residual_module.filter_reg")):
        return np.array([values.regularization])
    if name.endswith("filter_optimizer.label_map_predictor.weight"):
        label = np.exp(-0.5 * (distance / values.sigma) ** 2)
        return np.asarray(label - label.min())
    if name.endswith("filter_optimizer.target_mask_predictor.0.weight"):
        return np.asarray(3.0 * np.tanh(2.0 - distance))
    if name.endswith("filter_optimizer.spatial_weight_predictor.weight"):
        return np.ones(100)
    return None


def _draw(name: str, shape: tuple[int, ...], shapes: Mapping[str, Sequence[int]]) -> np.ndarray:
    rng = generator_of(name)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) == 1 and name.endswith(".weight"):
        block, layer, _ = name.rsplit(".", 2)
        ends_branch = layer == "bn3" or (layer == "bn2" and f"{block}.bn3.weight" not in shapes)
        return rng.uniform(0.2, 0.4, shape) if ends_branch else rng.uniform(0.5, 1.5, shape)
    values = rng.standard_normal(shape)
    if len(shape) == 1:  # running means and biases
        return values * 0.1
    values = values * (math.sqrt(2 / np.prod(shape[1:])) * GAIN.get(name, 1.0))
    return values - values.mean(axis=1, keepdims=True) if re.fullmatch(CENTERED, name) else values
