"""Networks of the DiMP family with the deterministic weights of the golden vectors, and their two sequences."""

from __future__ import annotations

import importlib.util
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from alpharefine.trackers.dimp.loading import NETWORKS, fill
from alpharefine.trackers.dimp.network import BoxNet, DiMPNet

NEVER_RUN = ("feature_extractor.layer4.", "feature_extractor.fc.")


def golden_state(golden: Path, model: str) -> dict[str, torch.Tensor]:
    """The weights of a model under the authors' names."""
    spec = importlib.util.spec_from_file_location("make_tracker_weights", golden / "make_tracker_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shapes = json.loads((golden / f"tracker_shapes_{model}.json").read_text())
    used = {key: shape for key, shape in shapes.items() if not key.startswith(NEVER_RUN)}
    return {key: torch.from_numpy(value) for key, value in module.golden_state_dict(used, model).items()}


def golden_network(golden: Path, model: str) -> DiMPNet:
    """A network of the DiMP family."""
    backbone, optimizer = NETWORKS[model]
    return fill(DiMPNet(backbone, optimizer()), golden_state(golden, model))


def golden_box_net(golden: Path) -> BoxNet:
    """ATOM's network."""
    return fill(BoxNet("resnet18"), golden_state(golden, "atom"))


def golden_frames(golden: Path, sequence: str) -> tuple[list[np.ndarray], np.ndarray]:
    """RGB frames and the true boxes ``(8, 4)`` of sequence ``a`` or ``b``."""
    with np.load(golden / f"tracker_seq_{sequence}.npz") as arrays:
        data, offsets, gt_xywh = arrays["png_bytes"], arrays["png_offsets"], arrays["gt_xywh"]
    return [cv2.imdecode(data[a:b], cv2.IMREAD_COLOR_RGB) for a, b in pairwise(offsets)], gt_xywh


def read_arrays(path: Path) -> dict[str, Any]:
    """All arrays of a file."""
    with np.load(path) as arrays:
        return dict(arrays)


def as_originally_set(box_xywh: np.ndarray) -> np.ndarray:
    """The box that Alpha-Refine's code sets where it means another: the golden traces hand boxes back by that code."""
    return box_xywh + np.array([0.5, 0.5, 0, 0])
