"""Refined boxes and masks of the original with the same weights, over procedural sequences."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from alpharefine import Refiner
from alpharefine.boxes import xywh_to_xyxy, xyxy_to_xywh
from alpharefine.crops import OriginalWindow
from alpharefine.inference.refiner import Refinement
from alpharefine.models import Prediction
from tests.golden.make_weights import checksum
from tests.models.golden import golden_network, golden_state
from tests.original_frames import assert_same_crop, crc32
from tests.trackers.dimp.golden import golden_frames, read_arrays

pytestmark = pytest.mark.parity

NUM_CASES = 13


class Case(NamedTuple):
    """A search frame with a disturbed box, and the template frame."""

    frame: np.ndarray
    box_xywh: np.ndarray
    template_frame: np.ndarray
    template_xywh: np.ndarray


@pytest.fixture(scope="module")
def frames(golden: Path) -> dict[str, list[np.ndarray]]:
    return {sequence: golden_frames(golden, sequence)[0] for sequence in "ab"}


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, np.ndarray]:
    return read_arrays(golden / "portable_refine.npz")


@pytest.fixture(scope="module")
def cases(expected: dict[str, np.ndarray], frames: dict[str, list[np.ndarray]]) -> list[Case]:
    columns = (expected[name] for name in ("sequence", "frame", "box", "template_frame", "template_box"))
    rows = [
        Case(frames[sequence][frame], box_xywh, frames[sequence][template], template_xywh)
        for sequence, frame, box_xywh, template, template_xywh in zip(*columns, strict=True)
    ]
    assert len(rows) == NUM_CASES
    return rows


@pytest.fixture(scope="module", params=["ar34", "ar18"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def outcome(
    golden: Path, model: str, expected: dict[str, np.ndarray], cases: list[Case]
) -> tuple[Prediction, list[Refinement]]:
    """Return the network's outputs and the refinements of all cases."""
    assert checksum(golden_state(golden, f"{model}_cm").values()) == expected[f"{model}/weights_crc32"]
    network = golden_network(golden, f"{model}_cm")
    predictions: list[Prediction] = []
    network.register_forward_hook(lambda *args: predictions.append(args[-1]))
    refiner = Refiner.from_network(network, device="cpu")
    first = {sequence: expected["sequence"].tolist().index(sequence) for sequence in "ab"}
    templates = {
        sequence: refiner.encode_template(cases[i].template_frame, cases[i].template_xywh)
        for sequence, i in first.items()
    }
    found = refiner.refine_many(
        [case.frame for case in cases],
        [case.box_xywh for case in cases],
        [templates[sequence] for sequence in expected["sequence"]],
        mask=True,
    )
    (prediction,) = predictions
    return prediction, found


@pytest.mark.parametrize("sequence", ["a", "b"])
def test_frames_decode_to_the_same_pixels(
    expected: dict[str, np.ndarray], frames: dict[str, list[np.ndarray]], sequence: str
) -> None:
    found = [crc32(frame[..., ::-1]) for frame in frames[sequence]]  # the checksums are of BGR pixels
    assert found == expected[f"frame_crc32_{sequence}"].tolist()


@pytest.mark.parametrize("i", range(NUM_CASES))
def test_crops_and_labels(expected: dict[str, np.ndarray], cases: list[Case], i: int) -> None:
    case, window = cases[i], OriginalWindow.around(cases[i].box_xywh)
    assert_same_crop(window.cut(case.frame), expected["crop_crc32"][i], expected["crop_sub16"][i])
    assert [256 / window.height, 256 / window.width] == [expected["h_f"][i], expected["w_f"][i]]
    template = OriginalWindow.around(case.template_xywh)
    assert crc32(template.cut(case.template_frame)) == expected["template_crop_crc32"][i]
    label = xyxy_to_xywh(template.to_crop(xywh_to_xyxy(case.template_xywh)).clip(0, 256))
    np.testing.assert_allclose(label, expected["template_label"][i], atol=1e-3)


def test_network_outputs(
    expected: dict[str, np.ndarray], outcome: tuple[Prediction, list[Refinement]], model: str
) -> None:
    corners, mask_logits, _ = outcome[0]
    assert corners is not None
    assert mask_logits is not None
    np.testing.assert_allclose(corners.crop_xyxy, expected[f"{model}/corner_xyxy"], atol=2e-3, rtol=0)
    found_prob = mask_logits.sigmoid()[:, ::4, ::4]
    np.testing.assert_allclose(found_prob, expected[f"{model}/mask_sub4"].astype(np.float32), atol=1e-3, rtol=0)


@pytest.mark.parametrize("i", range(NUM_CASES))
def test_refined_boxes(
    expected: dict[str, np.ndarray],
    cases: list[Case],
    outcome: tuple[Prediction, list[Refinement]],
    model: str,
    i: int,
) -> None:
    found, window = outcome[1][i], OriginalWindow.around(cases[i].box_xywh)
    atol = 5e-3 * max(1, window.width / 256, window.height / 256)
    np.testing.assert_allclose(found.raw_box_xywh, expected[f"{model}/refined_box"][i], atol=atol, rtol=0)
    np.testing.assert_allclose(found.box_xywh, expected[f"{model}/refined_clipped"][i], atol=atol, rtol=0)
