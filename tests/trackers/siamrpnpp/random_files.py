"""Files of the authors' kind with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from alpharefine.trackers.siamrpnpp import VARIANTS
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp


def random_state(name: str = "siamrpnpp-alex", seed: int = 0) -> dict[str, torch.Tensor]:
    """Parameters of a tracker's network; scores differ from place to place, and boxes stay near their anchors."""
    variant = VARIANTS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SiamRPNpp(variant.backbone, variant.neck_channels, variant.weighted)
        for key, value in network.named_parameters():
            if value.dim() == 4:
                torch.nn.init.kaiming_normal_(value)
            if key in ("backbone.features.0.weight", "rpn_head.cls.head.0.weight", "rpn_head.loc.head.0.weight"):
                value.data *= 0.01  # pixels are not normalized, and correlations are large
            if key == "rpn_head.loc.head.3.weight":
                value.data *= 0.1
    return network.state_dict()


def save_random(folder: Path, name: str = "siamrpnpp-alex", seed: int = 0) -> Path:
    path = folder / "model.pth"
    torch.save(random_state(name, seed), path)
    return path
