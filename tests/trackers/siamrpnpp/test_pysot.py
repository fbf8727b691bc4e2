"""Crops, networks and whole runs of pysot with the deterministic weights of the golden vectors."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from alpharefine.trackers import TrackState
from alpharefine.trackers.siamese import AnchorGrid, target_prob
from alpharefine.trackers.siamrpnpp import VARIANTS, LostSearch, SiamRPNppTracker, Variant, tracker
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp

from .golden import MODELS

pytestmark = pytest.mark.parity

PUBLISHED_TRACES = ("r50", "alex", "lt")
HALF_PIXEL = np.array([0.5, 0.5, 0.0, 0.0])
"""The traces call pysot's `init` with x + 0.5, y + 0.5 of the annotation, as its and Alpha-Refine's run loops do."""

LEVEL_WEIGHTS = ("rpn_head.cls_weight", "rpn_head.loc_weight")

Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def vectors(shared: Path) -> Path:
    """Return the folder of the golden vectors made from photographs."""
    return shared / "golden"


def load(golden: Path, name: str) -> Arrays:
    with np.load(golden / f"siamrpnpp_{name}.npz") as arrays:
        return dict(arrays)


# ---- pieces --------------------------------------------------------------------------------------------------------


def test_parameters_of_every_variant_are_those_of_its_file(golden: Path) -> None:
    keys = {name: json.loads((golden / f"siamrpnpp_keys_{model}.json").read_text()) for model, name in MODELS.items()}
    keys["siamrpnpp-otb"] = {k: v for k, v in keys["siamrpnpp"].items() if k not in LEVEL_WEIGHTS}
    keys["siamrpnpp-alex-otb"] = keys["siamrpnpp-alex"]
    assert keys.keys() == VARIANTS.keys()
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            state = SiamRPNpp(variant.backbone, variant.neck_channels, variant.weighted).state_dict()
        assert {key: list(value.shape) for key, value in state.items()} == keys[name]


def test_crops_are_those_of_pysot(vectors: Path) -> None:
    arrays = load(vectors, "crops")
    cases = list(zip(arrays["case_names"], arrays["case_pos"], arrays["case_sizes"], strict=True))
    assert len(cases) == 17
    for name, center, (crop_size, side) in cases:
        crop = tracker.cut_around(arrays["image"], center, int(side), int(crop_size), arrays["avg_chans"].tolist())
        np.testing.assert_array_equal(crop.transpose(2, 0, 1)[None], arrays[f"crop_{name}"], err_msg=name)


@pytest.mark.parametrize(("size", "every"), [(21, 1), (25, 1), (97, 97)])
def test_anchors_are_those_of_pysot(golden: Path, size: int, every: int) -> None:
    grid = AnchorGrid(np.zeros((size, size)))
    expected = load(golden, "anchors")[f"anchors_{size}"]
    np.testing.assert_array_equal(anchors_of(grid).reshape(4, -1).T[::every], expected)


def anchors_of(grid: AnchorGrid) -> np.ndarray:
    """``(4, 5, S, S)``: center x, y, width, height."""
    num = len(grid.offsets)
    shape = (len(grid.sizes), num, num)
    sizes = [np.broadcast_to(side[:, None, None], shape) for side in grid.sizes.T]
    return np.stack(
        [np.broadcast_to(grid.offsets, shape), np.broadcast_to(grid.offsets[:, None], shape), *sizes],
    )


# ---- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_maps_of_a_network_are_those_of_pysot(vectors: Path, networks: dict[str, SiamRPNpp], model: str) -> None:
    arrays, network = load(vectors, f"net_{model}"), networks[model]
    template_crop, search_crop = (torch.from_numpy(arrays[f"{name}_crop"])[None].float() for name in "zx")
    num_levels = len(network.heads)
    with torch.inference_mode():
        template = network.features(template_crop)
        for level, features in enumerate(template):
            np.testing.assert_allclose(features, arrays[f"zf{level}"], atol=1e-3, rtol=0)
        maps = network.backbone(search_crop)
        search = (
            maps if network.neck is None else [adjust(x) for adjust, x in zip(network.neck.values(), maps, strict=True)]
        )
        for level in range(num_levels):
            compare_summary(maps[level], arrays, f"x_backbone{level}")
            middle = search[level].shape[-1] // 2
            np.testing.assert_allclose(search[level][0, :, middle], arrays[f"xf{level}_row{middle}"], atol=1e-3, rtol=0)
            np.testing.assert_allclose(search[level][0, 0], arrays[f"xf{level}_ch0"], atol=1e-3, rtol=0)
        for level, head in enumerate(network.heads):
            name = f"rpn{level + 2}." if num_levels > 1 else ""
            kernels = head.kernels(template[level])
            compare_summary(kernels[0], arrays, f"x_rpn_head.{name}cls.conv_kernel0")
            compare_summary(head.cls.conv_search(search[level]), arrays, f"x_rpn_head.{name}cls.conv_search0")
            if num_levels > 1:
                logits, deltas = head(search[level], kernels)
                np.testing.assert_allclose(logits, arrays[f"rpn{level + 2}_cls"], atol=1e-4, rtol=0)
                np.testing.assert_allclose(deltas, arrays[f"rpn{level + 2}_loc"], atol=2e-5, rtol=0)
        logits, deltas = network(search_crop, network.encode_template(template_crop))
    np.testing.assert_allclose(logits, arrays["cls"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(deltas, arrays["loc"], atol=2e-5, rtol=0)
    compare_boxes(logits.numpy()[0], deltas.numpy()[0], arrays)


def compare_summary(features: torch.Tensor, arrays: Arrays, name: str) -> None:
    assert list(features.shape) == arrays[f"{name}_shape"].tolist()
    values = features.double()
    np.testing.assert_allclose(values.mean(dim=(0, 2, 3)), arrays[f"{name}_chmean"], atol=1e-3, rtol=0)
    mean, std, least, most, total = arrays[f"{name}_stats"]
    summary = [values.mean(), values.std(correction=0), values.min(), values.max()]
    np.testing.assert_allclose(summary, [mean, std, least, most], atol=1e-3, rtol=0)
    assert values.abs().sum() == pytest.approx(total, rel=1e-5)


def compare_boxes(logits: np.ndarray, deltas: np.ndarray, arrays: Arrays) -> None:
    size = logits.shape[-1]
    channels = logits.reshape(2, 5, size, size)
    np.testing.assert_allclose(target_prob(channels).ravel(), arrays["score"], atol=2e-5, rtol=0)
    anchors, shifts = anchors_of(AnchorGrid(np.zeros((size, size)))), deltas.reshape(4, 5, size, size)
    boxes = np.concatenate([anchors[:2] + shifts[:2] * anchors[2:], np.exp(shifts[2:]) * anchors[2:]])
    np.testing.assert_allclose(boxes.reshape(4, -1), arrays["pred_bbox"], atol=2e-3, rtol=0)


# ---- traces --------------------------------------------------------------------------------------------------------


class Recorder:
    """What the tracker asked for and chose in the last frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cut, best = tracker.cut_around, AnchorGrid.best

        def recording_cut(frame: np.ndarray, center: np.ndarray, side: int, crop_size: int, color: Any) -> np.ndarray:
            self.center, self.side, self.crop_size = center.copy(), side, crop_size
            self.crop = cut(frame, center, side, crop_size, color)
            return self.crop

        def recording_best(*arguments: Any) -> Any:
            self.candidate = best(*arguments)
            return self.candidate

        monkeypatch.setattr(tracker, "cut_around", recording_cut)
        monkeypatch.setattr(AnchorGrid, "best", recording_best)

    def crop_crc32(self) -> int:
        return crc32(self.crop[..., ::-1].transpose(2, 0, 1))

    def index(self) -> int:
        anchor, row, column = self.candidate.position
        size = (self.crop_size - 127) // 8 + 1 + (0 if self.crop_size == 287 else 8)
        return (anchor * size + row) * size + column


