"""Mask-to-box conversion of hand-drawn and golden blobs."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine.masks import MASK_THRESHOLD, mask_to_box


def blocks(*rectangles: tuple[int, int, int, int], value: float = 0.9) -> np.ndarray:
    mask = np.zeros((60, 80), dtype=np.float32)
    for x, y, width, height in rectangles:
        mask[y : y + height, x : x + width] = value
    return mask


# A contour connects pixel centers: a block of a x b pixels encloses an area of (a - 1)(b - 1).
@pytest.mark.parametrize(
    ("mask", "box_xywh"),
    [
        pytest.param(blocks((10, 20, 30, 15)), [10, 20, 30, 15], id="one block"),
        pytest.param(blocks((0, 0, 80, 60)), [0, 0, 80, 60], id="the whole image"),
        pytest.param(blocks((68, 48, 12, 12)), [68, 48, 12, 12], id="in the last corner"),
        pytest.param(blocks((5, 5, 20, 20), (40, 10, 30, 30)), [40, 10, 30, 30], id="the larger of two"),
        pytest.param(blocks((5, 5, 40, 4), (50, 20, 14, 14)), [50, 20, 14, 14], id="larger in area, not in length"),
        pytest.param(blocks((10, 10, 20, 20), (30, 30, 12, 12)), [10, 10, 32, 32], id="touching at a corner"),
        pytest.param(blocks((3, 4, 11, 12)), [3, 4, 11, 12], id="110 px enclosed"),
        pytest.param(blocks((3, 4, 11, 11)), None, id="100 px enclosed are too few"),
        pytest.param(blocks((3, 4, 70, 1)), None, id="a line encloses nothing"),
        pytest.param(blocks(), None, id="empty"),
        pytest.param(blocks((10, 10, 30, 30), value=0.5), None, id="exactly at the threshold"),
        pytest.param(np.full((60, 80), np.nan, np.float32), None, id="not a number"),
    ],
)
def test_box_of_blocks(mask: np.ndarray, box_xywh: list[int] | None) -> None:
    found = mask_to_box(mask)
    assert (None if found is None else found.tolist()) == box_xywh
    if found is not None:
        assert found.dtype == np.float64


def test_a_hole_does_not_shrink_the_outline() -> None:
    mask = blocks((10, 10, 40, 30))
    mask[15:35, 15:45] = 0
    assert mask_to_box(mask).tolist() == [10, 10, 40, 30]


def test_a_higher_threshold_sees_less() -> None:
    mask = np.maximum(blocks((10, 10, 40, 30), value=0.6), blocks((20, 15, 20, 12), value=0.7))
    assert mask_to_box(mask).tolist() == [10, 10, 40, 30]
    assert mask_to_box(mask, threshold=0.65).tolist() == [20, 15, 20, 12]
    assert mask_to_box(mask, threshold=0.75) is None


def test_the_mask_is_not_modified() -> None:
    mask = blocks((10, 20, 30, 15))
    before = mask.copy()
    mask_to_box(mask)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("seed", range(5))
def test_random_blobs_against_connected_components(seed: int) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((90, 120)).astype(np.float32), (0, 0), 5)
    mask = (noise - noise.min()) / (noise.max() - noise.min())
    # Independent reference: label 8-connected components and measure the area of each outer contour.
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > MASK_THRESHOLD).astype(np.uint8), connectivity=8)
    areas = {
        label: cv2.contourArea(
            cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0][0]
        )
        for label in range(1, len(stats))
    }
    largest = max(areas, key=lambda label: areas[label])
    assert areas[largest] > 100
    np.testing.assert_array_equal(mask_to_box(mask), stats[largest, :4])


@pytest.mark.parity
def test_golden_blobs(golden: Path) -> None:
    with np.load(golden / "geometry_original.npz") as arrays:
        masks, fallback_xywh, boxes_xywh = arrays["blob_mask"], arrays["blob_fallback"], arrays["blob_box"]
    found = [mask_to_box(mask) for mask in masks]
    assert any(box is None for box in found)
    np.testing.assert_array_equal([fallback_xywh if box is None else box for box in found], boxes_xywh)
