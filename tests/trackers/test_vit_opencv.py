from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine.trackers import LoadedTracker, TrackState, load_tracker

from .onnx_files import save_vit
from .videos import bgr, moving_texture

BOXES = [(60, 50, 40, 40), (200, 120, 61, 33), (20, 10, 90, 110), (-15, -10, 60, 50), (275, 190, 60, 60)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def source(weights: Path) -> LoadedTracker:
    return load_tracker("vit-opencv", weights=[weights])


@pytest.mark.parametrize("box", BOXES)
def test_boxes_and_scores_are_those_of_opencv(source: LoadedTracker, weights: Path, box: tuple[int, ...]) -> None:
    frames, gt_xywh = moving_texture(9)
    reference = cv2.TrackerVit.create(cv2.dnn.readNet(str(weights)))
    reference.init(bgr(frames[0]), box)
    tracker = source.open("generated", gt_xywh)
    tracker.initialize(frames[0], np.array(box, dtype=np.float64))
    for frame in frames[1:]:
        track = tracker.track(frame)
        found, expected = reference.update(bgr(frame))
        assert track.score == pytest.approx(reference.getTrackingScore(), abs=1e-5)
        assert found
        assert track.state is TrackState.NORMAL
        np.testing.assert_array_equal(track.box_xywh, expected)


def test_a_low_score_keeps_the_box_and_says_so(tmp_path: Path) -> None:
    weights = save_vit(tmp_path, score_bias=-6.0)
    frames, gt_xywh = moving_texture(3)
    reference = cv2.TrackerVit.create(cv2.dnn.readNet(str(weights)))
    reference.init(bgr(frames[0]), (60, 50, 40, 40))
    tracker = load_tracker("vit-opencv", weights=[weights]).open("generated", gt_xywh)
    tracker.initialize(frames[0], gt_xywh[0])
    for frame in frames[1:]:
        track = tracker.track(frame)
        assert not reference.update(bgr(frame))[0]
        assert track.score == pytest.approx(reference.getTrackingScore(), abs=1e-5)
        assert track.state is TrackState.NOT_FOUND
        np.testing.assert_array_equal(track.box_xywh, gt_xywh[0])


@pytest.mark.parametrize("box", [(700.0, 500.0, 20.0, 20.0), (10.0, 10.0, 1.0, 1.0)])
def test_boxes_that_opencv_fails_on_are_tracked(source: LoadedTracker, box: tuple[float, ...]) -> None:
    frame = moving_texture(1)[0][0]
    tracker = source.open("generated", np.zeros((1, 4)))
    tracker.initialize(frame, np.array(box))
    track = tracker.track(frame)
    assert np.isfinite(track.box_xywh).all()
    assert (track.box_xywh[2:] >= 1).all()
