"""Random tensors, and random choice of frames of a `CropStore`, on the device of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alpharefine.data.crop_store import CropStore
from alpharefine.errors import UserError


class Draws:
    """Random tensors on the device of a generator.

    Args:
        generator: Random generator.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw from a uniform distribution.

        Args:
            shape: Shape of the tensor.
            low: Lower bound.
            high: Upper bound.
        """
        return torch.rand(*shape, generator=self.generator, device=self.generator.device) * (high - low) + low

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        """Draw from a normal distribution with mean 0.

        Args:
            shape: Shape of the tensor.
            std: Standard deviation.
        """
        return torch.randn(*shape, generator=self.generator, device=self.generator.device) * std

    def below(self, prob: float, *shape: int) -> Tensor:
        """Draw booleans.

        Args:
            prob: Probability of True.
            shape: Shape of the tensor.
        """
        return self.uniform(*shape) < prob


class Frames(NamedTuple):
    """Frames with their targets.

    Attributes:
        pixels: RGB images with values 0 to 255 and masks with values 0 to 1, shape ``(B, 4, S, S)``, float32.
        boxes_xyxy: Boxes of shape ``(B, 4)``, float32, in pixels.
        has_mask: Boolean tensor of shape ``(B,)``, True for frames with a mask.
    """

    pixels: Tensor
    boxes_xyxy: Tensor
    has_mask: Tensor


class Choice:
    """Random choice of sequences of a store by the weights of their sources.

    Args:
        store: Crop store.
        weights: Weight of each source, distributed over its sequences. Sources without a weight are not drawn.
        keep: Function that returns True for the indices of sequences that may be drawn.

    Raises:
        UserError: If no sequence may be drawn.
    """

    def __init__(self, store: CropStore, weights: Mapping[str, float], keep: Callable[[int], bool]) -> None:
        sources = [store.source_of(n) for n in range(len(store.names))]
        probs = np.array([weights.get(source, 0.0) * keep(n) for n, source in enumerate(sources)])
        for source in weights:
            members = np.array([s == source for s in sources]) & (probs > 0)
            probs[members] /= max(members.sum(), 1)
        if probs.sum() <= 0:
            raise UserError(
                f"The crop store holds no sequence to draw of {', '.join(weights) or 'no source'}; check the weights."
            )
        self._probs = torch.tensor(probs / probs.sum(), dtype=torch.float32, device=store.pixels.device)
        self._starts = store.starts

    def frames(self, num: int, max_gap: int, draw: Draws) -> tuple[Tensor, Tensor]:
        """Draw the indices of template and search frames, each of shape ``(B,)``.

        Args:
            num: Number of pairs B.
            max_gap: Maximum number of stored frames between template and search frame.
            draw: Random tensors.
        """
        sequences = torch.multinomial(self._probs, num, replacement=True, generator=draw.generator)
        first, last = self._starts[sequences], self._starts[sequences + 1] - 1
        template = first + (draw.uniform(num) * (last - first + 1)).long().clamp(max=last - first)
        low, high = torch.maximum(template - max_gap, first), torch.minimum(template + max_gap, last)
        search = low + (draw.uniform(num) * (high - low + 1)).long()
        return template, torch.minimum(search, high)
