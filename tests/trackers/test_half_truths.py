"""The trackers that need no appearance model: the oracles and the refiner's own loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import TrackState, load_tracker

FRAME = np.zeros((8, 8, 3), dtype=np.uint8)
GT_XYWH = np.array([[10, 20, 30, 40], [14, 22, 34, 44], [0, 0, 0, 0], [np.nan] * 4, [50, 60, 10, 20]], dtype=np.float64)


@dataclass
class Box:
    box_xywh: np.ndarray
    refined: bool = True


class ShiftingRefiner:
    finds = True

    def refine(self, _frame: np.ndarray, box_xywh: np.ndarray) -> Box:
        return Box(box_xywh + np.array([1.0, 2.0, 0.5, 0.25]), self.finds)


def test_oracle_takes_the_true_centre_and_keeps_the_size_fed_back() -> None:
    tracker = load_tracker("oracle").open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, [16, 24, 30, 40])
    tracker.set_box(np.array([0.0, 0.0, 20.0, 10.0]))
    for _ in range(2):
        lost = tracker.track(FRAME)
        np.testing.assert_allclose(lost.box_xywh, [0, 0, 20, 10])
        assert lost.state is TrackState.NOT_FOUND
    found = tracker.track(FRAME)
    np.testing.assert_allclose(found.box_xywh, [45, 65, 20, 10])
    assert found.state is TrackState.NORMAL


def test_oracle_size_takes_the_true_size_about_the_centre_fed_back() -> None:
    tracker = load_tracker("oracle-size").open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, [8, 18, 34, 44])
    tracker.set_box(np.array([0.0, 0.0, 20.0, 10.0]))
    tracks = [tracker.track(FRAME) for _ in range(3)]
    np.testing.assert_allclose(tracks[1].box_xywh, [0, 0, 20, 10])
    np.testing.assert_allclose(tracks[2].box_xywh, [5, -5, 10, 20])
    assert all(np.isnan(track.score) for track in tracks)


def test_an_oracle_is_independent_of_the_arrays_it_gets_and_gives() -> None:
    first, boxes = GT_XYWH[0].copy(), GT_XYWH.copy()
    boxes[1] = 0
    tracker = load_tracker("oracle").open("a", boxes)
    tracker.initialize(FRAME, first)
    first[:] = 0
    tracker.track(FRAME).box_xywh[:] = 0
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, GT_XYWH[0])


def test_self_returns_the_box_fed_back() -> None:
    source = load_tracker("self", refiner=ShiftingRefiner())
    tracker = source.open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    np.testing.assert_array_equal(tracker.track(FRAME).box_xywh, GT_XYWH[0])
    tracker.set_box(GT_XYWH[1])
    np.testing.assert_array_equal(tracker.track(FRAME).box_xywh, GT_XYWH[1])
    assert source.accepts_feedback
    assert not source.needs_frames


def test_self_2_keeps_the_box_where_nothing_is_found() -> None:
    refiner = ShiftingRefiner()
    refiner.finds = False
    tracker = load_tracker("self:2", refiner=refiner).open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    np.testing.assert_array_equal(tracker.track(FRAME).box_xywh, GT_XYWH[0])


def test_self_2_refines_once_before() -> None:
    source = load_tracker("self:2", refiner=ShiftingRefiner())
    tracker = source.open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, [11, 22, 30.5, 40.25])
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, [12, 24, 31, 40.5])
    tracker.set_box(GT_XYWH[1])
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, [15, 24, 34.5, 44.25])
    assert source.needs_frames


@pytest.mark.parametrize("name", ["self", "self:2"])
def test_self_without_a_refiner_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--tracker {name} needs --ckpt"):
        load_tracker(name)
