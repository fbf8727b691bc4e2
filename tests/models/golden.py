"""Networks with the deterministic weights of the golden vectors."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from alpharefine.checkpoints.original import from_original_names
from alpharefine.models import AlphaRefineNet, BackboneName, NetworkConfig
from tests.golden.make_weights import golden_state_dict

BACKBONES: dict[str, BackboneName] = {"ar34_cm": "resnet34", "ar18_cm": "resnet18"}


@lru_cache(maxsize=1)
def golden_state(golden: Path, name: str) -> dict[str, torch.Tensor]:
    """Return the golden weights under the original's names; copy the tensors before changing them."""
    return golden_state_dict(json.loads((golden / f"{name}.json").read_text()))


def golden_network(golden: Path, name: str) -> AlphaRefineNet:
    """Return a network with the golden weights, in training mode."""
    network = AlphaRefineNet(NetworkConfig(BACKBONES[name], geometry="original"))
    network.load_state_dict(from_original_names(golden_state(golden, name)))
    return network


def golden_pairs(pictures: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return three template and search crops of photographs, (3, 3, 256, 256) uint8 RGB."""
    with np.load(pictures / "ar34_cm.npz") as arrays:
        template, search = (torch.from_numpy(arrays[f"{name}_rgb"]) for name in ("template", "search"))
    return template.permute(0, 3, 1, 2), search.permute(0, 3, 1, 2)
