"""VitTrack against a plain loop over the same network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine.trackers import LoadedTracker, TrackState, load_tracker

from .onnx_files import save_vit
from .videos import moving_texture

BOXES = [(60, 50, 40, 40), (200.5, 120.25, 61, 33), (20, 10, 90, 110), (-15, -10, 60, 50), (275, 190, 60, 60)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"), score_bias=5.0)


@pytest.fixture(scope="module")
def source(weights: Path) -> LoadedTracker:
    return load_tracker("vit", weights=[weights])


def plain_crop(frame: np.ndarray, x0: int, y0: int, side: int, crop_size: int) -> np.ndarray:
    """Input of the network: a square with black outside the frame, RGB, normalized."""
    height, width = frame.shape[:2]
    padded = np.zeros((height + 2 * side, width + 2 * side, 3), np.uint8)
    padded[side : side + height, side : side + width] = frame
    top, left = (min(max(v + side, 0), padded.shape[axis] - side) for axis, v in enumerate((y0, x0)))
    crop = cv2.resize(padded[top : top + side, left : left + side], (crop_size, crop_size)) / 255.0
    normalized = (crop - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return normalized.transpose(2, 0, 1)[None].astype(np.float32)


def plain_loop(weights: Path, frames: list[np.ndarray], box_xywh: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Boxes and scores of all frames but the first, cell by cell."""
    network = cv2.dnn.readNetFromONNX(str(weights))
    x, y, w, h = box_xywh
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * (i + 1) / 17) for i in range(16)]
    for index, frame in enumerate(frames):
        side = int(np.ceil((2 if index == 0 else 4) * np.sqrt(w * h)))
        x0, y0 = round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)
        if index == 0:
            network.setInput(plain_crop(frame, x0, y0, side, 128), "template")
            continue
        network.setInput(plain_crop(frame, x0, y0, side, 256), "search")
        scores, sizes, offsets = network.forward(["output1", "output2", "output3"])
        ranked = {(i, j): scores[0, 0, i, j] * np.float32(hann[i] * hann[j]) for i in range(16) for j in range(16)}
        i, j = max(ranked, key=lambda cell: ranked[cell])
        score = ranked[i, j]
        height, width = frame.shape[:2]
        center_x = min(max(x0 + (j + offsets[0, 0, i, j]) / 16 * side, 0), width)
        center_y = min(max(y0 + (i + offsets[0, 1, i, j]) / 16 * side, 0), height)
        w, h = min(sizes[0, 0, i, j] * side, width), min(sizes[0, 1, i, j] * side, height)
        x, y = center_x - w / 2, center_y - h / 2
        yield np.array([x, y, w, h]), float(score)


@pytest.mark.parametrize("box", BOXES)
def test_boxes_and_scores_are_those_of_a_plain_loop(
    source: LoadedTracker, weights: Path, box: tuple[float, ...]
) -> None:
    frames, gt_xywh = moving_texture(9)
    tracker = source.open("generated", gt_xywh)
    tracker.initialize(frames[0], np.array(box))
    for frame, (expected, score) in zip(frames[1:], plain_loop(weights, frames, np.array(box)), strict=True):
        track = tracker.track(frame)
        assert track.score == pytest.approx(score, abs=1e-5)
        assert track.state is TrackState.NORMAL
        np.testing.assert_allclose(track.box_xywh, expected, atol=1e-3)


def test_the_wrapper_of_opencv_has_other_boxes(source: LoadedTracker, weights: Path) -> None:
    frames, gt_xywh = moving_texture(2)
    boxes = []
    for tracker in (source, load_tracker("vit-opencv", weights=[weights])):
        opened = tracker.open("generated", gt_xywh)
        opened.initialize(frames[0], gt_xywh[0])
        boxes.append(opened.track(frames[1]).box_xywh)
    assert np.abs(boxes[0] - boxes[1]).max() > 1
    assert (boxes[1] == np.rint(boxes[1])).all()


def test_a_low_score_moves_the_box_too(tmp_path: Path) -> None:
    frames, gt_xywh = moving_texture(2)
    tracker = load_tracker("vit", weights=[save_vit(tmp_path, score_bias=-6.0)]).open("generated", gt_xywh)
    tracker.initialize(frames[0], gt_xywh[0])
    track = tracker.track(frames[1])
    assert track.score < 0.2
    assert track.state is TrackState.NORMAL
    assert (track.box_xywh != gt_xywh[0]).any()


@pytest.mark.parametrize("box", [(700.0, 500.0, 20.0, 20.0), (10.0, 10.0, 1.0, 1.0), (-1e4, 0.0, 3e4, 2e4)])
def test_boxes_stay_at_the_frame(tmp_path: Path, box: tuple[float, ...]) -> None:
    frame = moving_texture(1)[0][0]
    tracker = load_tracker("vit", weights=[save_vit(tmp_path, score_bias=50.0)]).open("generated", np.zeros((1, 4)))
    tracker.initialize(frame, np.array(box))
    for _ in range(3):
        x, y, w, h = tracker.track(frame).box_xywh
        assert 0 <= x + w / 2 <= 320
        assert 0 <= y + h / 2 <= 240
        assert 1 <= w <= 320
        assert 1 <= h <= 240


@pytest.mark.parity
@pytest.mark.parametrize(("name", "least"), [("crossing", 0.6), ("mountainbike", 0.7)])
def test_real_video_is_followed_better_than_by_opencv(shared: Path, name: str, least: float) -> None:
    folder = shared / "data" / "lasot" / name / f"{name}-1"
    frames = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in sorted((folder / "img").glob("*.jpg"))]
    gt_xywh = np.loadtxt(folder / "groundtruth.txt", delimiter=",")
    means = []
    for tracker in ("vit", "vit-opencv"):
        opened = load_tracker(tracker, weights=[shared / "weights" / "vittrack.onnx"]).open(name, gt_xywh)
        opened.initialize(frames[0], gt_xywh[0])
        boxes = np.array([opened.track(frame).box_xywh for frame in frames[1:]])
        means.append(overlaps(boxes, gt_xywh[1:]).mean())
    assert means[0] > means[1] + 0.05
    assert means[0] > least


def overlaps(boxes_xywh: np.ndarray, gt_xywh: np.ndarray) -> np.ndarray:
    ours, theirs = (np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) for boxes in (boxes_xywh, gt_xywh))
    sides = np.clip(np.minimum(ours, theirs)[:, 2:] - np.maximum(ours, theirs)[:, :2], 0, None)
    shared_area = sides.prod(1)
    area: np.ndarray = boxes_xywh[:, 2:].prod(1) + gt_xywh[:, 2:].prod(1) - shared_area
    return shared_area / area
