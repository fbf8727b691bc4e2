from __future__ import annotations

import ctypes

import cv2
import numpy as np
import pytest
import torch

from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.trackers import Track, TrackState, load_tracker
from alpharefine.trackers.mil import SEED

from .videos import bgr, moving_texture


def follow(frames: list[np.ndarray], gt_xywh: np.ndarray, *, feedback: bool = False) -> list[Track]:
    tracker = load_tracker("mil").open("generated", gt_xywh)
    tracker.initialize(frames[0], gt_xywh[0])
    tracks = []
    for frame, true_xywh in zip(frames[1:], gt_xywh[1:], strict=True):
        tracks.append(tracker.track(frame))
        if feedback:
            tracker.set_box(true_xywh)
    return tracks


def overlaps(tracks: list[Track], gt_xywh: np.ndarray) -> np.ndarray:
    pred_xywh = np.stack([track.box_xywh for track in tracks])
    return paired_iou(*(torch.from_numpy(xywh_to_xyxy(b)) for b in (pred_xywh, gt_xywh[1:]))).numpy()


def test_a_moving_square_is_followed_and_a_run_can_be_repeated() -> None:
    frames, gt_xywh = moving_texture(12)
    tracks = follow(frames, gt_xywh)
    assert overlaps(tracks, gt_xywh).min() > 0.6
    assert all(track.state is TrackState.NORMAL and np.isnan(track.score) for track in tracks)
    again = follow(frames, gt_xywh)
    np.testing.assert_array_equal([track.box_xywh for track in again], [track.box_xywh for track in tracks])


def test_boxes_are_those_of_opencv_with_the_same_seeds() -> None:
    frames, gt_xywh = moving_texture(6)
    tracks = follow(frames, gt_xywh)
    cv2.setRNGSeed(SEED)
    ctypes.CDLL(None).srand(SEED)
    reference = cv2.TrackerMIL.create()
    reference.init(bgr(frames[0]), tuple(gt_xywh[0].astype(int).tolist()))
    for frame, track in zip(frames[1:], tracks, strict=True):
        np.testing.assert_array_equal(track.box_xywh, reference.update(bgr(frame))[1])


def test_feedback_brings_the_size_along() -> None:
    frames, gt_xywh = moving_texture(14, growth=1.05)
    open_loop, closed_loop = follow(frames, gt_xywh), follow(frames, gt_xywh, feedback=True)
    assert overlaps(open_loop, gt_xywh)[-1] < 0.5
    assert overlaps(closed_loop, gt_xywh).min() > 0.7
    np.testing.assert_allclose(closed_loop[-1].box_xywh[2:], gt_xywh[-2, 2:])


def test_a_set_box_moves_the_search_and_leaves_the_classifier() -> None:
    frames, gt_xywh = moving_texture(2, step=(90.0, 40.0))
    tracker = load_tracker("mil").open("generated", gt_xywh)
    tracker.initialize(frames[0], gt_xywh[0])
    tracker.set_box(gt_xywh[1] + np.array([8.0, -6.0, 0.0, 0.0]))
    assert overlaps([tracker.track(frames[1])], gt_xywh)[0] > 0.8


def test_setting_its_own_box_changes_nothing() -> None:
    frames, gt_xywh = moving_texture(5)
    expected = follow(frames, gt_xywh)
    tracker = load_tracker("mil").open("generated", gt_xywh)
    tracker.initialize(frames[0], gt_xywh[0])
    for frame, track in zip(frames[1:], expected, strict=True):
        ours = tracker.track(frame)
        np.testing.assert_array_equal(ours.box_xywh, track.box_xywh)
        tracker.set_box(ours.box_xywh)


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((60.0, 50.0, 3.0, 2.0), id="tiny"),
        pytest.param((0.0, 0.0, 320.0, 240.0), id="whole picture"),
        pytest.param((-10.0, -10.0, 40.0, 40.0), id="over the upper left corner"),
        pytest.param((305.0, 225.0, 20.0, 20.0), id="over the lower right corner"),
    ],
)
def test_boxes_that_opencv_fails_on_are_tracked(box: tuple[float, ...]) -> None:
    frame = moving_texture(1)[0][0]
    tracker = load_tracker("mil").open("generated", np.zeros((1, 4)))
    tracker.initialize(frame, np.array(box))
    track = tracker.track(frame)
    np.testing.assert_allclose(track.box_xywh[2:], box[2:])
    assert np.abs(track.box_xywh[:2] - box[:2]).max() < 20
