"""Properties of boxes and crop windows for any numbers: conversions and mappings are inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alpharefine.boxes import clip_as_original, clip_to_image, is_valid, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.crops import OriginalWindow, Window

QUICK = settings(max_examples=100, deadline=None, derandomize=True)

COORDINATES = st.floats(-5000, 5000)

BOXES = arrays(np.float64, st.tuples(st.integers(0, 5), st.just(4)), elements=COORDINATES)

IMAGE_SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))

SIDES = st.floats(0.5, 2000)


@st.composite
def targets(draw: st.DrawFn) -> np.ndarray:
    """Box of shape ``(4,)``, xywh, with a positive size."""
    return np.array([draw(COORDINATES), draw(COORDINATES), draw(SIDES), draw(SIDES)])


@QUICK
@given(boxes=BOXES)
def test_formats_are_inverses(boxes: np.ndarray) -> None:
    np.testing.assert_allclose(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes, atol=1e-9)
    np.testing.assert_allclose(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes, atol=1e-9)
    assert np.array_equal(is_valid(boxes), (boxes[:, 2:] > 0).all(1))


@QUICK
@given(boxes=BOXES, image_size=IMAGE_SIZES, min_size=st.floats(0, 50))
def test_a_clipped_box_is_in_the_image_and_clipping_is_idempotent(
    boxes: np.ndarray, image_size: tuple[int, int], min_size: float
) -> None:
    height, width = image_size
    clipped = clip_to_image(boxes, image_size, min_size)
    assert ((clipped >= -1e-9) & (clipped <= np.array([width, height] * 2) + 1e-9)).all()
    sides = clipped[:, 2:] - clipped[:, :2]
    assert (sides >= np.minimum(min_size, [width, height]) - 1e-9).all()
    np.testing.assert_allclose(clip_to_image(clipped, image_size, min_size), clipped, atol=1e-9)


@QUICK
@given(boxes=BOXES, image_size=IMAGE_SIZES)
def test_the_original_clipping_bounds_every_corner(boxes: np.ndarray, image_size: tuple[int, int]) -> None:
    length = np.array(image_size[::-1])
    clipped = clip_as_original(boxes, image_size)
    assert (clipped[:, :2] >= 0).all()
    assert (clipped[:, :2] <= np.maximum(0, length - 10)).all()
    assert (clipped[:, 2:] >= 10).all()
    assert (clipped[:, 2:] <= np.maximum(10, length)).all()


@QUICK
@given(box=targets(), others=BOXES, crop_size=st.sampled_from([16, 255, 256, 320]), factor=st.floats(1, 8))
def test_boxes_return_from_the_crop(box: np.ndarray, others: np.ndarray, crop_size: int, factor: float) -> None:
    window = Window.around(box, factor)
    crop_xyxy = window.to_crop(others, crop_size)
    np.testing.assert_allclose(window.to_image(crop_xyxy, crop_size), others, atol=1e-6)
    target = window.to_crop(xywh_to_xyxy(box), crop_size)
    np.testing.assert_allclose(
        target[:2] + target[2:], crop_size, atol=crop_size / min(window.width, window.height) + 1
    )
    whole = np.array([window.x0, window.y0, window.x0 + window.width, window.y0 + window.height], dtype=np.float64)
    np.testing.assert_allclose(window.to_crop(whole, crop_size), [0, 0, crop_size, crop_size], atol=1e-9)


@QUICK
@given(x=st.integers(-40, 60), y=st.integers(-40, 60), w=st.integers(1, 40), h=st.integers(1, 40))
@pytest.mark.parametrize("kind", [Window, OriginalWindow])
def test_a_crop_shows_the_pixels_of_its_window(kind: type[Window], x: int, y: int, w: int, h: int) -> None:
    image = np.random.default_rng(0).integers(1, 256, (48, 64), dtype=np.uint8)
    window = kind.around(np.array([x, y, w, h], dtype=np.float64))
    crop = window.cut(image, 32)
    assert crop.shape == (32, 32)
    assert crop.any() or not window.overlaps((48, 64)) or kind is OriginalWindow


@QUICK
@given(x=st.integers(0, 30), y=st.integers(0, 20), side=st.integers(4, 18))
def test_a_window_of_the_size_of_the_crop_copies_pixels(x: int, y: int, side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    window = Window(x, y, side, side)
    np.testing.assert_array_equal(window.cut(image, side), image[y : y + side, x : x + side])
    mask = np.ones((side, side), np.float32)
    pasted = window.paste(mask, (48, 64))
    assert pasted.shape == (48, 64)
    np.testing.assert_allclose(pasted[y : y + side, x : x + side], 1)
    assert pasted.sum() == pytest.approx(side * side)
