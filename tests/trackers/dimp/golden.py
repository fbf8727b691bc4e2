"""Networks of the DiMP family with the deterministic weights of the golden vectors, and their two sequences."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from alpharefine.trackers.dimp.loading import NETWORKS, fill
from alpharefine.trackers.dimp.network import BoxNet, DiMPNet
from tests.golden.make_tracker_weights import golden_state_dict

NEVER_RUN = ("feature_extractor.layer4.", "feature_extractor.fc.")
CROP_SIZES = {"dimp18": 288, "dimp50": 288, "prdimp18": 288}
SHARED_BY_TRACES = ("init_feat_slice", "proj_init", "gn5/proj", "upsampled_frame1_stride3")


def golden_state(golden: Path, model: str) -> dict[str, torch.Tensor]:
    """Return the weights of a model under the authors' names."""
    shapes = json.loads((golden / f"tracker_shapes_{model}.json").read_text())
    used = {key: shape for key, shape in shapes.items() if not key.startswith(NEVER_RUN)}
    return golden_state_dict(used, model)


def golden_network(golden: Path, model: str) -> DiMPNet:
    """Return a network of the DiMP family."""
    backbone, optimizer = NETWORKS[model]
    return fill(DiMPNet(backbone, optimizer()), golden_state(golden, model))


def golden_box_net(golden: Path) -> BoxNet:
    """Return ATOM's network."""
    return fill(BoxNet("resnet18"), golden_state(golden, "atom"))


def golden_frames(golden: Path, sequence: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the RGB frames and the true boxes ``(8, 4)`` of sequence ``a`` or ``b``."""
    arrays = read_arrays(golden / f"tracker_seq_{sequence}.npz")
    return decoded(arrays), arrays["gt_xywh"]


def golden_crops(golden: Path, model: str) -> torch.Tensor:
    """Return the crops ``(3, 3, S, S)`` that a model is tested on; the third is the first one mirrored."""
    first, second = decoded(read_arrays(golden / f"tracker_crops_{CROP_SIZES.get(model, 352)}.npz"))
    return torch.from_numpy(np.stack([first, second, first[:, ::-1]])).permute(0, 3, 1, 2).float()


def decoded(arrays: dict[str, Any]) -> list[np.ndarray]:
    """Return the RGB pictures of a file that holds PNG files."""
    data = arrays["png_bytes"]
    return [cv2.imdecode(data[a:b], cv2.IMREAD_COLOR_RGB) for a, b in pairwise(arrays["png_offsets"])]


def atom_arrays(golden: Path) -> dict[str, Any]:
    """Return all arrays of ATOM's traces; those on sequence ``a`` begin alike and share the first frame's arrays."""
    arrays = read_arrays(golden / "tracker_atom.npz")
    shared = {f"{trace}/{key}": f"a_det/{key}" for trace in ("a_overwrite", "a_train") for key in SHARED_BY_TRACES}
    return arrays | {name: arrays[source] for name, source in shared.items()}


def read_arrays(path: Path) -> dict[str, Any]:
    """Return all arrays of a file."""
    with np.load(path) as arrays:
        return dict(arrays)


def as_originally_set(box_xywh: np.ndarray) -> np.ndarray:
    """Return the box that Alpha-Refine's code sets in place of `box_xywh`; the traces were made with that code."""
    return box_xywh + np.array([0.5, 0.5, 0, 0])
