"""Trackers without an appearance model: the oracles and self-refinement."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import LoadedTracker, Track, Tracker, TrackState, find_tracker, load_tracker, tracker_entries
from alpharefine.trackers.oracle import CenteredTracker, center_on_truth

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


def test_oracle_takes_the_true_center_and_keeps_the_size_fed_back() -> None:
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


def test_oracle_size_takes_the_true_size_about_the_center_fed_back() -> None:
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


class Wandering(Tracker):
    """Moves its box by (3, 1), enlarges it by (2, 2), and records the boxes that it is given."""

    lost_at = -1

    def initialize(self, _frame: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box_xywh, self.put, self.index = box_xywh, [], 0

    def track(self, _frame: np.ndarray) -> Track:
        self.index += 1
        if self.index == self.lost_at:
            return Track(np.full(4, -1.0), 0.1, TrackState.NOT_FOUND)
        self.box_xywh = self.box_xywh + np.array([3.0, 1.0, 2.0, 2.0])
        return Track(self.box_xywh, 0.7, TrackState.NORMAL)

    def set_box(self, box_xywh: np.ndarray) -> None:
        self.put.append(box_xywh.tolist())
        self.box_xywh = box_xywh


def test_a_tracker_that_is_put_back_on_its_target() -> None:
    inner, frame = Wandering(), np.zeros((100, 100, 3), np.uint8)
    tracker = CenteredTracker(inner, GT_XYWH)
    tracker.initialize(frame, GT_XYWH[0])
    first = tracker.track(frame)
    assert (first.box_xywh.tolist(), first.score, first.state) == ([13, 21, 32, 42], 0.7, TrackState.NORMAL)
    assert inner.put == [[15, 23, 32, 42]], "the size is its own, the center the truth's"
    for _ in range(2):  # no truth to be put back on
        tracker.track(frame)
    assert len(inner.put) == 1
    tracker.track(frame)
    assert inner.put[1] == [55 - 38 / 2, 70 - 48 / 2, 38, 48]
    tracker.set_box(np.array([0.0, 0.0, 20.0, 30.0]))
    assert inner.put[2] == [45, 55, 20, 30]


def test_its_boxes_lie_inside_the_picture_and_what_is_no_box_stays() -> None:
    inner, frame = Wandering(), np.zeros((50, 40, 3), np.uint8)
    inner.lost_at = 4
    tracker = CenteredTracker(inner, GT_XYWH)
    tracker.initialize(frame, GT_XYWH[0])
    assert tracker.track(frame).box_xywh.tolist() == [13, 21, 27, 29]
    tracks = [tracker.track(frame) for _ in range(3)]
    assert tracks[-1].box_xywh.tolist() == [-1] * 4
    assert len(inner.put) == 1


def test_the_entry_over_a_tracker_is_that_tracker_s() -> None:
    entry, inner = find_tracker("oracle:siamrpnpp-lt"), find_tracker("siamrpnpp-lt")
    assert (entry.name, entry.official_file, entry.roles) == ("oracle:siamrpnpp-lt", inner.official_file, inner.roles)
    assert entry.reports_lost
    assert entry.runs_in_torch
    assert isinstance(load_tracker("oracle:mil").open("a", GT_XYWH).tracker, CenteredTracker)


@pytest.mark.parametrize("inner", ["replay", "self", "self:2", "oracle", "oracle-size", "csrt", "my.module", ""])
def test_trackers_that_cannot_be_moved_are_refused(inner: str) -> None:
    with pytest.raises(
        UserError, match=rf"--tracker oracle:{inner} must be oracle: followed by one of dimp, .*, mil, got '{inner}'"
    ):
        load_tracker(f"oracle:{inner}")


@pytest.mark.parametrize("inner", ["oracle:mil", "cmd:true", "package.module:Class", "cmd:"])
def test_members_of_families_cannot_be_moved(inner: str) -> None:
    with pytest.raises(UserError, match=f"oracle: followed by one of .*, got '{inner}'"):
        find_tracker(f"oracle:{inner}")


@pytest.mark.parametrize(
    "change", [{"accepts_feedback": False}, {"needs_frames": False}, {"opens_files": True}, {"requires_refiner": True}]
)
def test_abilities_that_a_moved_tracker_needs(change: dict[str, bool]) -> None:
    (family,) = (entry for entry in tracker_entries() if entry.name == "oracle:")
    assert family.derive is not None
    assert family.derive(find_tracker("mil")) is not None
    assert family.derive(replace(find_tracker("mil"), **change)) is None


def test_closing_closes_the_inner_tracker() -> None:
    class Closing(Wandering):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    inner = Closing()
    center_on_truth(LoadedTracker(lambda _: inner)).open("a", GT_XYWH).close()
    assert inner.closed == 1


def test_self_returns_the_box_fed_back() -> None:
    tracker = load_tracker("self", refiner=ShiftingRefiner()).open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    np.testing.assert_array_equal(tracker.track(FRAME).box_xywh, GT_XYWH[0])
    tracker.set_box(GT_XYWH[1])
    np.testing.assert_array_equal(tracker.track(FRAME).box_xywh, GT_XYWH[1])


def test_self_2_keeps_the_box_where_nothing_is_found() -> None:
    refiner = ShiftingRefiner()
    refiner.finds = False
    tracker = load_tracker("self:2", refiner=refiner).open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    np.testing.assert_array_equal(tracker.track(FRAME).box_xywh, GT_XYWH[0])


def test_self_2_refines_once_before() -> None:
    tracker = load_tracker("self:2", refiner=ShiftingRefiner()).open("a", GT_XYWH)
    tracker.initialize(FRAME, GT_XYWH[0])
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, [11, 22, 30.5, 40.25])
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, [12, 24, 31, 40.5])
    tracker.set_box(GT_XYWH[1])
    np.testing.assert_allclose(tracker.track(FRAME).box_xywh, [15, 24, 34.5, 44.25])


@pytest.mark.parametrize("name", ["self", "self:2"])
def test_self_without_a_refiner_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--tracker {name} needs --ckpt"):
        load_tracker(name)
