"""Runs of pysot's trackers with the same weights over procedural sequences, frame by frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from alpharefine.boxes import clip_as_original, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.trackers.siamrpnpp import VARIANTS, LostSearch, SiamRPNppTracker, Variant
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp
from tests.original_frames import crc32
from tests.trackers.dimp.golden import golden_frames, read_arrays

from .golden import MODELS, Networks
from .test_pysot import HALF_PIXEL, PER_FRAME, Recorder, compare_frame

pytestmark = [pytest.mark.parity, pytest.mark.slow]

TRACES = (
    *("r50_a", "r50_b", "alex_a", "alex_b", "mobilev2_a", "mobilev2_b", "r50_lt_a", "r50_lt_b"),
    *("r50_b_given", "r50_lt_a_lost", "r50_lt_b_lost"),
)
CHANGED = ("r50_lt_a_lost", "r50_lt_b_lost")
"""Traces with other constants than the published ones."""

EXHAUSTIVE = ("r50_a", "r50_b", "r50_lt_a", "r50_lt_a_lost", "r50_lt_b")
"""Traces that only `make exhaustive` runs; other traces cover the same model and both changes of the lost state."""


@pytest.fixture(scope="module")
def traces(golden: Path) -> dict[str, dict[str, Any]]:
    arrays = read_arrays(golden / "portable_siamrpnpp.npz")
    names = arrays["trace_name"].tolist()
    assert names == list(TRACES)
    per_trace = {key: array for key, array in arrays.items() if len(array) == len(names)}
    return {
        name: {key: array[i] for key, array in per_trace.items()}
        | {"constant_names": arrays["constant_names"]}
        | {"frame_crc32": arrays[f"frame_crc32_{per_trace['sequence'][i]}"]}
        for i, name in enumerate(names)
    }


def variant_of(trace: dict[str, Any]) -> Variant:
    """Return the constants that a trace was made with."""
    constants = dict(zip(trace["constant_names"].tolist(), trace["constants"].tolist(), strict=True))
    assert (constants["EXEMPLAR_SIZE"], constants["CONTEXT_AMOUNT"]) == (127, 0.5)
    lost = LostSearch(
        search_size=int(constants["LOST_INSTANCE_SIZE"]),
        low_score=constants["CONFIDENCE_LOW"],
        high_score=constants["CONFIDENCE_HIGH"],
    )
    return replace(
        VARIANTS[MODELS[str(trace["model"])]],
        penalty=constants["PENALTY_K"],
        window_influence=constants["WINDOW_INFLUENCE"],
        rate=constants["LR"],
        search_size=int(constants["INSTANCE_SIZE"]),
        base_size=int(constants["BASE_SIZE"]),
        lost=lost if trace["tracker"] == "SiamRPNLTTracker" else None,
    )


class Outputs:
    """Maps of a network's last search."""

    logits: Tensor
    deltas: Tensor

    def __init__(self, network: SiamRPNpp) -> None:
        self._hook = network.register_forward_hook(self._keep)

    def _keep(self, _module: Any, _inputs: Any, outputs: tuple[Tensor, Tensor]) -> None:
        self.logits, self.deltas = outputs

    def close(self) -> None:
        self._hook.remove()


def compare_statistics(maps: Tensor, expected: np.ndarray, atol: float) -> None:
    values = maps.double()
    found = [values.mean(), values.std(), values.min(), values.max(), values.abs().mean()]
    expected = np.append(expected[:4], expected[4] / values.numel())
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive if name in EXHAUSTIVE else []) for name in TRACES]
)
def test_every_frame_is_that_of_pysot(
    golden: Path, traces: dict[str, dict[str, Any]], networks: Networks, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trace = traces[name]
    variant, network = variant_of(trace), networks[str(trace["model"])]
    assert (variant == VARIANTS[MODELS[str(trace["model"])]]) == (name not in CHANGED)
    frames, _ = golden_frames(golden, str(trace["sequence"]))
    assert [crc32(frame[..., ::-1]) for frame in frames] == trace["frame_crc32"].tolist()

    recorder, outputs = Recorder(monkeypatch), Outputs(network)
    subject = SiamRPNppTracker(network, variant)
    subject.initialize(frames[0], trace["init_box"] - HALF_PIXEL)
    assert recorder.side == trace["z_original_sz"]
    assert recorder.crop_crc32() == trace["z_crop_crc32"]
    for t, frame in enumerate(frames[1:]):
        track = subject.track(frame)
        assert recorder.crop_crc32() == trace["crop_crc32"][t]
        compare_frame(recorder, track, variant, {key: trace[key][t] for key in PER_FRAME})
        compare_statistics(outputs.logits, trace["cls_stats"][t], 1e-4)
        compare_statistics(outputs.deltas, trace["loc_stats"][t], 1e-4)
        if name == "r50_b_given":
            given_xyxy = xywh_to_xyxy(trace["given_box"][t])
            reported = xyxy_to_xywh(clip_as_original(given_xyxy, frame.shape[:2]))
            np.testing.assert_allclose(reported, trace["reported"][t], atol=1e-2, rtol=0)
            subject.set_box(reported)
        np.testing.assert_allclose(subject._center, trace["center_after"][t], atol=1e-2, rtol=0)
        np.testing.assert_allclose(subject._size, trace["size_after"][t], atol=1e-2, rtol=0)
    outputs.close()
