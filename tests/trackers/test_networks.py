"""What the trackers that run networks have in common, on generated networks."""

from __future__ import annotations

import numpy as np
import pytest

from alpharefine.trackers import LoadedTracker, Tracker, load_tracker

from .onnx_files import save_dasiamrpn, save_nano, save_vit
from .siamrpnpp.random_files import save_random
from .videos import moving_texture

SAVE = {
    "nano": save_nano,
    "vit": lambda folder: [save_vit(folder)],
    "vit-opencv": lambda folder: [save_vit(folder)],
    "dasiamrpn": save_dasiamrpn,
    "siamrpnpp-alex": lambda folder: [save_random(folder)],
}
FIRST_XYWH, SECOND_XYWH = np.array([60.0, 50.0, 40.0, 40.0]), np.array([150.0, 100.0, 50.0, 30.0])


@pytest.fixture(scope="module", params=SAVE)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedTracker:
    return load_tracker(request.param, weights=SAVE[request.param](tmp_path_factory.mktemp(request.param)))


def started(source: LoadedTracker, frame: np.ndarray, box_xywh: np.ndarray = FIRST_XYWH) -> Tracker:
    tracker = source.open("generated", np.zeros((1, 4)))
    tracker.initialize(frame, box_xywh)
    return tracker


def test_setting_its_own_box_changes_nothing(source: LoadedTracker) -> None:
    frames = moving_texture(6)[0]
    alone, told = (started(source, frames[0]) for _ in range(2))
    for frame in frames[1:]:
        expected, found = alone.track(frame), told.track(frame)
        np.testing.assert_allclose(found.box_xywh, expected.box_xywh, rtol=1e-5)
        told.set_box(found.box_xywh)


def test_a_set_box_moves_the_search_and_leaves_the_template(source: LoadedTracker) -> None:
    frame = moving_texture(1)[0][0]
    moved, again, relearned = started(source, frame), started(source, frame), started(source, frame, SECOND_XYWH)
    for tracker in (moved, again):
        tracker.set_box(SECOND_XYWH)
    found = moved.track(frame)
    np.testing.assert_array_equal(found.box_xywh, again.track(frame).box_xywh)
    assert np.linalg.norm(found.box_xywh[:2] - SECOND_XYWH[:2]) < np.linalg.norm(found.box_xywh[:2] - FIRST_XYWH[:2])
    assert relearned.track(frame).score != found.score


def test_a_tracker_keeps_its_template_when_another_is_opened(source: LoadedTracker) -> None:
    frames = moving_texture(2)[0]
    first = started(source, frames[0])
    expected = first.track(frames[1])
    first.set_box(FIRST_XYWH)
    second = started(source, frames[0], SECOND_XYWH)
    second.set_box(FIRST_XYWH)
    other = second.track(frames[1])
    found = first.track(frames[1])
    np.testing.assert_array_equal(found.box_xywh, expected.box_xywh)
    assert found.score == expected.score != other.score
