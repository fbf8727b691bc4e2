from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from alpharefine.trackers.dimp.crop import Arithmetic, Sample, box_in_sample, cut_sample
from alpharefine.trackers.dimp.first_frame import (
    FirstFrameViews,
    View,
    crops_of,
    drop_channels,
    make_views,
    shifted_crop,
)
from alpharefine.trackers.dimp.target import Target

from .golden import read_arrays


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("center", "side"), [((30, 40), 16), ((2, 3), 16), ((58, 79), 20), ((-40, 200), 10)], ids=str)
def test_pixels_are_those_of_the_picture_and_of_its_border(center: tuple[int, int], side: int) -> None:
    frame = noise(60, 80)
    sample = cut_sample(frame, np.float32(center), np.float32([side, side]), (side, side))
    y0, x0, y1, x1 = sample.corners_yx.astype(int)
    assert (y1 - y0, x1 - x0) == (side, side)
    rows, columns = np.arange(y0, y1).clip(0, 59), np.arange(x0, x1).clip(0, 79)
    np.testing.assert_array_equal(sample.pixels.permute(1, 2, 0).numpy(), frame[rows[:, None], columns])
    np.testing.assert_allclose(sample.center_yx, (np.array([y0 + y1, x0 + x1]) - 1) / 2)
    assert sample.scale == 1


def test_windows_at_the_border_move_inside() -> None:
    sample = cut_sample(noise(60, 80), np.float32([2, 77]), np.float32([20, 20]), (20, 20), "inside")
    np.testing.assert_array_equal(sample.corners_yx, [0, 60, 20, 80])


@pytest.mark.parity
@pytest.mark.parametrize(("arithmetic", "prefix"), [("integer", "int"), ("float", "float")])
def test_every_crop_of_the_original(golden: Path, arithmetic: Arithmetic, prefix: str) -> None:
    arrays = read_arrays(golden / "tracker_sample_patch.npz")
    cases = json.loads(str(arrays["cases_json"]))
    for i, case in enumerate(cases):
        sample = cut_sample(
            arrays["image"],
            np.float32(case["pos_yx"]),
            np.float32(case["sample_sz_hw"]),
            tuple(case["output_sz_hw"]),
            case["mode"],
            case["max_scale_change"],
            arithmetic,
        )
        np.testing.assert_array_equal(sample.corners_yx, arrays[f"{prefix}_{i}_coord"], err_msg=str(case))
        expected = arrays[f"{prefix}_{i}_patch"]
        np.testing.assert_allclose(sample.pixels[:, ::4, ::4], expected, atol=1e-3, err_msg=str(case))
    assert len(cases) == 55


@pytest.mark.parity
def test_places_in_the_crop_of_the_original(golden: Path) -> None:
    arrays = read_arrays(golden / "tracker_logic.npz")
    assert len(arrays["sampleloc/pos_sz_box"]) == 6
    for corners, pos_sz_box, center, scale in zip(
        *(arrays[f"sampleloc/{name}"] for name in ("coord_y0x0y1x1", "pos_sz_box", "pos", "scale")), strict=True
    ):
        sample = Sample(torch.empty(3, 288, 288), corners.astype(np.float32))
        np.testing.assert_allclose(sample.center_yx, center, atol=1e-4)
        assert sample.scale == pytest.approx(scale, rel=1e-6)
        y, x, h, w = pos_sz_box[:4]
        box = box_in_sample(np.float32([y, x]), np.float32([h, w]), center, scale, np.float32([288, 288]))
        np.testing.assert_allclose(box, pos_sz_box[4:], atol=1e-3)


@pytest.mark.parity
def test_the_target_stays_near_the_picture_as_in_the_original(golden: Path) -> None:
    rows = read_arrays(golden / "tracker_logic.npz")["update_state/in_out_img360x480_target60x40"]
    for *asked, y, x in rows:
        target = Target(np.array([0.0, 0.0, 40.0, 60.0]), 288, 5)
        target.move_to(np.float32(asked), (360, 480), 0.2)
        np.testing.assert_allclose(target.center_yx, [y, x], atol=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("view", ["identity", "fliplr", "blur", "rotate", "translation"])
def test_views_of_the_original(golden: Path, view: str) -> None:
    arrays = read_arrays(golden / "tracker_augment.npz")
    picture = torch.from_numpy(arrays["input_patch"])
    seen = [str(name) for name in arrays["names"] if str(name).startswith(view)]
    for name in seen:
        values = [float(value) for value in name.split("_")[1:] if value.lstrip("-").replace(".", "").isdigit()]
        augmentation = {
            "fliplr": FirstFrameViews(fliplr=True),
            "blur": FirstFrameViews(blur=((values[0], values[1]),) if len(values) == 2 else ()),
            "rotate": FirstFrameViews(rotate=tuple(values)),
        }.get(view, FirstFrameViews())
        change = make_views(augmentation, 64, 0.0, torch.Generator())[-1].change
        y, x = arrays[f"{name}/shift_yx"].tolist()
        crop = crops_of([View(change, (y, x))], picture, 64)[0]
        atol = 1e-2 if view == "rotate" else 1e-3
        np.testing.assert_allclose(crop[:, ::2, ::2], arrays[name], atol=atol, err_msg=name)
    assert seen


def test_views_are_drawn_in_order_from_the_generator_alone() -> None:
    augmentation = FirstFrameViews(relativeshift=((0.6, -0.6),), fliplr=True, blur=((3, 1),), rotate=(10, -10))
    first, second = (make_views(augmentation, 288, 1 / 3, torch.Generator().manual_seed(3)) for _ in range(2))
    assert [view.shift_yx for view in first] == [view.shift_yx for view in second]
    assert [view.shift_yx for view in first[:2]] == [(0, 0), (86, -86)]
    draws = ((torch.rand(4, 2, generator=torch.Generator().manual_seed(3)) - 0.5) * 288 / 3).trunc().int().tolist()
    assert [list(view.shift_yx) for view in first[2:]] == draws


def test_a_shift_moves_the_content_and_repeats_the_border() -> None:
    picture = torch.arange(36.0).reshape(1, 6, 6)
    np.testing.assert_array_equal(shifted_crop(picture, 4, (0, 0)), picture[:, 1:5, 1:5])
    np.testing.assert_array_equal(shifted_crop(picture, 4, (1, -1)), picture[:, 0:4, 2:6])
    np.testing.assert_array_equal(shifted_crop(picture, 4, (3, 0))[:, :3], picture[:, [0], 1:5].repeat(1, 3, 1))


def test_dropped_channels() -> None:
    copies = drop_channels(torch.ones(1, 1000, 2, 2), 2, 0.2, torch.Generator().manual_seed(0))
    assert sorted(copies.unique().tolist()) == [0.0, 1.25]
    assert 0.15 < float((copies == 0).float().mean()) < 0.25
    assert not torch.equal(copies[0], copies[1])
