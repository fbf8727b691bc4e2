"""Boxes and masks of the refiner with a network of known predictions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alpharefine import Refiner
from alpharefine.models import Prediction
from tests.known_network import BOX, FRAME, KnownNetwork, started

# ---- boxes ---------------------------------------------------------------------------------------------------------


# Windows computed by hand: twice the size rounded up, the center kept, the corner rounded, halves to even.
@pytest.mark.parametrize(
    ("base_xywh", "window_xywh", "true_xywh"),
    [
        pytest.param([100, 80, 40, 30], [80, 65, 80, 60], [105, 85, 36, 28], id="whole numbers"),
        pytest.param([50.3, 40.7, 20.1, 10.6], [40, 35, 41, 22], [48.5, 38.25, 24, 14], id="fractions"),
        pytest.param([10, 10, 25, 25], [-2, -2, 50, 50], [2, 3, 30, 31], id="over the top-left corner"),
        pytest.param([280, 200, 60, 50], [250, 175, 120, 100], [285.5, 205, 30, 33], id="over the bottom-right corner"),
        pytest.param([-30, -40, 500, 400], [-280, -240, 1000, 800], [0, 0, 320, 240], id="larger than the picture"),
        pytest.param([60, 70, 4, 3], [58, 68, 8, 6], [57.5, 66.25, 10, 11], id="small"),
    ],
)
def test_a_perfect_network_gives_the_true_box(base_xywh: Any, window_xywh: Any, true_xywh: Any) -> None:
    (x0, y0, width, height), (x, y, w, h) = window_xywh, true_xywh
    crop_xyxy = [
        (x - x0) * 256 / width,
        (y - y0) * 256 / height,
        (x + w - x0) * 256 / width,
        (y + h - y0) * 256 / height,
    ]
    refinement = started(KnownNetwork(crop_xyxy)).refine(FRAME, np.array(base_xywh, dtype=np.float64))
    np.testing.assert_allclose(refinement.box_xywh, true_xywh, atol=1e-3)
    np.testing.assert_allclose(refinement.raw_box_xywh, true_xywh, atol=1e-3)
    assert refinement.refined
    assert refinement.box_xywh.dtype == refinement.raw_box_xywh.dtype == np.float64


class SeeingNetwork(KnownNetwork):
    """Knows the target in the frame, and infers the window of a crop from its colors."""

    def __init__(self, true_xywh: Sequence[float]) -> None:
        super().__init__(crop_xyxy=[0, 0, 0, 0])
        self.true_xywh = true_xywh

    def forward(self, search: Tensor, kernel: Tensor, heads: Collection[str]) -> Prediction:
        x, y, w, h = self.true_xywh
        columns, rows = search[0, 0].double().mean(0), search[0, 1].double().mean(1)
        x1, x2 = self._seen(columns, x, x + w)
        y1, y2 = self._seen(rows, y, y + h)
        self.crop_xyxy = [x1, y1, x2, y2]
        return super().forward(search, kernel, heads)

    def _seen(self, colors: Tensor, *positions: float) -> list[float]:
        places = np.arange(256) + 0.5
        slope, start = np.polyfit(places, colors.numpy() / RAMP + RAMP_START + 0.5, 1)
        return [(position - start) / slope for position in positions]


RAMP, RAMP_START = 4, 96  # gray levels a pixel, from this pixel on; pixel i covers [i, i + 1)


@pytest.mark.parametrize("seed", range(6))
def test_what_the_network_sees_is_where_the_box_ends_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ramp = (RAMP * (np.arange(256) - RAMP_START)).clip(0, 255)
    frame = np.zeros((256, 256, 3), dtype=np.uint8)
    frame[..., 0], frame[..., 1] = ramp, ramp[:, None]
    center, size = rng.uniform(124, 132, 2), rng.uniform(12, 22, 2)
    true_xywh = np.concatenate([center - size / 2, size])
    base_xywh = true_xywh + rng.uniform(-2, 2, 4)
    refiner = Refiner.from_network(SeeingNetwork(true_xywh.tolist()), "cpu")  # type: ignore[arg-type]
    refiner.initialize(frame, true_xywh)
    # OpenCV's fixed-point filter rounds down by an eighth of a gray level on average: 0.03 px.
    np.testing.assert_allclose(refiner.refine(frame, base_xywh).box_xywh, true_xywh, atol=0.05)


# The window of BOX is 80 x 60 px, so a crop pixel is 0.3125 x 0.234375 px.
@pytest.mark.parametrize(
    ("crop_xyxy", "box_xywh"),
    [
        pytest.param([192, 192, 64, 64], [100, 80, 40, 30], id="corners in the wrong order"),
        pytest.param([64, 192, 192, 64], [100, 80, 40, 30], id="one side in the wrong order"),
        pytest.param([128, 128, 128, 128], [115, 90, 10, 10], id="no size"),
        pytest.param([64, 124, 192, 132], [100, 90, 40, 10], id="too low"),
        pytest.param([-1e4, -1e4, 1e4, 1e4], [0, 0, 320, 240], id="larger than the picture"),
        pytest.param([-400, -400, -300, -350], [0, 0, 10, 10], id="outside of the picture"),
        pytest.param([64, 2000, 192, 2200], [100, 230, 40, 10], id="below the picture"),
    ],
)
def test_boxes_are_put_in_order_and_inside_the_picture(crop_xyxy: Any, box_xywh: Any) -> None:
    refinement = started(KnownNetwork(crop_xyxy)).refine(FRAME, BOX)
    np.testing.assert_allclose(refinement.box_xywh, box_xywh, atol=1e-9)
    x1, y1, x2, y2 = np.array(crop_xyxy) * [80, 60, 80, 60] / 256 + [80, 65, 80, 65]
    np.testing.assert_allclose(refinement.raw_box_xywh, [x1, y1, x2 - x1, y2 - y1])


@pytest.mark.parametrize("frame_size", [(240, 320), (7, 320), (3, 4)], ids=str)
def test_every_box_is_inside_the_picture(frame_size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    height, width = frame_size
    network, least = KnownNetwork([0, 0, 0, 0]), np.minimum(10, [width, height])
    refiner = Refiner.from_network(network, "cpu")  # type: ignore[arg-type]
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    refiner.initialize(frame, np.array([0, 0, width, height], dtype=np.float64))
    for _ in range(50):
        network.crop_xyxy = rng.uniform(0, 256, 4)
        base_xywh = np.concatenate([rng.uniform(-50, 1, 2) + [width, height] * rng.random(2), rng.uniform(0.2, 400, 2)])
        x, y, w, h = refiner.refine(frame, base_xywh).box_xywh
        assert min(x, y) >= 0
        assert x + w <= width + 1e-9
        assert y + h <= height + 1e-9
        assert (np.array([w, h]) >= least - 1e-9).all()


@pytest.mark.parametrize(
    ("base_xywh", "clipped_xywh"),
    [
        pytest.param([400, 80, 40, 30], [310, 80, 10, 30], id="right"),
        pytest.param([-200, 80, 40, 30], [0, 80, 10, 30], id="left"),
        pytest.param([100, -100, 40, 30], [100, 0, 40, 10], id="above"),
        pytest.param([1e6, 1e6, 40, 30], [310, 230, 10, 10], id="far away"),
    ],
)
def test_a_box_whose_window_lies_outside_stays(base_xywh: Any, clipped_xywh: Any) -> None:
    refiner = started(KnownNetwork([64, 64, 192, 192], np.full((256, 256), 0.9)))
    refinement = refiner.refine(FRAME, np.array(base_xywh, dtype=np.float64), mask=True)
    assert not refinement.refined
    assert refinement.score == 0
    np.testing.assert_array_equal(refinement.raw_box_xywh, base_xywh)
    np.testing.assert_array_equal(refinement.box_xywh, clipped_xywh)
    assert refinement.mask is not None
    assert not refinement.mask.any()


def test_a_network_that_overflows_leaves_the_box() -> None:
    network = KnownNetwork([np.nan] * 4)
    network.scores = torch.full((2, 16, 16), torch.nan)
    refinement = started(network).refine(FRAME, BOX)
    assert (refinement.refined, refinement.score) == (False, 0.0)
    np.testing.assert_array_equal(refinement.box_xywh, BOX)


def test_the_score_is_the_peak_of_the_less_certain_corner() -> None:
    network = KnownNetwork([64, 64, 192, 192])
    network.scores = torch.zeros(2, 16, 16)
    network.scores[0, 1, 2], network.scores[1, 9, 9] = np.log(255.0), np.log(85.0)
    # e^s against 255 cells of e^0: 255 / 510 and 85 / 340.
    assert started(network).refine(FRAME, BOX).score == pytest.approx(0.25)


# ---- masks ---------------------------------------------------------------------------------------------------------


def prob_of(rectangle_xyxy: tuple[int, int, int, int], inside: float = 0.9, outside: float = 0.1) -> np.ndarray:
    prob = np.full((256, 256), outside)
    x1, y1, x2, y2 = rectangle_xyxy
    prob[y1:y2, x1:x2] = inside
    return prob


def test_a_mask_lands_where_its_window_is() -> None:
    # A box of 128 x 128 px has a window of 256 x 256, so that nothing is resized: the window starts at (36, -14).
    network = KnownNetwork([64, 64, 192, 192], prob_of((100, 60, 180, 140)))
    mask = started(network).refine(FRAME, np.array([100.0, 50.0, 128.0, 128.0]), mask=True).mask
    expected = np.zeros((240, 320))
    expected[:, 36:292] = 0.1
    expected[46:126, 136:216] = 0.9
    assert mask is not None
    assert mask.dtype == np.float32
    np.testing.assert_allclose(mask, expected, atol=1e-6)


def test_only_the_heads_asked_for_are_run() -> None:
    network = KnownNetwork([64, 64, 192, 192], prob_of((64, 64, 192, 192)))
    refiner = started(network)
    assert refiner.refine(FRAME, BOX).mask is None
    assert refiner.refine(FRAME, BOX, mask=True).mask is not None
    assert [heads for *_, heads in network.calls] == [("corner",), ("corner", "mask")]


@pytest.mark.parametrize("mask", [False, True])
def test_a_network_with_masks_alone_takes_the_box_from_the_mask(mask: bool) -> None:
    network = KnownNetwork(mask_prob=prob_of((96, 64, 160, 192)))
    refinement = started(network).refine(FRAME, np.array([100.0, 50.0, 128.0, 128.0]), mask=mask)
    np.testing.assert_array_equal(refinement.box_xywh, [132, 50, 64, 128])
    assert refinement.refined
    assert refinement.score == pytest.approx(0.9)
    assert (refinement.mask is not None) == mask
    assert [heads for *_, heads in network.calls] == [("mask",)]


@pytest.mark.parametrize(
    "rectangle_xyxy", [(0, 0, 0, 0), (100, 100, 110, 110)], ids=["nothing", "too small to be trusted"]
)
def test_a_network_with_masks_alone_that_finds_nothing(rectangle_xyxy: Any) -> None:
    base_xywh = np.array([-20.0, 50.0, 128.0, 128.0])
    refinement = started(KnownNetwork(mask_prob=prob_of(rectangle_xyxy))).refine(FRAME, base_xywh, mask=True)
    assert (refinement.refined, refinement.score) == (False, 0.0)
    np.testing.assert_array_equal(refinement.raw_box_xywh, base_xywh)
    np.testing.assert_array_equal(refinement.box_xywh, [0, 50, 108, 128])


@pytest.mark.parity
def test_golden_masks_in_the_frame(golden: Path) -> None:
    with np.load(golden / "geometry_original.npz") as arrays:
        frame, boxes_xywh = arrays["window_image"], arrays["window_box"]
        prob, pasted = arrays["paste_mask"], arrays["paste_full"]
    refiner = Refiner.from_network(KnownNetwork([64, 64, 192, 192], prob), "cpu")  # type: ignore[arg-type]
    template = refiner.encode_template(frame, np.array([10.0, 10.0, 20.0, 20.0]))
    count = len(boxes_xywh)
    found = refiner.refine_many([frame] * count, boxes_xywh, [template] * count, mask=True)
    np.testing.assert_allclose(np.stack([refinement.mask for refinement in found]), pasted, atol=1e-5)


def test_corners_out_of_order_are_not_fed_back_in_the_original_geometry() -> None:
    network = KnownNetwork(crop_xyxy=[200, 40, 90, 220])
    network.geometry = "original"
    found = started(network).refine(FRAME, BOX)
    assert found.box_xywh[2] < 0, "what the authors' code gives"
    assert not found.refined
