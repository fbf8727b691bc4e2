from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from alpharefine.boxes import (
    are_corners,
    clip_as_original,
    clip_to_image,
    is_valid,
    paired_iou,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

NAN, INF = float("nan"), float("inf")


class TestFormats:
    def test_hand_worked(self) -> None:
        assert xywh_to_xyxy(np.array([[-1.5, 2.0, 4.0, 0.0]])).tolist() == [[-1.5, 2.0, 2.5, 2.0]]
        assert xyxy_to_xywh(np.array([5.0, 7.0, 2.0, 9.0])).tolist() == [5.0, 7.0, -3.0, 2.0]

    @pytest.mark.parametrize("shape", [(4,), (0, 4), (7, 4), (2, 3, 4)])
    def test_there_and_back(self, shape: tuple[int, ...]) -> None:
        boxes_xywh = np.random.default_rng(0).uniform(-1e4, 1e4, shape)
        there = xywh_to_xyxy(boxes_xywh)
        assert there.shape == shape
        np.testing.assert_allclose(xyxy_to_xywh(there), boxes_xywh, rtol=0, atol=1e-9)

    def test_the_given_array_is_left_alone(self) -> None:
        boxes_xywh = np.array([[1.0, 2.0, 3.0, 4.0]])
        xywh_to_xyxy(boxes_xywh)[:] = 0
        xyxy_to_xywh(boxes_xywh)[:] = 0
        assert boxes_xywh.tolist() == [[1.0, 2.0, 3.0, 4.0]]


class TestPairedIoU:
    @pytest.mark.parametrize(
        ("a_xyxy", "b_xyxy", "iou"),
        [
            pytest.param([0, 0, 4, 4], [0, 0, 4, 4], 1.0, id="the same"),
            pytest.param([0, 0, 4, 4], [2, 2, 6, 6], 4 / 28, id="a corner"),
            pytest.param([0, 0, 4, 4], [1, 1, 3, 3], 4 / 16, id="inside"),
            pytest.param([0, 0, 4, 4], [4, 0, 8, 4], 0.0, id="touching"),
            pytest.param([0, 0, 4, 4], [9, 9, 12, 12], 0.0, id="apart on both axes"),
            pytest.param([0, 0, 4, 4], [0, 9, 4, 12], 0.0, id="apart on one axis"),
            pytest.param([2, 2, 2, 2], [2, 2, 2, 2], 0.0, id="both empty"),
            pytest.param([0, 0, 4, 4], [2, 2, 2, 2], 0.0, id="one empty"),
            pytest.param([4, 4, 0, 0], [0, 0, 4, 4], 0.0, id="corners out of order"),
            pytest.param([4, 4, 0, 0], [4, 4, 0, 0], 0.0, id="both out of order"),
            pytest.param([-3, -3, -1, -1], [-2, -3, -1, -1], 0.5, id="negative coordinates"),
            pytest.param([0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25], 0.5, id="smaller than a pixel"),
        ],
    )
    def test_hand_worked(self, a_xyxy: list[float], b_xyxy: list[float], iou: float) -> None:
        a, b = torch.tensor(a_xyxy, dtype=torch.float32), torch.tensor(b_xyxy, dtype=torch.float32)
        assert paired_iou(a, b).item() == pytest.approx(iou)
        assert paired_iou(b, a).item() == pytest.approx(iou)

    def test_a_nan_spoils_its_own_pair_only(self) -> None:
        a_xyxy = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, NAN, 1.0, 1.0]])
        iou = paired_iou(a_xyxy, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4))
        assert iou[0] == 1
        assert iou[1].isnan()

    def test_against_counted_pixels(self) -> None:
        rng = np.random.default_rng(1)
        corners = np.sort(rng.integers(0, 30, (200, 2, 2, 2)), axis=2)  # pair, box, corner, axis
        grid_y, grid_x = np.mgrid[:30, :30]
        for a, b in corners:
            inside = [
                (grid_x >= p[0]) & (grid_x < q[0]) & (grid_y >= p[1]) & (grid_y < q[1]) for p, q in ((a[0], a[1]), b)
            ]
            both, either = (inside[0] & inside[1]).sum(), (inside[0] | inside[1]).sum()
            a_xyxy, b_xyxy = (torch.from_numpy(box.reshape(4)).double() for box in (a, b))
            assert paired_iou(a_xyxy, b_xyxy).item() == pytest.approx(both / max(either, 1))

    def test_no_boxes(self) -> None:
        assert paired_iou(torch.empty(0, 4), torch.empty(0, 4)).shape == (0,)


