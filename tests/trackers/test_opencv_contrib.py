"""CSRT and KCF, with the real classes where OpenCV's contrib modules are installed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from alpharefine.errors import SequenceError, UserError
from alpharefine.trackers import TrackState, find_tracker, load_tracker

from .videos import moving_texture

CLASSES = {"csrt": "TrackerCSRT", "kcf": "TrackerKCF"}
GT_XYWH = np.array([[1.6, 2.4, 3.0, 1.2], [5.0, 6.0, 7.0, 8.0]])
FRAME = np.full((20, 30, 3), (10, 20, 30), np.uint8)


class Fake:
    """Class of OpenCV that moves its box by a pixel and loses it in the third frame."""

    calls: list[Any]
    fails = False

    @classmethod
    def create(cls) -> Fake:
        return cls()

    def init(self, image: np.ndarray, box: tuple[int, ...]) -> None:
        if self.fails:
            raise cv2.error("bad\n  box")
        Fake.calls = [(image[0, 0].tolist(), box)]
        self.box = box

    def update(self, image: np.ndarray) -> tuple[bool, tuple[int, ...]]:
        if self.fails:
            raise cv2.error("bad\n  frame")
        Fake.calls.append(image[0, 0].tolist())
        found = len(Fake.calls) < 3
        self.box = (self.box[0] + 1, *self.box[1:])
        return found, self.box if found else (0, 0, 0, 0)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("is_legacy", [False, True])
def test_frames_boxes_and_states_are_converted(monkeypatch: pytest.MonkeyPatch, name: str, is_legacy: bool) -> None:
    monkeypatch.setattr(cv2, CLASSES[name], None if is_legacy else Fake, raising=False)
    monkeypatch.setattr(cv2, "legacy", SimpleNamespace(**{CLASSES[name]: Fake}), raising=False)
    tracker = load_tracker(name).open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    tracks = [tracker.track(FRAME)]
    tracker.set_box(GT_XYWH[1])
    tracks.append(tracker.track(FRAME))
    tracker.close()
    assert Fake.calls == [([30, 20, 10], (2, 2, 3, 1)), [30, 20, 10], [30, 20, 10]]
    assert [track.box_xywh.tolist() for track in tracks] == [[3, 2, 3, 1]] * 2
    assert [track.state for track in tracks] == [TrackState.NORMAL, TrackState.NOT_FOUND]
    assert all(np.isnan(track.score) for track in tracks)
    assert not find_tracker(name).accepts_feedback


def test_an_error_of_opencv_is_limited_to_the_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "TrackerKCF", Fake, raising=False)
    tracker = load_tracker("kcf").open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    monkeypatch.setattr(Fake, "fails", True)
    with pytest.raises(SequenceError, match=r"--tracker kcf: OpenCV fails \(bad frame\)"):
        tracker.track(FRAME)
    with pytest.raises(SequenceError, match=r"--tracker kcf: OpenCV fails \(bad box\)"):
        tracker.initialize(FRAME, GT_XYWH[0])


@pytest.mark.parametrize("name", CLASSES)
def test_an_opencv_without_them_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(cv2, CLASSES[name], None, raising=False)
    monkeypatch.setattr(cv2, "legacy", None, raising=False)
    with pytest.raises(
        UserError, match=f"--tracker {name} needs .* install opencv-contrib-python in place of opencv-py"
    ):
        load_tracker(name)


@pytest.mark.parametrize("name", CLASSES)
def test_a_moving_square_is_followed(name: str) -> None:
    if not hasattr(cv2, CLASSES[name]):
        pytest.skip("OpenCV is installed without its contrib modules")
    frames, gt_xywh = moving_texture(10)
    boxes = []
    for _ in range(2):
        tracker = load_tracker(name).open("a", gt_xywh)
        tracker.initialize(frames[0], gt_xywh[0])
        boxes.append([tracker.track(frame).box_xywh for frame in frames[1:]])
    np.testing.assert_array_equal(boxes[0], boxes[1])
    centers = np.array(boxes[0])[:, :2] + np.array(boxes[0])[:, 2:] / 2
    assert np.abs(centers - (gt_xywh[1:, :2] + gt_xywh[1:, 2:] / 2)).max() < 10
