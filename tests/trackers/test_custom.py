from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.trackers import Track, TrackState, find_tracker, load_tracker

FRAME = np.zeros((8, 8, 3), dtype=np.uint8)


class Scripted:
    answer: ClassVar[Any] = None
    made: ClassVar[list[tuple[Path, ...]]] = []

    def __init__(self, *weights: Path) -> None:
        self.made.append(weights)

    def initialize(self, _frame: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box_xywh = box_xywh

    def track(self, _frame: np.ndarray) -> Any:
        return (self.box_xywh, 0.25, "uncertain") if self.answer is None else self.answer

    def set_box(self, box_xywh: np.ndarray) -> None:
        self.box_xywh = box_xywh


class Deaf:
    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None: ...

    def track(self, frame: np.ndarray) -> None: ...


NAME = f"{__name__}:Scripted"


def test_an_own_class_is_made_once_with_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "made", [])
    source = load_tracker(NAME, weights=[Path("a"), Path("b")])
    for name in ("one", "two"):
        tracker = source.open(name, np.zeros((2, 4)))
        tracker.initialize(FRAME, np.array([1, 2, 3, 4]))
        tracker.set_box(np.array([5, 6, 7, 8]))
        track = tracker.track(FRAME)
        assert isinstance(track, Track)
        assert track.box_xywh.dtype == np.float64
        np.testing.assert_array_equal(track.box_xywh, [5, 6, 7, 8])
        assert (track.score, track.state) == (0.25, TrackState.UNCERTAIN)
    assert Scripted.made == [(Path("a"), Path("b"))]
    entry = find_tracker(NAME)
    assert entry.name == NAME
    assert entry.code_files(NAME) == [Path(__file__)]


class Clumsy(Scripted):
    """Changes the boxes that it is given."""

    def track(self, _frame: np.ndarray) -> Any:
        self.box_xywh += 5
        return self.box_xywh, 0.25, "normal"


def test_a_tracker_may_change_the_boxes_it_is_given() -> None:
    tracker = load_tracker(f"{__name__}:Clumsy").open("a", np.zeros((1, 4)))
    truth, fed_back = np.arange(8.0).reshape(2, 4), np.arange(4.0)
    tracker.initialize(FRAME, truth[0])
    tracker.track(FRAME)
    tracker.set_box(fed_back)
    np.testing.assert_array_equal(tracker.track(FRAME).box_xywh, np.arange(4.0) + 5)
    np.testing.assert_array_equal(truth, np.arange(8.0).reshape(2, 4))
    np.testing.assert_array_equal(fed_back, np.arange(4.0))


class Closing(Scripted):
    closed: ClassVar[int] = 0

    def close(self) -> None:
        type(self).closed += 1


def test_closing_is_optional() -> None:
    load_tracker(NAME).open("a", np.zeros((1, 4))).close()
    load_tracker(f"{__name__}:Closing").open("a", np.zeros((1, 4))).close()
    assert Closing.closed == 1


class WithoutWeights(Scripted):
    def __init__(self) -> None: ...


def test_weights_that_a_class_does_not_take() -> None:
    name = f"{__name__}:WithoutWeights"
    load_tracker(name)
    with pytest.raises(UserError, match=r"`WithoutWeights` cannot be made from 1 files \(too many positional"):
        load_tracker(name, weights=[Path("a")])


def test_a_track_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "answer", Track(np.arange(4.0), float("nan"), TrackState.NOT_FOUND))
    tracker = load_tracker(NAME).open("a", np.zeros((1, 4)))
    track = tracker.track(FRAME)
    np.testing.assert_array_equal(track.box_xywh, np.arange(4.0))
    assert np.isnan(track.score)
    assert track.state is TrackState.NOT_FOUND


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(np.ones(4), id="a box alone"),
        pytest.param((1, 2, 3, 4), id="four numbers"),
        pytest.param((np.ones(3), 0.5, "normal"), id="three numbers"),
        pytest.param((np.ones((1, 4)), 0.5, "normal"), id="two dimensions"),
        pytest.param((np.ones(4), 0.5, "fine"), id="unknown state"),
        pytest.param((np.ones(4), "high", "normal"), id="score in words"),
        pytest.param([np.ones(4), 0.5, "normal"], id="list"),
        pytest.param(5, id="number"),
    ],
)
def test_a_wrong_answer_is_refused(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    monkeypatch.setattr(Scripted, "answer", answer)
    tracker = load_tracker(NAME).open("a", np.zeros((1, 4)))
    with pytest.raises(
        UserError, match=r"`track` must return a `Track` or a tuple \(box_xywh of 4 numbers, score, state\)"
    ):
        tracker.track(FRAME)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_at_all:Class", "`no_such_module_at_all` cannot be imported"),
        (f"{__name__}:Absent", "has no class `Absent`"),
        (f"{__name__}:FRAME", "has no class `FRAME`"),
        (f"{__name__}:Deaf", "`Deaf` has no set_box"),
    ],
)
def test_what_is_no_tracker_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_tracker(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            "import sys; sys.exit(4)", r"fails while it is imported: SystemExit: 4 \(.*broken.py, line 1\)", id="exit"
        ),
        pytest.param("x = 1 / 0", r"fails while it is imported: ZeroDivisionError: .*broken.py, line 1", id="error"),
        pytest.param("class Mine(:", "fails while it is imported: SyntaxError", id="syntax"),
        pytest.param("import no_such_module_at_all", "cannot be imported", id="module"),
    ],
)
def test_a_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=message):
        load_tracker("broken:Mine")


def test_a_long_answer_is_cut_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "answer", (np.zeros((100, 100)), 1.0, "x" * 10_000))
    tracker = load_tracker(NAME).open("a", np.zeros((1, 4)))
    with pytest.raises(UserError, match="`track` must return") as error:
        tracker.track(FRAME)
    assert len(str(error.value)) < 700
    assert "\n" not in str(error.value)
