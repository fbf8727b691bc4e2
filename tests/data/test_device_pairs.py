"""Pairs made on a device: the geometry of the library, exact labels, and repeatable draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alpharefine.boxes import paired_iou, xyxy_to_xywh
from alpharefine.crops import CROP_SIZE, Window
from alpharefine.data.crop_store import CropStore
from alpharefine.data.device_images import block_compressed, cut, to_crop, windows_around
from alpharefine.data.device_pairs import DevicePairs
from alpharefine.data.pair_recipe import BoxJitter, PairRecipe
from alpharefine.errors import UserError

STILL = PairRecipe(composite_share=0.0).for_validation()


@pytest.fixture(scope="module")
def store() -> CropStore:
    """Two videos with masks and one without; every target is a bright rectangle on a dark, textured ground."""
    side, frames = 192, 4
    rng = np.random.default_rng(0)
    pixels = torch.zeros(3 * frames, 4, side, side, dtype=torch.uint8)
    pixels[:, :3] = torch.from_numpy(rng.integers(0, 60, (3 * frames, 3, side, side), dtype=np.uint8))
    boxes = np.zeros((3 * frames, 4), np.float32)
    for i in range(3 * frames):
        x, y = rng.integers(50, 80, 2)
        w, h = rng.integers(40, 70, 2)
        boxes[i] = x, y, x + w, y + h
        pixels[i, :3, y : y + h, x : x + w] = 220
        if i < 2 * frames:
            pixels[i, 3, y : y + h, x : x + w] = 255
    return CropStore(
        pixels=pixels,
        sizes=torch.full((3 * frames, 2), float(side)),
        boxes_xyxy=torch.from_numpy(boxes),
        has_mask=torch.arange(3 * frames) < 2 * frames,
        starts=torch.tensor([0, frames, 2 * frames, 3 * frames]),
        names=("masks/a/1", "masks/b/1", "loose/c"),
    )


def box_of(mask: torch.Tensor) -> list[int]:
    """The box around the non-zero pixels."""
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def test_windows_crops_and_labels_are_those_of_the_library() -> None:
    rng = np.random.default_rng(1)
    boxes = np.concatenate([rng.uniform(0, 90, (20, 2)), np.zeros((20, 2))], 1)
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(5, 60, (20, 2))
    frame = rng.integers(0, 256, (128, 160, 3), dtype=np.uint8)
    padded = torch.zeros(20, 3, 160, 160)
    padded[:, :, :128] = torch.from_numpy(frame).permute(2, 0, 1)
    tensors = torch.from_numpy(boxes).float()
    windows = windows_around(tensors)
    straight = torch.zeros(20, dtype=torch.bool)
    crops, labels = cut(padded, windows, straight), to_crop(tensors, windows, straight)
    mirrored = cut(padded, windows, ~straight)
    for i, box in enumerate(boxes):
        window = Window.around(xyxy_to_xywh(box))
        assert windows[i].tolist() == [window.x0, window.y0, window.width, window.height]
        np.testing.assert_allclose(labels[i], window.to_crop(box), atol=1e-3)
        expected = window.cut(frame).transpose(2, 0, 1)
        # OpenCV repeats the window's last pixels where the sampling here goes on into the frame.
        rim = int(np.ceil(CROP_SIZE / min(window.width, window.height)))
        inside = (slice(None), slice(rim, -rim), slice(rim, -rim))
        assert np.abs(crops[i].numpy()[inside] - expected[inside]).mean() < 1.0
    torch.testing.assert_close(mirrored, crops.flip(3), atol=0.05, rtol=0)
    x1, y1, x2, y2 = labels.unbind(1)
    torch.testing.assert_close(to_crop(tensors, windows, ~straight), torch.stack([256 - x2, y1, 256 - x1, y2], 1))


def test_labels_of_stored_videos_are_exact(store: CropStore) -> None:
    batch = DevicePairs(store, {"masks": 1.0}, {}, STILL, seed=1).batch(16)
    assert batch.search.dtype == torch.uint8
    assert batch.has_mask.all()
    for i in range(16):
        np.testing.assert_allclose(box_of(batch.mask[i]), batch.target_xyxy[i], atol=2.0)
        np.testing.assert_allclose(box_of(batch.search[i, 0] > 140), batch.target_xyxy[i], atol=3.0)
        np.testing.assert_allclose(batch.template_xyxy[i], [64, 64, 192, 192], atol=3.0)


def test_composed_pairs_have_the_boxes_of_their_visible_masks(store: CropStore) -> None:
    recipe = PairRecipe(composite_share=1.0, augment=False)
    batch = DevicePairs(store, {"masks": 1.0}, {"masks": 1.0}, recipe, seed=2).batch(12)
    assert batch.has_mask.all()
    areas = batch.mask.sum((1, 2))
    assert (areas > 200).all()
    for i in range(12):
        x1, y1, x2, y2 = box_of(batch.mask[i])
        touches = [x1 == 0, y1 == 0, x2 == CROP_SIZE, y2 == CROP_SIZE]
        off = np.abs(np.array([x1, y1, x2, y2]) - batch.target_xyxy[i].numpy())
        assert (off[~np.array(touches)] < 6).all()
    assert not torch.equal(batch.template, batch.search)


def test_mixed_batches_hold_both_kinds(store: CropStore) -> None:
    recipe = PairRecipe(composite_share=0.5)
    batch = DevicePairs(store, {"loose": 1.0}, {"masks": 1.0}, recipe, seed=3).batch(8)
    assert batch.has_mask.tolist() == [False] * 4 + [True] * 4
    assert not batch.mask[:4].any()
    assert batch.template.shape == batch.search.shape == (8, 3, CROP_SIZE, CROP_SIZE)
    assert (batch.target_xyxy >= 0).all()
    assert (batch.target_xyxy <= CROP_SIZE).all()


def test_draws_repeat_from_their_seed(store: CropStore) -> None:
    pairs = DevicePairs(store, {"masks": 1.0, "loose": 1.0}, {"masks": 1.0}, PairRecipe(), seed=4)
    first, second = pairs.batch(4), pairs.batch(4)
    pairs.restart(4)
    for a, b in zip(first, pairs.batch(4), strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.equal(first.search, second.search)


def test_sequences_that_are_left_out_are_not_drawn(store: CropStore) -> None:
    pairs = DevicePairs(store, {"masks": 1.0}, {}, STILL, seed=5, sequences=[1])
    template, search = pairs._videos.frames(64, 16, pairs._draw)
    for numbers in (template, search):
        assert set(numbers.tolist()) == {4, 5, 6, 7}
    template, search = pairs._videos.frames(64, 1, pairs._draw)
    assert (template - search).abs().max() == 1
    with pytest.raises(UserError, match="no sequence to draw"):
        DevicePairs(store, {"loose": 1.0}, {}, STILL, sequences=[1])


def test_jitter_has_the_spread_that_it_is_given() -> None:
    boxes = torch.tensor([100.0, 100.0, 200.0, 140.0]).repeat(20_000, 1)
    jittered = BoxJitter(0.08, 0.1, 0.05, spread=0.0).apply(boxes, torch.Generator().manual_seed(0))
    size = jittered[:, 2:] - jittered[:, :2]
    shift = ((jittered[:, 2:] + jittered[:, :2]) / 2 - torch.tensor([150.0, 120.0])) / torch.tensor([100.0, 40.0])
    logs = (size / torch.tensor([100.0, 40.0])).log()
    assert shift.std(0).tolist() == pytest.approx([0.08, 0.08], rel=0.05)
    assert logs.mean(1).std().item() == pytest.approx(0.1, rel=0.05)
    assert ((logs[:, 0] - logs[:, 1]) / 2).std().item() == pytest.approx(0.05, rel=0.05)


def test_shares_of_search_boxes_have_the_errors_of_trackers_that_lose_their_target() -> None:
    boxes = torch.tensor([100.0, 100.0, 200.0, 140.0]).repeat(20_000, 1)

    def mean_iou(**shares: float) -> float:
        found = PairRecipe(**shares).search_boxes(boxes, torch.Generator().manual_seed(0))
        return paired_iou(found, boxes).mean().item()

    assert mean_iou(lost_share=1.0) < 0.2 < mean_iou(drift_share=1.0) < 0.5 < mean_iou()
    thirds = (mean_iou(lost_share=1.0) + mean_iou(drift_share=1.0) + mean_iou()) / 3
    assert mean_iou(lost_share=1 / 3, drift_share=1 / 3) == pytest.approx(thirds, abs=0.01)
    assert torch.equal(
        PairRecipe().search_boxes(boxes, torch.Generator().manual_seed(0)),
        BoxJitter().apply(boxes, torch.Generator().manual_seed(0)),
    )


def test_block_compression_keeps_what_it_does_not_quantize() -> None:
    crops = 255 * torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block_compressed(crops, torch.full((2, 1), 1e-4)), crops, atol=1e-2, rtol=0)
    coarse = block_compressed(crops, torch.full((2, 1), 1e5))
    assert coarse.abs().max() == 0
