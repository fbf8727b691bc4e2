from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from alpharefine.boxes import xywh_to_xyxy, xyxy_to_xywh
from alpharefine.crops import GEOMETRIES, OriginalWindow, OriginalWindowBack, Window
from alpharefine.models import AlphaRefineNet, NetworkConfig
from alpharefine.options import GeometryName

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def exact(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "geometry_exact.npz") as arrays:
        return dict(arrays)


def random_image(height: int = 40, width: int = 60, channels: tuple[int, ...] = (3,)) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, *channels), dtype=np.uint8)


def slow_cut(image: np.ndarray, window: Window, crop_size: int) -> np.ndarray:
    """Sample bilinearly pixel by pixel in floating point. Pixels outside the image are black."""

    def value(row: int, column: int) -> np.ndarray:
        y = window.y0 + min(max(row, 0), window.height - 1)
        x = window.x0 + min(max(column, 0), window.width - 1)
        inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
        return image[y, x].astype(float) if inside else np.zeros(image.shape[2:])

    crop = np.zeros((crop_size, crop_size, *image.shape[2:]))
    for i in range(crop_size):
        for j in range(crop_size):
            y = (i + 0.5) * window.height / crop_size - 0.5
            x = (j + 0.5) * window.width / crop_size - 0.5
            row, column = int(np.floor(y)), int(np.floor(x))
            for r, wy in ((row, row + 1 - y), (row + 1, y - row)):
                for c, wx in ((column, column + 1 - x), (column + 1, x - column)):
                    crop[i, j] += wy * wx * value(r, c)
    return crop


class TestWindowAround:
    @pytest.mark.parametrize(
        ("box_xywh", "window"),
        [
            pytest.param([10, 20, 8, 6], (6, 17, 16, 12), id="whole numbers"),
            pytest.param([10, 20, 8.1, 6.1], (6, 17, 17, 13), id="sides are rounded up"),
            pytest.param([10, 20, 5, 5], (8, 18, 10, 10), id="a half is rounded to even, down and up"),
            pytest.param([11, 21, 5, 5], (8, 18, 10, 10), id="a half is rounded to even, up here"),
            pytest.param([13, 23, 5, 5], (10, 20, 10, 10), id="a half is rounded to even, down here"),
            pytest.param([-2, -3, 1, 1], (-2, -4, 2, 2), id="negative halves are rounded to even"),
            pytest.param([10, 20, 0.3, 0.3], (10, 20, 1, 1), id="smaller than a pixel"),
            pytest.param([-50, -60, 8, 6], (-54, -63, 16, 12), id="outside of the image"),
        ],
    )
    def test_hand_worked(self, box_xywh: list[float], window: tuple[int, ...]) -> None:
        found = Window.around(np.array(box_xywh, dtype=np.float64))
        assert (found.x0, found.y0, found.width, found.height) == window
        assert all(type(v) is int for v in (found.x0, found.y0, found.width, found.height))

    def test_another_factor(self) -> None:
        assert Window.around(np.array([10.0, 20.0, 8.0, 6.0]), search_factor=4.0) == Window(-2, 11, 32, 24)

    @pytest.mark.parametrize(
        "box_xywh",
        [
            pytest.param([0, 0, 0, 5], id="no width"),
            pytest.param([0, 0, 5, 0], id="no height"),
            pytest.param([0, 0, -1, -1], id="negative"),
            pytest.param([NAN, 0, 5, 5], id="NaN place"),
            pytest.param([0, 0, 5, NAN], id="NaN size"),
            pytest.param([INF, 0, 5, 5], id="infinite place"),
            pytest.param([0, 0, INF, 5], id="infinite size"),
        ],
    )
    def test_a_box_without_a_window(self, box_xywh: list[float]) -> None:
        with pytest.raises(
            ValueError, match=r"`box_xywh` must be four finite numbers with a positive width and height"
        ):
            Window.around(np.array(box_xywh, dtype=np.float64))