def crc32(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def variant_of(arrays: Arrays) -> tuple[str, Variant]:
    """The model and the constants that a trace was made with."""
    model = {
        "siamrpn_r50_l234_dwxcorr": "r50",
        "siamrpn_r50_l234_dwxcorr_lt": "r50_lt",
        "siamrpn_alex_dwxcorr": "alex",
    }[str(arrays["cfg_model"])]
    variant = VARIANTS[MODELS[model]]
    constants = {key.removeprefix("cfg_"): value for key, value in arrays.items() if key.startswith("cfg_")}
    lost = LostSearch(
        search_size=int(constants["LOST_INSTANCE_SIZE"]),
        low_score=float(constants["CONFIDENCE_LOW"]),
        high_score=float(constants["CONFIDENCE_HIGH"]),
    )
    return model, replace(
        variant,
        penalty=float(constants["PENALTY_K"]),
        window_influence=float(constants["WINDOW_INFLUENCE"]),
        rate=float(constants["LR"]),
        search_size=int(constants["INSTANCE_SIZE"]),
        base_size=int(constants["BASE_SIZE"]),
        lost=lost if constants["tracker"] == "SiamRPNLTTracker" else None,
    )


def reported(refined_xywh: np.ndarray, height: int, width: int) -> np.ndarray:
    """What the original's loop makes of a refined box before it is handed back."""
    x, y, w, h = refined_xywh
    x1, y1 = np.clip(x, 0, width - 10), np.clip(y, 0, height - 10)
    return np.array([x1, y1, np.clip(x + w, 10, width) - x1, np.clip(y + h, 10, height) - y1])


@pytest.mark.parametrize(
    "name",
    [
        "alex",
        pytest.param("r50", marks=pytest.mark.exhaustive),  # like r50_b of the portable traces
        pytest.param("r50_wide", marks=pytest.mark.exhaustive),
        pytest.param("r50_edge", marks=pytest.mark.exhaustive),
        pytest.param("r50_feedback", marks=pytest.mark.exhaustive),  # like r50_b_given of the portable traces
        pytest.param("lt", marks=pytest.mark.exhaustive),  # like r50_lt_b of the portable traces
        pytest.param("lt_custom", marks=pytest.mark.exhaustive),  # like r50_lt_b_lost of the portable traces
    ],
)
def test_every_frame_of_a_trace_is_that_of_pysot(
    vectors: Path, shared: Path, networks: dict[str, SiamRPNpp], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arrays = load(vectors, f"trace_{name}")
    model, variant = variant_of(arrays)
    assert name not in PUBLISHED_TRACES or variant == VARIANTS[MODELS[model]]
    recorder = Recorder(monkeypatch)
    frames = [cv2.imread(str(shared / "data" / "lasot" / path)) for path in arrays["frames"]]
    same_pixels = [crc32(frame) for frame in frames] == arrays["frame_crc32"].tolist()

    subject = SiamRPNppTracker(networks[model], variant)
    subject.initialize(rgb(frames[0]), arrays["init_box"] - HALF_PIXEL)
    assert recorder.side == arrays["z_original_sz"]
    same_pixels = same_pixels and recorder.crop_crc32() == arrays["z_crop_crc32"]
    num_compared = 0
    for t, frame in enumerate(frames[1:]):
        track = subject.track(rgb(frame))
        same_pixels = same_pixels and recorder.crop_crc32() == arrays["crop_crc32"][t]
        if not same_pixels and arrays["margin"][t] < 1e-3:
            break  # of two candidates as good as each other, another decoder's pixels may choose the other one
        compare_frame(
            recorder,
            track,
            variant,
            {key: value[t] for key, value in arrays.items() if key in PER_FRAME},
        )
        if "refined" in arrays:
            x, y, w, h = track.box_xywh
            refined = np.array([x + 0.10 * w, y - 0.05 * h, 0.9 * w, 1.15 * h])
            subject.set_box(reported(refined, *frame.shape[:2]))
            np.testing.assert_allclose(reported(refined, *frame.shape[:2]), arrays["reported"][t], atol=1e-2, rtol=0)
        np.testing.assert_allclose(subject._center, arrays["center_after"][t], atol=1e-2, rtol=0)
        np.testing.assert_allclose(subject._size, arrays["size_after"][t], atol=1e-2, rtol=0)
        num_compared += 1
    assert num_compared == len(frames) - 1 or (not same_pixels and num_compared > 0)


PER_FRAME = (
    *("box", "best_score", "best_idx", "original_sz", "instance_size", "crop_center", "pred_at_best"),
    *("score_size", "pscore", "lost_before", "lost_after"),
)


def rgb(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[..., ::-1])


def compare_frame(recorder: Recorder, track: Any, variant: Variant, row: Arrays) -> None:
    assert recorder.index() == row["best_idx"]
    _, line, column = recorder.candidate.position
    window = np.hanning(row["score_size"])
    is_lost = variant.lost is not None and row["lost_before"]
    window_influence = 0.001 if is_lost else variant.window_influence
    ranking = recorder.candidate.penalty * recorder.candidate.score * (1 - window_influence)
    assert ranking + window[line] * window[column] * window_influence == pytest.approx(row["pscore"], abs=1e-4)
    assert recorder.side == row["original_sz"]
    assert recorder.crop_size == row["instance_size"]
    # Where the frame was searched is the state after the one before it.
    np.testing.assert_allclose(recorder.center, row["crop_center"], atol=1e-2, rtol=0)
    decoded = [*recorder.candidate.shift, *recorder.candidate.size]
    np.testing.assert_allclose(decoded, row["pred_at_best"], atol=2e-3, rtol=0)
    np.testing.assert_allclose(track.box_xywh, row["box"], atol=1e-2, rtol=0)
    assert track.score == pytest.approx(row["best_score"], abs=1e-4)
    assert (track.state is not TrackState.NORMAL) == row["lost_after"]
