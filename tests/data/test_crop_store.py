"""A crop store keeps what a pair needs: the same boxes, masks and pictures as the frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from alpharefine.data.crop_store import (
    MAX_SIDE,
    STORED_BOX_SIZE,
    Part,
    load_store,
    read_crops,
    read_parts,
    stored_crop,
    write_store,
)
from alpharefine.data.got10k import GOT10k
from alpharefine.data.mask_video import MaskVideo
from alpharefine.errors import UserError


def painted(height: int, width: int, box_xywh: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A dark frame with a bright target, and its mask."""
    x, y, w, h = box_xywh
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + h, x : x + w] = 1
    image = np.full((height, width, 3), 40, np.uint8)
    image[mask > 0] = 220
    return image, mask


@pytest.mark.parametrize(
    ("image_size", "box_xywh", "scale"),
    [
        ((720, 1280), (100, 80, 40, 30), 1.0),
        ((720, 1280), (0, 0, 30, 30), 1.0),
        ((720, 1280), (300, 200, 400, 300), MAX_SIDE / 1280),
        ((300, 400), (100, 60, 200, 180), STORED_BOX_SIZE / np.sqrt(200 * 180)),
    ],
    ids=["inside", "corner", "large region", "large box"],
)
def test_a_stored_box_is_where_the_target_is(
    image_size: tuple[int, int], box_xywh: tuple[int, int, int, int], scale: float
) -> None:
    image, mask = painted(*image_size, box_xywh)
    crop = stored_crop(image, np.array(box_xywh, float), mask, "a/b", 3)
    pixels = cv2.imdecode(np.frombuffer(crop.image, np.uint8), cv2.IMREAD_COLOR_RGB)
    stored_mask = cv2.imdecode(np.frombuffer(crop.mask, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert max(pixels.shape) <= MAX_SIDE
    size = crop.box_xyxy[2:] - crop.box_xyxy[:2]
    np.testing.assert_allclose(size, scale * np.array(box_xywh[2:]), rtol=0.01)
    rows, columns = np.nonzero(stored_mask)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found, crop.box_xyxy, atol=0.6)
    assert pixels[stored_mask > 0].mean() > 200
    assert pixels[stored_mask == 0].mean() < 60


@pytest.mark.parametrize("compressed", [True, False])
def test_a_store_reads_back_in_order_whatever_its_parts(data_root: Path, tmp_path: Path, compressed: bool) -> None:
    cache = tmp_path / "cache"
    crops = [
        *read_crops("videos", MaskVideo(data_root / "davis2016"), 4, 0.0, cache, compressed=compressed),
        *read_crops("loose", GOT10k(data_root / "got10k"), 3, 0.0, cache, compressed=compressed),
    ]
    paths = write_store(tmp_path / "store", crops, part_bytes=6000)
    assert len(paths) > 1
    again = read_parts(paths)
    assert [replace(crop, box_xyxy=None) for crop in again] == [replace(crop, box_xyxy=None) for crop in crops]
    store = load_store(tmp_path / "store", num_threads=2)
    assert len(store.pixels) == len(crops) == int(store.starts[-1])
    assert len(store.names) == len(set(store.names)) == len(store.starts) - 1
    for n, name in enumerate(store.names):
        frames = slice(int(store.starts[n]), int(store.starts[n + 1]))
        members = sorted((c for c in crops if c.sequence == name), key=lambda c: c.time)
        np.testing.assert_array_equal(store.boxes_xyxy[frames].numpy(), np.stack([c.box_xyxy for c in members]))
        assert set(store.has_mask[frames].tolist()) == {store.source_of(n) == "videos"}
        assert len(members) <= (4 if store.source_of(n) == "videos" else 3)
    masked = store.pixels[store.has_mask, 3]
    assert set(torch.unique(store.pixels[~store.has_mask, 3]).tolist()) == {0}
    assert all(mask.max() > 127 for mask in masked)


def test_small_masks_are_left_out(data_root: Path, tmp_path: Path) -> None:
    assert not list(read_crops("videos", MaskVideo(data_root / "davis2016"), 4, 1e6, tmp_path / "cache"))


def test_faults_are_named(tmp_path: Path) -> None:
    image, mask = painted(60, 80, (20, 20, 20, 20))
    crop = stored_crop(image, np.array([20.0, 20, 20, 20]), mask, "a/b", 0)
    write_store(tmp_path / "store", [crop])
    with pytest.raises(UserError, match="contains a crop store; remove it"):
        write_store(tmp_path / "store", [crop])
    with pytest.raises(UserError, match="contains no crop store"):
        load_store(tmp_path)
    (tmp_path / "store" / "part-00000.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="does not read"):
        load_store(tmp_path / "store")


def test_many_parts_need_no_open_files(tmp_path: Path) -> None:
    image, mask = painted(60, 80, (20, 20, 20, 20))
    crops = [stored_crop(image, np.array([20.0, 20, 20, 20]), mask, "a/b", time) for time in range(20)]
    paths = write_store(tmp_path / "store", crops, part_bytes=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    parts = [Part(path) for path in paths]
    assert [part.image(0) for part in parts] == [crop.image for crop in crops]
    assert len(parts) == 20
    assert len(list(Path("/proc/self/fd").iterdir())) == before
