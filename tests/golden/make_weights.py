"""Deterministic weights for Alpha-Refine networks.

Each tensor is drawn from a generator that is seeded with the CRC-32 of its name, so that no file of random numbers is
needed. All draws are made in float64 and rounded to float32 at the end.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

FACTORS = (
    (r"feature_extractor\.layer[1-4]\.\d+\.bn2\.weight", 0.3),  # last batch norm of each residual branch
    (r"neck\.channel_attention\.fc2\.weight", 0.25),  # keeps the channel gates away from 0 and 1
    (r"corner_head\.conv5_tl\.weight", -1.0),  # puts most top-left corners above and to the left of the other
    (r"mask_head\.post2\.weight", 0.5),  # keeps the mask away from 0 and 1
)
"""Pattern of a name and the factor of its tensor.

Without these factors the residual blocks enlarge the features by a few hundred, the correlation reaches 1e7, and every
soft-argmax and every mask saturates.
"""

OFFSETS = {"mask_head.post2.bias": 1.2}
"""Name and the number added to its tensor; this one keeps the mask near 0.5."""


def generator_of(name: str) -> np.random.RandomState:
    """Return the generator of a tensor.

    Args:
        name: Name of the tensor in the original's state dict.
    """
    return np.random.RandomState(zlib.crc32(name.encode()))


def golden_state_dict(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Draw all weights of a network.

    Args:
        shapes: Name in the original's state dict to shape.

    Returns:
        Name to tensor, in the order of `shapes`.
    """
    reader, reader_factor = _correlation_reader(shapes)
    state = {}
    for name, shape in shapes.items():
        factor = next((factor for pattern, factor in FACTORS if re.fullmatch(pattern, name)), 1.0)
        factor *= reader_factor if name == reader else 1.0
        state[name] = _tensor(name, tuple(shape), factor)
    return state


def checksum(tensors: Iterable[Tensor]) -> int:
    """Return the CRC-32 of the little-endian bytes of all tensors.

    Args:
        tensors: Tensors in the order of the list of names.
    """
    crc = 0
    for tensor in tensors:
        array = tensor.numpy()
        crc = zlib.crc32(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes(), crc)
    return crc


def _correlation_reader(shapes: Mapping[str, Sequence[int]]) -> tuple[str, float]:
    """Return name and factor of the convolution that reads the correlation, a large sum of products of features."""
    adjust = shapes.get("neck.adjust_layer.0.weight")
    if adjust is not None:  # naive or depthwise correlation
        return "neck.adjust_layer.0.weight", 2.0 ** (-19 if adjust[1] == 1 else -12)
    is_resnet34 = "feature_extractor.layer3.5.conv1.weight" in shapes
    return "neck.post_corr.0.weight", 2.0 ** (-11 if is_resnet34 else -9)


def _tensor(name: str, shape: tuple[int, ...], factor: float) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    rng = generator_of(name)
    if name.endswith(("running_mean", ".bias")):
        values = rng.standard_normal(shape) * 0.1
    elif name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(".weight"):
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    else:
        raise ValueError(f"No rule for the tensor {name!r}.")
    return torch.from_numpy(np.asarray(values * factor + OFFSETS.get(name, 0.0), dtype=np.float32))