class TestClip:
    """The image has 100 x 200 pixels (height x width)."""

    @pytest.mark.parametrize(
        ("box_xyxy", "clipped_xyxy"),
        [
            pytest.param([20, 30, 60, 70], [20, 30, 60, 70], id="inside"),
            pytest.param([0, 0, 200, 100], [0, 0, 200, 100], id="the whole image"),
            pytest.param([-50, -60, 300, 400], [0, 0, 200, 100], id="larger than the image"),
            pytest.param([60, 70, 20, 30], [20, 30, 60, 70], id="corners out of order"),
            pytest.param([60, 30, 20, 70], [20, 30, 60, 70], id="one axis out of order"),
            pytest.param([100, 40, 104, 44], [97, 37, 107, 47], id="too small is widened about its center"),
            pytest.param([1, 40, 3, 80], [0, 40, 10, 80], id="too narrow at the left border is shifted in"),
            pytest.param([197, 90, 220, 140], [190, 90, 200, 100], id="too narrow at the right border is shifted in"),
            pytest.param([-40, 20, -20, 40], [0, 20, 10, 40], id="left of the image"),
            pytest.param([250, 120, 260, 130], [190, 90, 200, 100], id="beyond the lower right corner"),
            pytest.param([50, 50, 50, 50], [45, 45, 55, 55], id="no extent"),
            pytest.param([50, 30, 60, 70], [50, 30, 60, 70], id="just wide enough"),
        ],
    )
    def test_hand_worked(self, box_xyxy: list[float], clipped_xyxy: list[float]) -> None:
        assert clip_to_image(np.array(box_xyxy), (100, 200)).tolist() == clipped_xyxy

    def test_an_image_smaller_than_the_least_size(self) -> None:
        assert clip_to_image(np.array([2.0, 2.0, 3.0, 3.0]), (6, 200)).tolist() == [0.0, 0.0, 10.0, 6.0]

    def test_infinity_is_the_border_and_nan_stays(self) -> None:
        clipped_xyxy = clip_to_image(np.array([[-INF, 20, INF, 60], [NAN, 20, 80, 60]]), (100, 200))
        assert clipped_xyxy[0].tolist() == [0, 20, 200, 60]
        assert np.isnan(clipped_xyxy[1, [0, 2]]).all()
        assert clipped_xyxy[1, [1, 3]].tolist() == [20, 60]

    def test_random_boxes_obey_the_rules_and_a_second_clip_changes_nothing(self) -> None:
        boxes_xyxy = np.random.default_rng(2).uniform(-300, 500, (5000, 4))
        once = clip_to_image(boxes_xyxy, (100, 200))
        assert (once >= 0).all()
        assert (once <= [200, 100, 200, 100]).all()
        assert (once[:, 2:] - once[:, :2] >= 10 - 1e-12).all()
        np.testing.assert_allclose(clip_to_image(once, (100, 200)), once, rtol=0, atol=1e-12)

    @pytest.mark.parity
    def test_golden(self, golden: Path) -> None:
        with np.load(golden / "geometry_exact.npz") as arrays:
            expected = dict(arrays)
        height, width = expected["clip_hw"].tolist()
        clipped_xyxy = clip_to_image(xywh_to_xyxy(expected["clip_in"]), (height, width))
        np.testing.assert_allclose(xyxy_to_xywh(clipped_xyxy), expected["clip_out"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("clip", [clip_to_image, clip_as_original])
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_clipping_keeps_the_shape_and_computes_in_float64(clip: Callable[..., np.ndarray], dtype: type) -> None:
    boxes_xyxy = np.array([[[20, 30, 60, 70], [-9, 30, 4, 170]]], dtype=dtype)
    clipped_xyxy = clip(boxes_xyxy, (100, 200))
    assert clipped_xyxy.dtype == np.float64
    assert clipped_xyxy.tolist() == [[[20, 30, 60, 70], [0, 30, 10, 100]]]


@pytest.mark.parametrize("clip", [clip_to_image, clip_as_original])
def test_float32_boxes_are_clipped_in_float64(clip: Callable[..., np.ndarray]) -> None:
    boxes_xyxy = np.random.default_rng(3).uniform(-300, 500, (500, 4)).astype(np.float32)
    assert np.array_equal(clip(boxes_xyxy, (100, 200)), clip(boxes_xyxy.astype(np.float64), (100, 200)))


def test_valid_boxes() -> None:
    boxes_xywh = np.array(
        [
            [0, 0, 1, 1],
            [-5, -5, 0.1, 0.1],
            [0, 0, 0, 1],
            [0, 0, 1, 0],
            [0, 0, -1, 5],
            [NAN, 0, 1, 1],
            [0, 0, NAN, 1],
            [0, 0, INF, 1],
            [-INF, 0, 1, 1],
        ]
    )
    assert is_valid(boxes_xywh).tolist() == [True, True, *[False] * 7]
    assert is_valid(boxes_xywh[0]).shape == ()


IN_CORNERS, INSIDE, NOTHING = (200.0, 150, 220, 200), (20.0, 30, 40, 50), (NAN, 1, 1, 1)


@pytest.mark.parametrize(
    ("boxes_xywh", "expected"),
    [
        pytest.param([IN_CORNERS], True, id="one"),
        pytest.param([(10.0, 150, 20, 200)], True, id="height alone"),
        pytest.param([IN_CORNERS, NOTHING, (0.0, 0, 0, 0)], True, id="without a size"),
        pytest.param([IN_CORNERS, *[INSIDE] * 4], False, id="a fifth leaves"),
        pytest.param([IN_CORNERS, *[INSIDE] * 3], True, id="a fourth leaves"),
        pytest.param([IN_CORNERS, *[(20.0, 30, 15, 50)] * 3], False, id="one has no order"),
        pytest.param([(200.0, 150, 380, 200)], False, id="corners outside"),
        pytest.param([(150.0, 100, 240, 150)], False, id="leaves by a little"),
        pytest.param([NOTHING], False, id="none"),
        pytest.param(np.empty((0, 4)), False, id="empty"),
    ],
)
def test_corners_in_place_of_sizes(boxes_xywh: list[tuple[float, ...]], expected: bool) -> None:
    assert are_corners(np.array(boxes_xywh, dtype=np.float64), (240, 360)) is expected
