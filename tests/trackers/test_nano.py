from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.errors import UserError
from alpharefine.trackers import LoadedTracker, load_tracker

from .onnx_files import save_nano
from .videos import bgr, moving_texture


@pytest.fixture(scope="module")
def weights(shared: Path) -> list[Path]:
    return [shared / "weights" / f"nanotrackv2_{part}.onnx" for part in ("backbone", "head")]


@pytest.fixture(scope="module")
def source(weights: list[Path]) -> LoadedTracker:
    return load_tracker("nano", weights=weights)


def read_sequence(shared: Path, name: str) -> tuple[list[np.ndarray], np.ndarray]:
    folder = shared / "data" / "lasot" / name / f"{name}-1"
    frames = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in sorted((folder / "img").glob("*.jpg"))]
    return frames, np.loadtxt(folder / "groundtruth.txt", delimiter=",")


@pytest.mark.parametrize("box", [(60, 50, 40, 40), (200, 120, 61, 33)])
def test_boxes_of_a_generated_network_are_those_of_opencv(tmp_path: Path, box: tuple[int, ...]) -> None:
    weights = save_nano(tmp_path)
    frames, gt_xywh = moving_texture(10)
    reference = cv2.TrackerNano.create(*(cv2.dnn.readNet(str(path)) for path in weights))
    reference.init(bgr(frames[0]), box)
    tracker = load_tracker("nano", weights=weights).open("generated", gt_xywh)
    tracker.initialize(frames[0], np.array(box, dtype=np.float64))
    scores = []
    for frame in frames[1:]:
        track = tracker.track(frame)
        np.testing.assert_array_equal(np.trunc(track.box_xywh), reference.update(bgr(frame))[1])
        assert track.score == pytest.approx(reference.getTrackingScore(), abs=1e-5)
        scores.append(track.score)
    assert np.ptp(scores) > 1e-4


def plain_v3(
    weights: list[Path], frames: list[np.ndarray], box_xywh: np.ndarray
) -> Iterator[tuple[list[float], float]]:
    """Boxes and scores of NanoTrack v3 for all frames but the first, cell by cell."""
    backbone, head = (cv2.dnn.readNetFromONNX(str(path)) for path in weights)
    w, h = (float(v) for v in box_xywh[2:])
    cx, cy = box_xywh[0] + w / 2, box_xywh[1] + h / 2
    height, width = frames[0].shape[:2]

    def features(frame: np.ndarray, side: int, crop_size: int) -> np.ndarray:
        x0, y0 = int(cx) - (side + 1) // 2, int(cy) - (side + 1) // 2
        padded = cv2.copyMakeBorder(frame, side, side, side, side, cv2.BORDER_CONSTANT, value=cv2.mean(frame))
        crop = padded[y0 + side : y0 + 2 * side, x0 + side : x0 + 2 * side]
        backbone.setInput(cv2.resize(crop, (crop_size, crop_size)).transpose(2, 0, 1)[None].astype(np.float32))
        return backbone.forward()

    def scale_of(w: float, h: float) -> float:
        return float(np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2)))

    def change(ratio: float) -> float:
        return max(ratio, 1 / ratio)

    head.setInput(features(frames[0], int(scale_of(w, h)), 127), "input1")
    for frame in frames[1:]:
        context = int(w + h) / 2
        side = float(np.sqrt((w + context) * (h + context)))
        head.setInput(features(frame, int(2 * side), 255), "input2")
        logits, distances = (output[0] for output in head.forward(["output1", "output2"]))
        best = (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        for i in range(15):
            for j in range(15):
                left, top, right, bottom = (float(v) for v in distances[:, i, j])
                score = 1 / (1 + np.exp(float(logits[0, i, j]) - float(logits[1, i, j])))
                scales = scale_of(left + right, top + bottom) / (scale_of(w, h) * 127 / side)
                aspects = (w / h) / ((left + right) / (top + bottom))
                penalty = np.exp(-0.138 * (change(scales) * change(aspects) - 1))
                hann = [0.5 - 0.5 * np.cos(2 * np.pi * k / 14) for k in (i, j)]
                ranking = penalty * score * 0.545 + np.sqrt(hann[0] * hann[1]) * 0.455
                shift_x, shift_y = (j - 7) * 16 + (right - left) / 2, (i - 7) * 16 + (bottom - top) / 2
                best = max(best, (ranking, shift_x, shift_y, left + right, top + bottom, penalty * score))
        ranking, shift_x, shift_y, new_w, new_h, confidence = best
        rate, scale = confidence * 0.348, side / 127
        cx, cy = min(max(cx + shift_x * scale, 0), width), min(max(cy + shift_y * scale, 0), height)
        w = max(min(rate * new_w * scale + (1 - rate) * w, width), 10)
        h = max(min(rate * new_h * scale + (1 - rate) * h, height), 10)
        yield [cx - w / 2, cy - h / 2, w, h], ranking


@pytest.mark.parametrize("box", [(60, 50, 40, 40), (200.5, 120.25, 61, 33)])
def test_boxes_of_version_3_are_those_of_a_plain_loop(tmp_path: Path, box: tuple[float, ...]) -> None:
    weights = save_nano(tmp_path, grid=15)
    frames, gt_xywh = moving_texture(6)
    tracker = load_tracker("nano", weights=weights).open("generated", gt_xywh)
    tracker.initialize(frames[0], np.array(box))
    for frame, (expected, score) in zip(frames[1:], plain_v3(weights, frames, np.array(box)), strict=True):
        track = tracker.track(frame)
        np.testing.assert_allclose(track.box_xywh, expected, atol=1e-2)
        assert track.score == pytest.approx(score, abs=1e-4)


def test_a_head_with_other_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"maps of the head must have 16x16 or 15x15 cells, got 14x14"):
        load_tracker("nano", weights=save_nano(tmp_path, grid=14))


