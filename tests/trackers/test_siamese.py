from __future__ import annotations

import cv2
import numpy as np
import pytest

from alpharefine.trackers.siamese import change_penalty, context_side, cut_square, smooth_box, target_prob


def padded_cut(frame: np.ndarray, x0: int, y0: int, side: int, crop_size: int, color: tuple[float, ...]) -> np.ndarray:
    canvas = cv2.copyMakeBorder(frame, 100, 100, 100, 100, cv2.BORDER_CONSTANT, value=color)
    return cv2.resize(canvas[y0 + 100 : y0 + 100 + side, x0 + 100 : x0 + 100 + side], (crop_size, crop_size))


@pytest.mark.parametrize(
    ("x0", "y0", "side"),
    [
        pytest.param(5, 6, 20, id="inside"),
        pytest.param(-9, 6, 20, id="over the left"),
        pytest.param(45, 30, 30, id="over the lower right"),
        pytest.param(-20, -20, 100, id="larger than the frame"),
        pytest.param(70, 10, 20, id="outside"),
        pytest.param(10, -60, 20, id="above"),
    ],
)
@pytest.mark.parametrize("color", [None, (10.0, 20.6, 30.2)])
def test_a_square_is_cut_as_from_a_padded_frame(x0: int, y0: int, side: int, color: tuple[float, ...] | None) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    expected = padded_cut(frame, x0, y0, side, 31, cv2.mean(frame) if color is None else color)
    np.testing.assert_array_equal(cut_square(frame, x0, y0, side, 31, color), expected)


def test_context_of_a_box_worked_out_by_hand() -> None:
    assert context_side(np.array([20.0, 20.0])) == pytest.approx(40.0)
    assert context_side(np.array([10.0, 30.0])) == pytest.approx((30.0 * 50.0) ** 0.5)
    assert context_side(np.array([10.5, 30.2]), 40) == pytest.approx((30.5 * 50.2) ** 0.5)
    assert context_side(np.ones((2, 3, 4))).shape == (3, 4)


def test_the_penalty_is_one_without_change_and_symmetric() -> None:
    ratios = np.array([1.0, 2.0, 0.5])
    penalty = change_penalty(ratios, np.ones(3), 0.1)
    np.testing.assert_allclose(penalty, [1.0, np.exp(-0.1), np.exp(-0.1)])
    np.testing.assert_allclose(change_penalty(np.ones(3), ratios, 0.1), penalty)


def test_the_probability_is_finite_for_large_logits() -> None:
    np.testing.assert_allclose(target_prob(np.array([[0.0, -900.0, 900.0], [0.0, 900.0, -900.0]])), [0.5, 1.0, 0.0])


@pytest.mark.parametrize(
    ("center", "size", "rate", "expected"),
    [
        pytest.param((30, 20), (30, 20), 0.5, (30, 20, 25, 20), id="half way"),
        pytest.param((-5, 200), (20, 20), 1.0, (0, 100, 20, 20), id="center outside"),
        pytest.param((30, 20), (1, 900), 1.0, (30, 20, 10, 100), id="too small, too large"),
    ],
)
def test_boxes_are_smoothed_and_limited(
    center: tuple[float, ...], size: tuple[float, ...], rate: float, expected: tuple[float, ...]
) -> None:
    answer = smooth_box(np.array(center), np.array(size), np.array([20.0, 20.0]), rate, (100, 200))
    np.testing.assert_allclose(np.concatenate(answer), expected)
