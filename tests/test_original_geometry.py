"""The geometry ``original`` against the authors' code: crops, labels, boxes, masks, clipping."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine import Refiner
from alpharefine.boxes import clip_as_original, xywh_to_xyxy, xyxy_to_xywh
from alpharefine.crops import OriginalWindow, Window
from alpharefine.masks import mask_to_box
from tests.models.golden import golden_network

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def geometry(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "geometry_original.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def photographs(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / "refine_original.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def refiner(golden: Path) -> Refiner:
    return Refiner.from_network(golden_network(golden, "ar34_cm"), device="cpu")


def close_by_a_gray_level(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("case", range(16))
def test_a_frame(photographs: dict[str, np.ndarray], refiner: Refiner, case: int) -> None:
    frames = [photographs[f"frame_{i}"] for i in range(4)]
    frame, box = frames[photographs["frame"][case]], photographs["box"][case]
    window = OriginalWindow.around(box)
    close_by_a_gray_level(window.cut(frame), photographs["crop"][case])
    assert 256 / window.height == photographs["h_f"][case]
    assert 256 / window.width == photographs["w_f"][case]
    first_frame, first_box = frames[photographs["template_frame"][case]], photographs["template_box"][case]
    first = OriginalWindow.around(first_box)
    close_by_a_gray_level(first.cut(first_frame), photographs["template_crop"][photographs["template"][case]])
    label = xyxy_to_xywh(first.to_crop(xywh_to_xyxy(first_box)).clip(0, 256))
    np.testing.assert_allclose(label, photographs["template_label"][case], atol=1e-4)

    refiner.initialize(first_frame, first_box)
    found = refiner.refine(frame, box, mask=True)
    tolerance = 5e-3 * max(1, window.width / 256, window.height / 256)
    np.testing.assert_allclose(found.raw_box_xywh, photographs["refined_box"][case], atol=tolerance)
    np.testing.assert_allclose(found.box_xywh, photographs["refined_clipped"][case], atol=tolerance)
    assert found.mask is not None
    np.testing.assert_allclose(found.box_xywh, photographs["refined_clipped_mdnet"][case], atol=tolerance)
    prob = photographs[f"mask_{case:02d}"].astype(np.float32)
    np.testing.assert_allclose(found.mask, prob, atol=2e-3)
    inside, near = (
        np.unpackbits(photographs[f"mask_bits_{case:02d}"])[: prob.size].reshape(prob.shape),
        abs(prob - 0.5) < 2e-3,
    )
    assert ((found.mask > 0.5) == inside)[~near].all()
    assert abs(int((found.mask > 0.5).sum()) - photographs["mask_area"][case]) <= near.sum()
    for name, threshold in (("mask_box", 0.5), ("mask_box_065", 0.65)):
        of_mask = mask_to_box(photographs[f"mask_{case:02d}"].astype(np.float32), threshold)
        np.testing.assert_allclose(box if of_mask is None else of_mask, photographs[name][case], atol=1)


def test_labels_and_the_way_back(geometry: dict[str, np.ndarray]) -> None:
    for extract, target, factors, label, back in zip(
        *(geometry[f"label_{name}"] for name in ("extract_box", "target_box", "factors")),
        geometry["label"],
        geometry["label_mapped_back"],
        strict=True,
    ):
        window = OriginalWindow.around(extract)
        np.testing.assert_allclose([256 / window.height, 256 / window.width], factors, rtol=1e-12)
        found = window.to_crop(xywh_to_xyxy(target.astype(np.float64))).clip(0, 256)
        np.testing.assert_allclose(xyxy_to_xywh(found), label, atol=5e-5)
        np.testing.assert_allclose(xyxy_to_xywh(window.to_image(xywh_to_xyxy(label))), back, atol=2e-4, rtol=1e-5)


def test_windows_over_the_border(geometry: dict[str, np.ndarray]) -> None:
    image = geometry["window_image"]
    height, width = image.shape[:2]
    compared = 0
    columns = (geometry[f"window_{name}"] for name in ("box", "crop64", "factors64"))
    for box, crop, factors in zip(*columns, strict=True):
        window = OriginalWindow.around(box)
        assert [64 / window.height, 64 / window.width] == factors.tolist()
        if window.x0 + window.width < 0 or window.y0 + window.height < 0:
            assert not window.cut(image, 64).any(), "black, where the original shows wrong pixels"
            continue
        close_by_a_gray_level(window.cut(image, 64), crop)
        compared += 1
    assert compared >= 10
    assert (height, width) == (97, 121)


def test_masks_in_the_frame(geometry: dict[str, np.ndarray]) -> None:
    size = geometry["window_image"].shape[:2]
    for box, full in zip(geometry["window_box"], geometry["paste_full"], strict=True):
        np.testing.assert_allclose(OriginalWindow.around(box).paste(geometry["paste_mask"], size), full, atol=1e-6)


def test_masks_to_boxes(geometry: dict[str, np.ndarray]) -> None:
    for mask, box in zip(geometry["blob_mask"], geometry["blob_box"], strict=True):
        found = mask_to_box(mask)
        np.testing.assert_array_equal(geometry["blob_fallback"] if found is None else found, box)


def test_clipping(geometry: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(geometry["clip_out"], geometry["clip_out_mdnet"])
    for size, given, expected in zip(geometry["clip_hw"], geometry["clip_in"], geometry["clip_out"], strict=True):
        found = xyxy_to_xywh(clip_as_original(xywh_to_xyxy(given), tuple(size.tolist())))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_the_two_geometries_share_the_window(geometry: dict[str, np.ndarray]) -> None:
    for box in geometry["label_extract_box"].astype(np.float64):
        exact, original = Window.around(box), OriginalWindow.around(box)
        assert (exact.x0, exact.y0, exact.width, exact.height) == (
            original.x0, original.y0, original.width, original.height
        )  # fmt: skip


@pytest.mark.parametrize("sample", range(4))
def test_a_training_sample(photographs: dict[str, np.ndarray], shared: Path, sample: int) -> None:
    with np.load(shared / "golden" / "processing.npz") as arrays:
        expected = {name: values[sample] for name, values in arrays.items() if len(values) == 4 and values.ndim > 1}
        frames = [photographs[f"frame_{arrays[name][sample]}"] for name in ("template_frame", "frame")]
        shape = arrays[f"full_mask_{sample}_shape"]
        mask = np.unpackbits(arrays[f"full_mask_{sample}"])[: shape.prod()].reshape(shape)
    gray, *_, bright_template, bright_search = expected["draws"]
    boxes = [expected["template_box"], expected["jittered_box"].astype(np.float64)]
    targets = [expected["template_box"], expected["target_box"]]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for name, frame, box, target, bright in zip(
        ("train", "test"), frames, boxes, targets, (bright_template, bright_search), strict=True
    ):
        if gray:
            frame = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        window = OriginalWindow.around(box)
        label = window.to_crop(xywh_to_xyxy(target.astype(np.float64))).clip(0, 256)
        np.testing.assert_allclose(xyxy_to_xywh(label), expected[f"{name}_anno"], atol=1e-3)
        values = ((window.cut(frame) * bright / 255).clip(0, 1) - mean) / std
        np.testing.assert_allclose(values.transpose(2, 0, 1)[:, ::4, ::4], expected[f"{name}_image"], atol=0.02)
        np.testing.assert_allclose(values.mean(axis=(0, 1)), expected[f"{name}_mean"], atol=1e-3)
    np.testing.assert_array_equal(OriginalWindow.around(boxes[1]).cut(mask) * 255, expected["test_mask"])


def test_the_masks_about_the_refined_box(photographs: dict[str, np.ndarray], refiner: Refiner) -> None:
    """As in the original's runs that draw masks: around the box that is refined and not clipped."""
    frame, box = photographs[f"frame_{photographs['frame'][0]}"], photographs["box"][0]
    refiner.initialize(photographs[f"frame_{photographs['template_frame'][0]}"], photographs["template_box"][0])
    np.testing.assert_array_equal(refiner.segment(frame, box), refiner.refine(frame, box, mask=True).mask)
