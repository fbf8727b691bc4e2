from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import TrackerSource, load_tracker

from .onnx_files import save_dasiamrpn
from .videos import bgr, moving_texture


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return save_dasiamrpn(tmp_path_factory.mktemp("dasiamrpn"))


@pytest.fixture(scope="module")
def source(weights: list[Path]) -> TrackerSource:
    return load_tracker("dasiamrpn", weights=weights)


@pytest.mark.parametrize("box", [(60, 50, 40, 40), (200, 120, 61, 33)])
def test_boxes_and_scores_are_those_of_opencv(source: TrackerSource, weights: list[Path], box: tuple[int, ...]) -> None:
    frames, gt_xywh = moving_texture(10)
    reference = cv2.TrackerDaSiamRPN.create(*(cv2.dnn.readNet(str(path)) for path in weights))
    reference.init(bgr(frames[0]), box)
    tracker = source.open("generated", gt_xywh)
    tracker.initialize(frames[0], np.array(box, dtype=np.float64))
    scores = []
    for frame in frames[1:]:
        track = tracker.track(frame)
        size = track.box_xywh[2:]
        corner = track.box_xywh[:2] + size / 2 - np.trunc(size / 2)  # OpenCV takes half of the size as an integer
        np.testing.assert_array_equal(np.trunc(np.concatenate([corner, size])), reference.update(bgr(frame))[1])
        assert track.score == pytest.approx(reference.getTrackingScore(), abs=1e-5)
        scores.append(track.score)
    assert np.ptp(scores) > 0.01


def test_setting_its_own_box_changes_nothing(source: TrackerSource) -> None:
    frames, gt_xywh = moving_texture(6)
    trackers = [source.open("generated", gt_xywh) for _ in range(2)]
    for tracker in trackers:
        tracker.initialize(frames[0], gt_xywh[0])
    for frame in frames[1:]:
        open_loop, closed_loop = (tracker.track(frame) for tracker in trackers)
        np.testing.assert_allclose(closed_loop.box_xywh, open_loop.box_xywh, rtol=1e-5)
        trackers[1].set_box(closed_loop.box_xywh)


def test_a_tracker_keeps_its_template_when_another_is_opened(source: TrackerSource) -> None:
    frames, gt_xywh = moving_texture(2)
    first, second = source.open("a", gt_xywh), source.open("b", gt_xywh)
    first.initialize(frames[0], gt_xywh[0])
    expected = first.track(frames[1])
    first.set_box(gt_xywh[0])
    second.initialize(frames[0], np.array([200.0, 120.0, 61.0, 33.0]))
    second.set_box(gt_xywh[0])
    np.testing.assert_array_equal(first.track(frames[1]).box_xywh, expected.box_xywh)
    assert second.track(frames[1]).score != expected.score


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ((0, 2, 1), "cannot reshape"),
        ((1, 0, 2), "`kernel_cls1` must have one output, got 2"),
        ((0, 0, 0), "`kernel_cls1` must have one output, got 2"),
        ((1, 2, 1), "63"),
    ],
)
def test_files_in_the_wrong_order_are_refused(weights: list[Path], order: tuple[int, ...], reason: str) -> None:
    with pytest.raises(UserError, match=f"in this order: model, kernel_cls1, kernel_r1.*{reason}"):
        load_tracker("dasiamrpn", weights=[weights[index] for index in order])
