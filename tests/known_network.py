"""Network with known predictions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alpharefine import Refiner
from alpharefine.models import Corners, Prediction

FRAME = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
BOX = np.array([100.0, 80.0, 40.0, 30.0])  # its window: x 80..160, y 65..125


class KnownNetwork(nn.Module):
    """Returns the given predictions and records its inputs."""

    geometry = "exact"
    backbone = corner_head = mask_head = None  # without layers

    def __init__(self, crop_xyxy: Any = None, mask_prob: Any = None, peak_logit: float = 3.0) -> None:
        super().__init__()
        self.crop_xyxy, self.mask_prob = crop_xyxy, mask_prob
        self.heads = tuple(name for name, given in (("corner", crop_xyxy), ("mask", mask_prob)) if given is not None)
        self.scores = torch.zeros(2, 16, 16)
        self.scores[:, 3, 3] = peak_logit
        self.templates: list[Tensor] = []
        self.calls: list[tuple[Tensor, Tensor, tuple[str, ...]]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> KnownNetwork:
        """The refiner runs a copy; this is to be the network that records."""
        return self

    def encode_template(self, templates: Tensor, _target_xyxy: Tensor) -> Tensor:
        self.templates.append(templates)
        return templates.float().mean(dim=(2, 3))

    def forward(self, search: Tensor, kernel: Tensor, heads: Collection[str]) -> Prediction:
        self.calls.append((search, kernel, tuple(heads)))
        corners = mask_logits = None
        if "corner" in heads:
            crop_xyxy = torch.as_tensor(self.crop_xyxy, dtype=torch.float32).expand(len(search), 4)
            corners = Corners(crop_xyxy, self.scores.expand(len(search), 2, 16, 16))
        if "mask" in heads:
            prob = torch.as_tensor(self.mask_prob, dtype=torch.float64)
            mask_logits = prob.logit().float().expand(len(search), 256, 256)
        return Prediction(corners, mask_logits)


def started(network: Any, **kwargs: Any) -> Refiner:
    """Refiner initialized with BOX in FRAME."""
    refiner = Refiner.from_network(network, "cpu", **kwargs)
    refiner.initialize(FRAME, BOX)
    return refiner