class TestCut:
    @pytest.mark.parametrize(
        "window",
        [
            pytest.param(Window(5, 4, 16, 16), id="same size"),
            pytest.param(Window(5, 4, 8, 5), id="enlarged"),
            pytest.param(Window(5, 4, 33, 31), id="reduced"),
            pytest.param(Window(7, 9, 1, 1), id="one pixel"),
            pytest.param(Window(-7, -9, 30, 30), id="over the upper left corner"),
            pytest.param(Window(40, 25, 30, 30), id="over the lower right corner"),
            pytest.param(Window(-10, -10, 90, 70), id="larger than the image"),
            pytest.param(Window(0, 0, 60, 40), id="the whole image"),
            pytest.param(Window(59, 39, 10, 10), id="the last pixel"),
            pytest.param(Window(5, -300, 3, 900), id="very tall"),
        ],
    )
    @pytest.mark.parametrize("channels", [(3,), ()], ids=["color", "mask"])
    def test_against_slow_sampling(self, window: Window, channels: tuple[int, ...]) -> None:
        image = random_image(channels=channels)
        crop = window.cut(image, 16)
        assert crop.dtype == np.uint8
        assert np.abs(crop - slow_cut(image, window, 16)).max() <= 1

    def test_a_window_of_the_crops_size_copies_pixels(self) -> None:
        image = random_image()
        assert np.array_equal(Window(3, 2, 16, 16).cut(image, 16), image[2:18, 3:19])

    def test_the_last_row_and_column_are_kept(self) -> None:
        image = np.zeros((16, 16, 3), np.uint8)
        image[-1], image[:, -1] = 200, 200
        assert np.array_equal(Window(0, 0, 16, 16).cut(image, 16), image)

    @pytest.mark.parametrize(
        "window",
        [
            pytest.param(Window(-30, 5, 20, 20), id="left"),
            pytest.param(Window(-20, 5, 20, 20), id="left, touching"),
            pytest.param(Window(60, 5, 20, 20), id="right, touching"),
            pytest.param(Window(5, -99, 20, 20), id="above"),
            pytest.param(Window(5, -20, 20, 20), id="above, touching"),
            pytest.param(Window(5, 40, 20, 20), id="below, touching"),
            pytest.param(Window(-99, -99, 20, 20), id="beyond a corner"),
            pytest.param(Window(-(10**15), 10**15, 20, 20), id="very far"),
        ],
    )
    def test_black_where_there_is_no_image(self, window: Window) -> None:
        image = random_image()
        assert not window.overlaps((40, 60))
        assert window.cut(image, 8).shape == (8, 8, 3)
        assert window.cut(image, 8).dtype == np.uint8
        assert not window.cut(image, 8).any()
        assert not window.paste(np.ones((8, 8), np.float32), (40, 60)).any()

    @pytest.mark.parametrize(
        "window", [Window(-19, 5, 20, 20), Window(59, 5, 20, 20), Window(5, -19, 20, 20), Window(5, 39, 20, 20)]
    )
    def test_one_line_of_pixels_is_an_overlap(self, window: Window) -> None:
        assert window.overlaps((40, 60))

    @pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
    @pytest.mark.parametrize("x0", [5, -5, 500], ids=["inside", "over the border", "outside"])
    def test_channels_are_kept(self, channels: tuple[int, ...], x0: int) -> None:
        assert Window(x0, 5, 20, 20).cut(random_image(channels=channels), 8).shape == (8, 8, *channels)

    def test_a_mask_stays_zero_and_one(self) -> None:
        mask = (random_image(channels=()) > 128).astype(np.uint8)
        assert set(np.unique(Window(3, 3, 17, 11).cut(mask, 64))) == {0, 1}

    def test_only_the_window_of_a_huge_image_is_read(self) -> None:
        """The image has 30 GB but is one pixel row in memory."""
        row = np.tile(np.arange(100, dtype=np.uint8), 1000)
        huge = np.broadcast_to(row[None, :, None], (100_000, 100_000, 3))
        tracemalloc.start()
        crop = Window(50_010, 99_995, 64, 64).cut(huge, 64)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert crop[0, :, 0].tolist() == row[50_010:50_074].tolist()
        assert not crop[5:].any()
        assert peak < 1_000_000


