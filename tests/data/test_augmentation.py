from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest

from alpharefine.crops import Window
from alpharefine.data.augmentation import PairAugmentation, Photometric
from alpharefine.errors import UserError


class Scripted:
    """Random generator with predefined values."""

    def __init__(self, normal: np.ndarray, uniform: np.ndarray) -> None:
        self.normal, self.uniform = normal, uniform

    def standard_normal(self, size: int) -> np.ndarray:
        assert size == 2
        return self.normal

    def random(self, size: int) -> np.ndarray:
        assert size == 2
        return self.uniform


class TestJitter:
    def test_hand_worked(self) -> None:
        """The sides are 40 e^0.25 and 90 e^-0.5. The center moves by 0.125 and -0.0625 of their geometric mean."""
        rng = Scripted(np.array([1.0, -2.0]), np.array([1.0, 0.25]))
        jittered_xywh = PairAugmentation().jitter(np.array([100.0, 200.0, 40.0, 90.0]), rng)
        w, h = 40 * np.exp(0.25), 90 * np.exp(-0.5)
        mean = np.sqrt(w * h)
        expected = [120 + 0.125 * mean - w / 2, 245 - 0.0625 * mean - h / 2, w, h]
        np.testing.assert_allclose(jittered_xywh, expected, rtol=0, atol=1e-12)

    def test_no_jitter_is_the_box(self) -> None:
        box_xywh = np.array([10.5, 20.25, 30.0, 40.0])
        augmentation = PairAugmentation(scale_jitter=0, center_jitter=0)
        assert augmentation.jitter(box_xywh, np.random.default_rng(0)).tolist() == box_xywh.tolist()

    @pytest.mark.parametrize(("scale_jitter", "center_jitter"), [(0.25, 0.25), (0.1, 1.0)])
    def test_distribution(self, scale_jitter: float, center_jitter: float) -> None:
        rng = np.random.default_rng(5)
        augmentation, box_xywh = PairAugmentation(scale_jitter, center_jitter), np.array([50.0, 80.0, 30.0, 60.0])
        jittered = np.array([augmentation.jitter(box_xywh, rng) for _ in range(10_000)])
        log_factors = np.log(jittered[:, 2:] / box_xywh[2:])
        np.testing.assert_allclose(log_factors.mean(0), 0, atol=4 * scale_jitter / np.sqrt(10_000))
        np.testing.assert_allclose(log_factors.std(0), scale_jitter, rtol=0.03)
        offsets = jittered[:, :2] + jittered[:, 2:] / 2 - [65, 110]
        relative = offsets / np.sqrt(jittered[:, 2:].prod(1, keepdims=True)) / center_jitter
        assert np.abs(relative).max() <= 0.5 + 1e-9
        assert np.abs(relative).max() > 0.499
        np.testing.assert_allclose(relative.mean(0), 0, atol=0.013)
        np.testing.assert_allclose(relative.std(0), 1 / np.sqrt(12), rtol=0.02)
        correlation = np.corrcoef(np.concatenate([log_factors, relative], axis=1).T)
        assert np.abs(correlation - np.eye(4)).max() < 0.05

    @pytest.mark.parity
    def test_golden(self, golden: dict[str, np.ndarray]) -> None:
        for draws, box_xywh, expected in zip(
            golden["draws"], golden["target_box"], golden["jittered_box"], strict=True
        ):
            draw = dict(zip(golden["draw_names"].tolist(), draws, strict=True))
            rng = Scripted(np.array([draw["n_w"], draw["n_h"]]), np.array([draw["u_x"], draw["u_y"]]))
            np.testing.assert_allclose(PairAugmentation().jitter(box_xywh, rng), expected, rtol=0, atol=5e-5)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    """Four training samples and their frames."""
    arrays: dict[str, np.ndarray] = {}
    for name in ("refine_original", "processing"):
        with np.load(shared / "golden" / f"{name}.npz") as file:
            arrays |= dict(file)
    return arrays


