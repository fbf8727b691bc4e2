"""Networks with the deterministic weights of the golden vectors."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch

from alpharefine.checkpoints.original import from_original_names
from alpharefine.models import AlphaRefineNet, BackboneName, NetworkConfig

BACKBONES: dict[str, BackboneName] = {"ar34_cm": "resnet34", "ar18_cm": "resnet18"}


def golden_state(golden: Path, name: str) -> dict[str, torch.Tensor]:
    """The golden weights under the original's names."""
    return golden_weights(golden, json.loads((golden / f"{name}.json").read_text()))


def golden_weights(golden: Path, shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """The golden weights of any names and shapes."""
    spec = importlib.util.spec_from_file_location("make_weights", golden / "make_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    state: dict[str, torch.Tensor] = module.golden_state_dict(shapes)
    return state


def golden_network(golden: Path, name: str) -> AlphaRefineNet:
    """A network with the golden weights, in training mode."""
    network = AlphaRefineNet(NetworkConfig(BACKBONES[name], geometry="original"))
    network.load_state_dict(from_original_names(golden_state(golden, name)))
    return network


def golden_pairs(golden: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The three template and search crops, (3, 3, 256, 256) uint8 RGB."""
    with np.load(golden / "ar34_cm.npz") as arrays:
        template, search = (torch.from_numpy(arrays[f"{name}_rgb"]) for name in ("template", "search"))
    return template.permute(0, 3, 1, 2), search.permute(0, 3, 1, 2)
