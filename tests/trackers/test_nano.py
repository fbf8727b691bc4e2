from __future__ import annotations

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
