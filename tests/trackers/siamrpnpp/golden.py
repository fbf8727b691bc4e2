"""Networks of SiamRPN++ with the deterministic weights of the golden vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from alpharefine.trackers.siamrpnpp.loading import load_network
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp
from tests.golden.make_siamrpnpp_weights import golden_state_dict
from tests.golden.make_weights import checksum

MODELS = {"r50": "siamrpnpp", "r50_lt": "siamrpnpp-lt", "alex": "siamrpnpp-alex", "mobilev2": "siamrpnpp-mobilev2"}
"""Name in the golden vectors to name of the tracker."""


class Networks(dict[str, SiamRPNpp]):
    """Networks by name; each is read from a file as its authors would have written it when it is first used.

    Args:
        golden: Folder of the golden vectors.
        scratch: Folder for the file.
    """

    def __init__(self, golden: Path, scratch: Path) -> None:
        super().__init__()
        self._golden, self._scratch = golden, scratch
        with np.load(golden / "portable_siamrpnpp.npz") as arrays:
            self._checksums = dict(zip(arrays["model"].tolist(), arrays["weights_crc32"].tolist(), strict=True))

    def __missing__(self, model: str) -> SiamRPNpp:
        state = golden_state_dict(json.loads((self._golden / f"siamrpnpp_keys_{model}.json").read_text()))
        assert checksum(state.values()) == self._checksums[model]
        path = self._scratch / "model.pth"
        torch.save(state, path, _use_new_zipfile_serialization=False)
        self[model] = load_network(MODELS[model], path)
        path.unlink()
        return self[model]
