from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from alpharefine.trackers.base import TrackState
from alpharefine.trackers.dimp.localization import Localization, Thresholds, localize
from alpharefine.trackers.dimp.memory import SampleWeights

from .golden import read_arrays

HIGH, HALF, LOW = 1.0, 0.7, 0.1


def localized(peaks: dict[tuple[int, int], float], **thresholds: float) -> Localization:
    scores = np.zeros((19, 19), dtype=np.float32)
    for at, score in peaks.items():
        scores[at] = score
    limits = Thresholds(**({"target_not_found_threshold": 0.25} | thresholds))
    return localize(scores, 9.0, np.float32(2), np.zeros(2, np.float32), np.float32([4, 4]), limits)


@pytest.mark.parametrize(
    ("peaks", "thresholds", "state", "translation"),
    [
        pytest.param({(9, 12): HIGH}, {}, "normal", (0, 6), id="one peak"),
        pytest.param({(9, 12): LOW}, {}, "not_found", (0, 6), id="too low"),
        pytest.param({(9, 12): HIGH, (10, 13): 0.9}, {}, "normal", (0, 6), id="second within the first"),
        pytest.param({(9, 12): HIGH, (2, 2): HALF}, {}, "hard_negative", (0, 6), id="a weaker rival"),
        pytest.param({(9, 12): HIGH, (9, 5): 0.9}, {}, "uncertain", (0, 6), id="two alike, both near"),
        pytest.param({(9, 10): HIGH, (0, 18): 0.9}, {}, "hard_negative", (0, 2), id="a far rival"),
        pytest.param({(0, 18): HIGH, (9, 10): 0.9}, {}, "hard_negative", (0, 2), id="the higher one is far"),
        pytest.param({(0, 0): HIGH, (18, 18): 0.9}, {}, "uncertain", (-18, -18), id="both far"),
        pytest.param({(9, 9): 0.5}, {"uncertain_threshold": 0.6}, "uncertain", (0, 0), id="below the sure"),
        pytest.param({(9, 9): 0.5}, {"hard_sample_threshold": 0.6}, "hard_negative", (0, 0), id="hard sample"),
        pytest.param({(9, 9): 0.4, (1, 1): 0.24}, {}, "normal", (0, 0), id="a rival too low to be a target"),
    ],
)
def test_states(
    peaks: dict[tuple[int, int], float], thresholds: dict[str, float], state: str, translation: tuple[int, int]
) -> None:
    found = localized(peaks, **thresholds)
    assert found.state is TrackState(state)
    np.testing.assert_array_equal(found.translation_yx, translation)
    assert found.max_score == pytest.approx(max(peaks.values()))


@pytest.mark.parity
def test_every_case_of_the_original(golden: Path) -> None:
    arrays = read_arrays(golden / "tracker_logic.npz")
    cases = json.loads(str(arrays["loc/cases_json"]))
    for i, case in enumerate(cases):
        scores, scale = arrays[f"loc/{i}/scores"], np.float32(case["sample_scale"])
        cell_px = np.float32(case["img_sz"]) / (len(scores) - 1)
        cell = cell_px * scale
        moved = np.float32(case["pos_yx"]) - np.float32(case["sample_pos_yx"])
        size = np.float32(case["target_sz_hw"]) / scale / cell_px
        thresholds = Thresholds(**({"target_not_found_threshold": 0.25} | case["over"]))
        found = localize(scores, (len(scores) - 1) / 2, cell, moved / cell, np.float32(2.2) * size, thresholds)
        assert found.state == case["flag"], case
        np.testing.assert_allclose(found.translation_yx, case["translation_yx"], atol=1e-3, err_msg=str(case))
    assert len(cases) == 60


@pytest.mark.parity
@pytest.mark.parametrize("name", ["cap50", "cap8", "cap8_nomin", "cap8_min0.9"])
def test_weights_and_slots_of_the_original(golden: Path, name: str) -> None:
    arrays = read_arrays(golden / "tracker_logic.npz")
    capacity, num_initial, minimum, rate = arrays[f"mem/{name}/params"].tolist()
    weights = SampleWeights(int(capacity), int(num_initial), None if minimum < 0 else minimum)
    expected = arrays[f"mem/{name}/weights"]
    np.testing.assert_allclose(weights.values, expected[0], atol=1e-7)
    rates = np.nan_to_num(arrays[f"mem/{name}/lr"], nan=rate)
    for given, slot, values in zip(rates, arrays[f"mem/{name}/replace_ind"], expected[1:], strict=True):
        assert weights.add(float(given)) == slot
        np.testing.assert_allclose(weights.values, values, atol=1e-7)


def test_the_first_samples_keep_their_share_and_their_slots() -> None:
    weights = SampleWeights(6, 3, 0.25)
    slots = [weights.add(0.2) for _ in range(20)]
    assert set(slots) == {3, 4, 5}
    assert weights.values.sum() == pytest.approx(1, abs=0.02)  # the original does not scale the others down in full
    assert weights.values[:3].sum() == pytest.approx(0.25)
    assert slots[-3:] == [slots[-6], slots[-5], slots[-4]]