@pytest.mark.parity
def test_version_3_follows_real_video(shared: Path) -> None:
    frames, gt_xywh = read_sequence(shared, "man")
    weights = [shared / "weights" / f"nanotrackv3_{part}.onnx" for part in ("backbone", "head")]
    tracker = load_tracker("nano", weights=weights).open("man", gt_xywh)
    tracker.initialize(frames[0], gt_xywh[0])
    boxes = np.array([tracker.track(frame).box_xywh for frame in frames[1:]])
    pairs = (torch.from_numpy(xywh_to_xyxy(values)) for values in (boxes, gt_xywh[1:]))
    assert paired_iou(*pairs).mean() > 0.6


@pytest.mark.parity
@pytest.mark.parametrize("name", ["football1", "man", "skiing", "tiger1"])
def test_every_box_of_a_whole_sequence_is_that_of_opencv(
    source: LoadedTracker, weights: list[Path], shared: Path, name: str
) -> None:
    frames, gt_xywh = read_sequence(shared, name)
    reference = cv2.TrackerNano.create(*(cv2.dnn.readNet(str(path)) for path in weights))
    reference.init(bgr(frames[0]), tuple(gt_xywh[0].astype(int).tolist()))
    tracker = source.open(name, gt_xywh)
    tracker.initialize(frames[0], gt_xywh[0])
    ours, theirs, scores = [], [], []
    for frame in frames[1:]:
        track = tracker.track(frame)
        ours.append(track.box_xywh)
        theirs.append(reference.update(bgr(frame))[1])
        scores.append((track.score, reference.getTrackingScore()))
    np.testing.assert_array_equal(np.trunc(ours), theirs)
    np.testing.assert_allclose(*np.transpose(scores), atol=1e-5)
    assert len(ours) == len(gt_xywh) - 1 >= 39


@pytest.mark.parity
def test_a_set_box_moves_the_search_and_leaves_the_template(source: LoadedTracker, shared: Path) -> None:
    frames, gt_xywh = read_sequence(shared, "tiger1")
    tracker = source.open("tiger1", gt_xywh)
    tracker.initialize(frames[0], gt_xywh[0])
    tracker.set_box(gt_xywh[0] + np.array([-180.0, 0.0, 0.0, 0.0]))
    lost = tracker.track(frames[0])
    tracker.set_box(gt_xywh[0] + np.array([12.0, -8.0, 0.0, 0.0]))
    found = tracker.track(frames[0])
    pairs = ([lost[0], found[0]], [gt_xywh[0]] * 2)
    overlaps = paired_iou(*(torch.from_numpy(xywh_to_xyxy(np.stack(boxes))) for boxes in pairs))
    assert overlaps[0] < 0.2
    assert overlaps[1] > 0.8


@pytest.mark.parity
def test_files_in_the_wrong_order_are_refused(weights: list[Path]) -> None:
    with pytest.raises(UserError, match=r"in this order: backbone, head\. Check the files"):
        load_tracker("nano", weights=weights[::-1])


@pytest.mark.parity
@pytest.mark.parametrize(
    "box_xywh", [(-30.0, -30.0, 40.0, 50.0), (5.5, 4.25, 600.5, 400.0), (700.0, 500.0, 20.0, 20.0)]
)
def test_boxes_over_the_border_are_tracked(source: LoadedTracker, box_xywh: tuple[float, ...]) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    tracker = source.open("noise", np.zeros((1, 4)))
    tracker.initialize(frame, np.array(box_xywh))
    track = tracker.track(frame)
    assert np.isfinite(track.box_xywh).all()
    assert (track.box_xywh[2:] >= 10).all()
    assert 0 <= track.score <= 1
