from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import LoadedTracker, load_tracker

from .onnx_files import save_dasiamrpn
from .videos import bgr, moving_texture


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return save_dasiamrpn(tmp_path_factory.mktemp("dasiamrpn"))


@pytest.fixture(scope="module")
def source(weights: list[Path]) -> LoadedTracker:
    return load_tracker("dasiamrpn", weights=weights)


@pytest.mark.parametrize("box", [(60, 50, 40, 40), (200, 120, 61, 33)])
def test_boxes_and_scores_are_those_of_opencv(source: LoadedTracker, weights: list[Path], box: tuple[int, ...]) -> None:
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
