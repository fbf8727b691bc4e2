"""The trackers on generated video, with random networks and with scripted scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alpharefine.trackers import TrackState
from alpharefine.trackers.siamese import AnchorGrid, Candidate
from alpharefine.trackers.siamrpnpp import VARIANTS, LostSearch, SiamRPNppTracker
from alpharefine.trackers.siamrpnpp.loading import load_network
from alpharefine.trackers.siamrpnpp.network import SiamRPNpp

from ..videos import moving_texture
from .random_files import save_random

FIRST_XYWH = np.array([60.0, 50.0, 40.0, 40.0])
ALEX = VARIANTS["siamrpnpp-alex"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> SiamRPNpp:
    return load_network("siamrpnpp-alex", save_random(tmp_path_factory.mktemp("alex")))


class Script:
    """Candidates with given scores, in place of the network's choice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scores: list[float], shift: float = 8.0) -> None:
        self.asked: list[tuple[int, float]] = []

        def best(grid: AnchorGrid, logits: Any, deltas: Any, last: Any, penalty: Any, window: float) -> Candidate:
            self.asked.append((len(grid.offsets), window))
            score = scores[len(self.asked) - 1]
            return Candidate((0, 0, 0), np.array([shift, 0.0]), 1.5 * last, score, 1.0)

        monkeypatch.setattr(AnchorGrid, "best", best)


def test_the_long_term_tracker_loses_and_finds(network: SiamRPNpp, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [0.9, 0.7, 0.9, 0.99, 0.9]
    script = Script(monkeypatch, scores)
    lost = LostSearch(search_size=415, low_score=0.8, high_score=0.95)
    tracker = SiamRPNppTracker(network, replace(ALEX, lost=lost))
    frames = moving_texture(6)[0]
    tracker.initialize(frames[0], FIRST_XYWH)
    tracks = [tracker.track(frame) for frame in frames[1:]]
    states = [TrackState.NORMAL, TrackState.NOT_FOUND, TrackState.UNCERTAIN, TrackState.NORMAL, TrackState.NORMAL]
    assert [track.state for track in tracks] == states
    assert [track.score for track in tracks] == scores
    usual, wide = (21, ALEX.window_influence), (37, lost.window_influence)
    assert script.asked == [usual, usual, wide, wide, usual]
    np.testing.assert_array_equal(tracks[1].box_xywh, tracks[0].box_xywh)
    assert tracks[2].box_xywh[2] > tracks[1].box_xywh[2]


def test_a_lost_target_is_forgotten_with_the_next_sequence(network: SiamRPNpp, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [0.1, 0.9])
    tracker = SiamRPNppTracker(network, replace(ALEX, lost=LostSearch(search_size=415)))
    frames = moving_texture(2)[0]
    for _ in range(2):
        tracker.initialize(frames[0], FIRST_XYWH)
        tracker.track(frames[1])
    assert [size for size, _ in script.asked] == [21, 21]


def test_the_long_term_tracker_alone_goes_on_outside_of_the_picture(
    network: SiamRPNpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = moving_texture(4)[0]
    returns = []
    for lost in (None, LostSearch()):
        tracker = SiamRPNppTracker(network, replace(ALEX, lost=lost))
        tracker.initialize(frames[0], np.array([5.0, 50.0, 40.0, 40.0]))
        for shift in (-90.0, -90.0, 90.0):
            Script(monkeypatch, [1.0], shift)
            x, _, w, _ = tracker.track(frames[1]).box_xywh
            returns.append(x + w / 2)
    assert returns[:2] == returns[3:5] == [0, 0]
    assert returns[2] > 0  # back from the border
    assert returns[5] == 0  # not yet back from beyond it


@pytest.mark.parametrize(
    "box_xywh",
    [(-30.0, -30.0, 40.0, 50.0), (5.5, 4.25, 600.5, 400.0), (700.0, 500.0, 20.0, 20.0), (9.0, 9.0, 1.0, 1.0)],
)
def test_boxes_over_the_border_are_tracked(network: SiamRPNpp, box_xywh: tuple[float, ...]) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    tracker = SiamRPNppTracker(network, ALEX)
    tracker.initialize(frame, np.array(box_xywh))
    track = tracker.track(frame)
    x, y, w, h = track.box_xywh
    assert 10 <= w <= 320
    assert 10 <= h <= 240
    assert 0 <= x + w / 2 <= 320
    assert 0 <= y + h / 2 <= 240
    assert 0 <= track.score <= 1


@pytest.mark.parametrize("size", [(-4.0, 3.0), (0.0, 0.0)])
def test_a_box_without_sides_can_be_set(network: SiamRPNpp, size: tuple[float, float]) -> None:
    frames = moving_texture(2)[0]
    tracker = SiamRPNppTracker(network, ALEX)
    tracker.initialize(frames[0], FIRST_XYWH)
    tracker.set_box(np.array([70.0, 60.0, *size]))
    assert np.isfinite(tracker.track(frames[1]).box_xywh).all()


def test_frames_and_boxes_are_left_as_they_are(network: SiamRPNpp) -> None:
    frames = moving_texture(2)[0]
    kept, box = [frame.copy() for frame in frames], FIRST_XYWH.copy()
    tracker = SiamRPNppTracker(network, ALEX)
    tracker.initialize(frames[0], box)
    box[:] = 0
    first = tracker.track(frames[1]).box_xywh
    again = first.copy()
    tracker.set_box(first)
    tracker.track(frames[1])
    np.testing.assert_array_equal(frames, kept)
    np.testing.assert_array_equal(first, again)