class TestHugeWindow:
    """The box of a diverging tracker. Its window would need gigabytes of memory."""

    @pytest.mark.parametrize(
        "window",
        [
            pytest.param(Window(-5000, -5000, 10_060, 10_040), id="both ways"),
            pytest.param(Window(10, -(10**8), 20, 2 * 10**8), id="narrow and tall"),
            pytest.param(Window(-(10**9), 7, 2 * 10**9, 12), id="wide and low"),
            pytest.param(Window(20, 10, 10**5, 10**4), id="starting in the image"),
            pytest.param(Window(-(10**5) + 30, -(10**4) + 30, 10**5, 10**4), id="ending in the image"),
        ],
    )
    def test_against_slow_sampling(self, window: Window) -> None:
        image = random_image()
        assert np.abs(window.cut(image, 32) - slow_cut(image, window, 32)).max() <= 1

    @pytest.mark.parametrize(
        "window",
        [
            pytest.param(Window(-31, -20, 100, 90), id="larger than the image"),
            pytest.param(Window(5, 4, 8, 5), id="enlarged"),
            pytest.param(Window(21, 12, 33, 20), id="reduced"),
            pytest.param(Window(-4, -9, 14, 12), id="over the upper left corner"),
            pytest.param(Window(47, 31, 23, 15), id="over the lower right corner"),
        ],
    )
    def test_equal_to_the_built_window_below_the_limit(self, window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
        image = random_image()
        mask = np.random.default_rng(3).random((16, 16), dtype=np.float32)
        crop, pasted = window.cut(image, 16), window.paste(mask, (40, 60))
        monkeypatch.setattr("alpharefine.crops._MAX_BUILT_AREA", 0)
        sampled = window.cut(image, 16)
        assert sampled.dtype == np.uint8
        assert np.abs(sampled.astype(int) - crop).max() <= 1
        np.testing.assert_allclose(window.paste(mask, (40, 60)), pasted, atol=1e-5)

    @pytest.mark.parametrize("size", [1e6, 1e30, 1e300])
    def test_no_memory_is_asked_for(self, size: float) -> None:
        window = Window.around(np.array([-size / 2, -size / 2, size, size]))
        tracemalloc.start()
        crop = window.cut(random_image())
        mask = window.paste(np.ones((256, 256), np.float32), (40, 60))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert crop.shape == (256, 256, 3)
        assert (mask == 1).all()
        assert peak < 20_000_000


class TestMapping:
    def test_hand_worked(self) -> None:
        window = Window(10, 20, 32, 64)
        assert window.to_crop(np.array([10.0, 20.0, 26.0, 84.0])).tolist() == [0, 0, 128, 256]
        assert window.to_crop(np.array([2.0, 4.0, 42.0, 20.0]), crop_size=64).tolist() == [-16, -16, 64, 0]
        assert window.to_image(np.array([128.0, 128.0, 256.0, 0.0])).tolist() == [26, 52, 42, 20]

    @pytest.mark.parametrize("shape", [(4,), (0, 4), (5, 4), (2, 3, 4)])
    def test_there_and_back(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(4)
        for _ in range(50):
            window = Window.around(rng.uniform([-100, -100, 0.5, 0.5], [900, 900, 700, 700]))
            boxes_xyxy = rng.uniform(-100, 1000, shape)
            np.testing.assert_allclose(window.to_image(window.to_crop(boxes_xyxy)), boxes_xyxy, rtol=0, atol=1e-9)
            np.testing.assert_allclose(window.to_crop(window.to_image(boxes_xyxy)), boxes_xyxy, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("name", GEOMETRIES)
    def test_many_windows_at_once(self, name: GeometryName) -> None:
        rng, geometry = np.random.default_rng(5), GEOMETRIES[name]
        boxes_xywh = rng.uniform([-50, -50, 2, 2], [400, 300, 200, 150], (20, 4))
        crop_xyxy = rng.uniform(-20, 280, (20, 4)).astype(np.float32)
        sizes = rng.integers(5, 400, (2, 20))
        windows = [geometry.window.around(box_xywh) for box_xywh in boxes_xywh]
        together = geometry.window.each_to_image(windows, crop_xyxy)
        alone = [window.to_image(box) for window, box in zip(windows, crop_xyxy, strict=True)]
        np.testing.assert_array_equal(together, alone)
        clipped = [geometry.clip(box, (height, width)) for box, height, width in zip(alone, *sizes, strict=True)]
        np.testing.assert_array_equal(geometry.clip(together, (sizes[0], sizes[1])), clipped)

    def test_a_rectangle_lies_in_the_crop_where_its_box_says(self) -> None:
        image = np.zeros((80, 90, 3), np.uint8)
        image[30:50, 20:60] = 255
        window = Window.around(np.array([15.0, 26.0, 43.0, 28.0]))
        crop = window.cut(image)[..., 0] > 127
        x1, y1, x2, y2 = window.to_crop(np.array([20.0, 30.0, 60.0, 50.0]))
        rows, columns = np.flatnonzero(crop.any(1)), np.flatnonzero(crop.any(0))
        assert abs(columns[0] - x1) <= 0.5
        assert abs(columns[-1] + 1 - x2) <= 0.5
        assert abs(rows[0] - y1) <= 0.5
        assert abs(rows[-1] + 1 - y2) <= 0.5


class TestOriginalWindowBack:
    """Labels of the `original` geometry lie half a crop pixel before their targets, up to window rounding."""

    def test_exact_up_to_the_rounding_of_the_window(self) -> None:
        rng = np.random.default_rng(5)
        for size in (10.0, 60.0, 400.0):
            errors = []
            for _ in range(200):
                box_xywh = rng.uniform([100, 100, size, size], [300, 300, 2 * size, 2 * size])
                target_xyxy = xywh_to_xyxy(box_xywh + rng.uniform(-0.1, 0.1, 4) * size)
                window = OriginalWindowBack.around(box_xywh)
                label_xyxy = window.to_crop(target_xyxy)
                errors.append(window.to_image(label_xyxy) - target_xyxy)
            assert np.abs(errors).max() < 0.5 + 1e-3
            assert np.abs(np.mean(errors)) < 0.1

    def test_it_is_a_window_as_the_original_cuts_it(self) -> None:
        box_xywh = np.array([-3.0, 5.0, 21.3, 17.8])
        ours, theirs = OriginalWindowBack.around(box_xywh), OriginalWindow.around(box_xywh)
        assert type(ours) is OriginalWindowBack
        np.testing.assert_array_equal(ours.cut(random_image(), 16), theirs.cut(random_image(), 16))
        assert not AlphaRefineNet(NetworkConfig("resnet18", geometry="original_window")).corner_head.grid.reaches_end

    def test_another_crop_size(self) -> None:
        window = OriginalWindowBack.around(np.array([10.0, 20.0, 30.0, 40.0]))
        crop_xyxy = np.array([8.0, 16.0, 24.0, 40.0])
        assert window.to_image(crop_xyxy, crop_size=64).tolist() == window.to_image(4 * crop_xyxy + 1.5).tolist()


class TestPrecision:
    """The geometries differ in where they round to float32."""

    BOX_XYWH = np.array([13.3, 21.7, 41.9, 33.1])
    CROP_XYXY = np.random.default_rng(6).uniform(-50, 300, (2, 3, 4)).astype(np.float32)

    @pytest.mark.parametrize("kind", [Window, OriginalWindow, OriginalWindowBack])
    def test_boxes_are_mapped_one_by_one_to_float64(self, kind: type[Window]) -> None:
        window = kind.around(self.BOX_XYWH)
        for mapped in (window.to_crop, window.to_image):
            found = mapped(self.CROP_XYXY)
            assert found.dtype == np.float64
            assert found.tolist() == [[mapped(box).tolist() for box in boxes] for boxes in self.CROP_XYXY]

    @pytest.mark.parametrize("kind", [Window, OriginalWindowBack])
    @pytest.mark.parametrize("scale", [1, 1e-3])
    def test_the_way_back_is_computed_in_float64(self, kind: type[Window], scale: float) -> None:
        window, crop_xyxy = kind.around(self.BOX_XYWH), self.CROP_XYXY * np.float32(scale)
        np.testing.assert_array_equal(window.to_image(crop_xyxy), window.to_image(crop_xyxy.astype(np.float64)))

    def test_the_original_centers_a_box_in_float32_and_adds_its_sides_in_float64(self) -> None:
        window = OriginalWindow.around(self.BOX_XYWH)
        points, boxes_xyxy = self.CROP_XYXY[..., [0, 1, 0, 1]], self.CROP_XYXY.astype(np.float64)
        centers = window.to_crop(points)
        assert np.array_equal(centers, centers.astype(np.float32))
        label_xyxy = window.to_crop(boxes_xyxy)
        for corner in (label_xyxy[..., :2], label_xyxy[..., 2:]):
            assert (corner != corner.astype(np.float32)).any()

    def test_the_original_keeps_the_search_factor(self) -> None:
        window = OriginalWindow.around(self.BOX_XYWH, 4.0)
        exact = Window.around(self.BOX_XYWH, 4.0)
        assert (window.x0, window.y0, window.width, window.height) == (
            exact.x0, exact.y0, exact.width, exact.height
        )  # fmt: skip
        np.testing.assert_allclose(window.to_image(np.zeros(4))[:2], self.BOX_XYWH[:2] - 1.5 * self.BOX_XYWH[2:])


@pytest.mark.parametrize(("name", "far_end"), [("exact", 256), ("original", 255), ("original_window", 255)])
def test_mirrored_boxes(name: GeometryName, far_end: int) -> None:
    crop_xyxy = np.array([[[0.0, 10.0, 100.0, 60.0], [30.0, 0.0, 40.0, 256.0]]])
    expected = [[[far_end - 100, 10, far_end, 60], [far_end - 40, 0, far_end - 30, 256]]]
    assert GEOMETRIES[name].mirrored(crop_xyxy).tolist() == expected


class TestPaste:
    def test_a_rectangle_comes_back_to_its_place(self) -> None:
        mask = np.zeros((80, 90), np.uint8)
        mask[30:50, 20:60] = 1
        for box_xywh in ([15, 26, 43, 28], [20, 30, 40, 20], [50, 40, 30, 40]):
            window = Window.around(np.array(box_xywh, dtype=np.float64))
            back = window.paste(window.cut(mask).astype(np.float32), mask.shape)
            assert back.dtype == np.float32
            inside = np.zeros_like(mask)
            inside[max(window.y0, 0) : window.y0 + window.height, max(window.x0, 0) : window.x0 + window.width] = 1
            assert np.array_equal(back > 0.5, (mask & inside).astype(bool))

    def test_nothing_outside_of_the_window(self) -> None:
        pasted = Window(10, 5, 7, 9).paste(np.ones((16, 16), np.float32), (40, 60))
        assert pasted[5:14, 10:17].min() == 1
        assert pasted.sum() == 63


@pytest.mark.parity
class TestGolden:
    def test_windows_and_crops(self, exact: dict[str, np.ndarray]) -> None:
        for box_xywh, expected, crop in zip(exact["window_box"], exact["window"], exact["window_crop64"], strict=True):
            window = Window.around(box_xywh)
            assert [window.x0, window.y0, window.width, window.height] == expected.tolist()
            assert np.abs(window.cut(exact["image"], 64).astype(int) - crop).max() <= 1

    def test_labels_and_boxes_mapped_back(self, exact: dict[str, np.ndarray]) -> None:
        for i, box_xywh in enumerate(exact["extract_box"]):
            window = Window.around(box_xywh)
            assert [window.x0, window.y0, window.width, window.height] == exact["extract_window"][i].tolist()
            label_xyxy = window.to_crop(xywh_to_xyxy(exact["target_box"][i])).clip(0, 256)
            np.testing.assert_allclose(label_xyxy, exact["label_xyxy"][i], rtol=0, atol=1e-9)
            back_xywh = xyxy_to_xywh(window.to_image(label_xyxy))
            np.testing.assert_allclose(back_xywh, exact["mapped_back"][i], rtol=0, atol=1e-9)
            if exact["unclamped"][i]:
                np.testing.assert_allclose(back_xywh, exact["target_box"][i], rtol=0, atol=1e-9)