@pytest.mark.parity
def test_golden_crops_and_masks(golden: dict[str, np.ndarray]) -> None:
    """The original crops are equal where the window does not touch the right or lower image border."""
    compared = 0
    for i, draws in enumerate(golden["draws"]):
        draw = dict(zip(golden["draw_names"].tolist(), draws, strict=True))
        for kind, frame_index, box in (("train", "template_frame", "template_box"), ("test", "frame", "jittered_box")):
            frame = golden[f"frame_{golden[frame_index][i]}"]
            window = Window.around(golden[box][i])
            if window.x0 + window.width >= frame.shape[1] or window.y0 + window.height >= frame.shape[0]:
                continue
            if draw["gray"]:
                frame = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            scaled = np.clip(window.cut(frame) * (draw[f"bright_{kind}"] / 255), 0, 1)
            normalized = ((scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)
            gray_level = 1.2 / 255 / 0.224
            np.testing.assert_allclose(normalized[:, ::4, ::4], golden[f"{kind}_image"][i], rtol=0, atol=gray_level)
            if kind == "test":
                shape = golden[f"full_mask_{i}_shape"]
                mask = np.unpackbits(golden[f"full_mask_{i}"])[: shape.prod()].reshape(shape)
                assert np.array_equal(window.cut(mask) * 255, golden["test_mask"][i])
            compared += 1
    assert compared == 3


UNCHANGED = PairAugmentation().jitter_only()


def flat(value: int = 100) -> np.ndarray:
    return np.full((16, 16, 3), value, np.uint8)


def dots() -> np.ndarray:
    image = np.full((33, 33, 3), 60, np.uint8)
    image[16, 16] = 160
    return image


def test_jitter_only() -> None:
    wild = PairAugmentation(0.3, 0.4, 0.5, brightness=1, contrast=1, saturation=1, blur_prob=1, flip_prob=1)
    assert wild.jitter_only() == PairAugmentation(0.3, 0.4, gray_prob=0, brightness=0)


class TestPhotometric:
    def test_nothing_asked_for_changes_nothing(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        photometric = Photometric(UNCHANGED)
        assert all(np.array_equal(photometric(image, False, np.random.default_rng(i)), image) for i in range(10))

    @pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
    def test_changes_are_those_of_albumentations(self, name: str) -> None:
        image = np.random.default_rng(8).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        photometric = Photometric(PairAugmentation(**{"brightness": 0.0, name: 0.6}))
        for seed in range(20):
            draws = np.random.default_rng(seed)
            draws.permutation(1)
            factor = draws.uniform(0.4, 1.6)
            ranges = dict.fromkeys(("brightness", "contrast", "saturation"), (1.0, 1.0)) | {name: (factor, factor)}
            expected = A.ColorJitter(**ranges, hue=(0.0, 0.0), p=1.0)(image=image)["image"]
            changed = photometric(image, False, np.random.default_rng(seed))
            assert np.abs(changed.astype(int) - expected).max() <= (name == "brightness")

    def test_brightness_is_a_uniform_factor(self) -> None:
        photometric, rng = Photometric(PairAugmentation(brightness=0.2)), np.random.default_rng(1)
        factors = np.array([photometric(flat(), False, rng)[0, 0, 0] for _ in range(1500)]) / 100
        assert (factors.min(), factors.max()) == pytest.approx((0.8, 1.2), abs=0.011)
        counts = np.histogram(factors, bins=4, range=(0.7999, 1.2001))[0]
        assert np.abs(counts - 375).max() < 80

    def test_brightness_stops_at_white(self) -> None:
        photometric = Photometric(PairAugmentation(brightness=0.9))
        values = [int(photometric(flat(200), False, np.random.default_rng(i)).max()) for i in range(40)]
        assert max(values) == 255

    def test_draws_differ_from_crop_to_crop_and_repeat_with_the_generator(self) -> None:
        photometric = Photometric(PairAugmentation(brightness=0.2, contrast=0.2, saturation=0.2, blur_prob=0.5))
        image = np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        rng = np.random.default_rng(3)
        first = [photometric(image, False, rng) for _ in range(8)]
        assert len({crop.tobytes() for crop in first}) == 8
        rng, again = np.random.default_rng(3), Photometric(PairAugmentation(0.25, 0.25, 0.05, 0.2, 0.2, 0.2, 0.5))
        assert all(np.array_equal(again(image, False, rng), crop) for crop in first)

    def test_gray_has_the_brightness_that_opencv_gives(self) -> None:
        image = np.random.default_rng(4).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        gray = Photometric(UNCHANGED)(image, True, np.random.default_rng(0))
        assert np.array_equal(gray, np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2))

    @pytest.mark.parametrize(("blur_prob", "low", "high"), [(0.0, 0, 0), (0.3, 60, 120), (1.0, 300, 300)])
    def test_how_often_is_blurred(self, blur_prob: float, low: int, high: int) -> None:
        photometric, rng = Photometric(PairAugmentation(brightness=0, blur_prob=blur_prob)), np.random.default_rng(5)
        blurred = sum(photometric(dots(), False, rng)[16, 16, 0] < 160 for _ in range(300))
        assert low <= blurred <= high

    def test_the_blur_has_a_standard_deviation_of_half_a_pixel_to_two(self) -> None:
        photometric, rng = Photometric(PairAugmentation(brightness=0, blur_prob=1.0)), np.random.default_rng(7)
        peaks = [int(photometric(dots(), False, rng)[16, 16, 0]) for _ in range(300)]
        strongest, weakest = (cv2.GaussianBlur(dots(), (0, 0), sigma)[16, 16, 0] for sigma in (2.0, 0.5))
        assert (min(peaks), max(peaks)) == (pytest.approx(strongest, abs=1), pytest.approx(weakest, abs=3))

    def test_blur_and_brightness_are_drawn_on_their_own(self) -> None:
        photometric, rng = Photometric(PairAugmentation(brightness=0.2, blur_prob=1.0)), np.random.default_rng(6)
        crops = np.array([photometric(dots(), False, rng)[..., 0] for _ in range(300)], dtype=np.float64)
        brightness = crops[:, 0, 0] / 60
        spread = (crops[:, 16, 16] / brightness - 60) / 100
        assert spread.std() > 0.1
        assert abs(np.corrcoef(brightness, spread)[0, 1]) < 0.25


NAMES = [each.name for each in fields(PairAugmentation)]


class TestRanges:
    @pytest.mark.parametrize("name", NAMES)
    def test_values_out_of_range(self, name: str) -> None:
        value, most = (-0.1, "inf") if name.endswith("_jitter") else (1.1, "1.0")
        with pytest.raises(UserError, match=rf"`augmentation\.{name}` must be in 0\.\.{most}, got {value}\."):
            PairAugmentation(**{name: value}).check()

    @pytest.mark.parametrize("name", NAMES)
    def test_the_ends_of_a_range_belong_to_it(self, name: str) -> None:
        for value in (0, 1):
            PairAugmentation(**{name: value}).check()


def test_albumentations_is_not_asked_for_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_ALBUMENTATIONS_UPDATE", raising=False)
    Photometric(UNCHANGED)
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
