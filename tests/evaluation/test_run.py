"""Boxes to files: what trackers and refiner are asked, in which order, and what ends up on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from alpharefine.evaluation.sequences import EvaluationSequence, SequenceSet

from alpharefine import Refinement, Refiner
from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.evaluation.run import Pipeline, RunSettings, SequenceResult, check_run, run_sequences
from alpharefine.trackers import Track, TrackState

NUM_FRAMES = 6


class Recorder:
    """A tracker that moves its box right by a pixel a frame; keeps what it and the refiner were called with."""

    calls: ClassVar[list[tuple[str, Any]]] = []
    scores: ClassVar[Sequence[float]] = ()
    lost: ClassVar[Sequence[int]] = ()
    answers: ClassVar[dict[int, Sequence[float]]] = {}

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        self.calls.append(("initialize", frame))
        self.box_xywh, self.index = box_xywh, 0

    def track(self, frame: np.ndarray) -> Track:
        self.calls.append(("track", frame))
        self.index += 1
        self.box_xywh = self.box_xywh + np.array([1.0, 0, 0, 0])
        box_xywh = np.array(self.answers.get(self.index, self.box_xywh), dtype=np.float64)
        score = self.scores[self.index - 1] if self.scores else float("nan")
        return Track(box_xywh, score, TrackState.NOT_FOUND if self.index in self.lost else TrackState.NORMAL)

    def set_box(self, box_xywh: np.ndarray) -> None:
        self.calls.append(("set_box", box_xywh.tolist()))
        self.box_xywh = box_xywh


class Downward:
    """A refiner that moves boxes down by two pixels, but for those that start right of `limit`."""

    limit: ClassVar[float] = np.inf
    score: ClassVar[float] = 0.5
    network: ClassVar[Any] = SimpleNamespace(geometry="exact", heads=("corner",))

    def initialize(self, frame: np.ndarray, _box_xywh: np.ndarray) -> None:
        Recorder.calls.append(("learn", frame))

    def refine(self, _frame: np.ndarray, box_xywh: np.ndarray, mask: bool = False) -> Refinement:
        assert not mask
        Recorder.calls.append(("refine", box_xywh.tolist()))
        refined_xywh = box_xywh + np.array([0, 2.0, 0, 0])
        return Refinement(refined_xywh, refined_xywh, None, self.score, bool(box_xywh[0] <= self.limit))


TRACKER = f"{__name__}:Recorder"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("calls", []), ("scores", ()), ("answers", {}), ("lost", ())):
        monkeypatch.setattr(Recorder, name, value)
    monkeypatch.setattr(Refiner, "from_checkpoint", lambda *_, **__: Downward())


def calls(*names: str) -> list[Any]:
    return [what if names else name for name, what in Recorder.calls if not names or name in names]


@pytest.fixture(scope="module")
def sequence(lasot_root: Path) -> EvaluationSequence:
    loaded = SequenceSet(lasot_root, None)
    found = loaded.load(loaded.names[0])
    boxes_xywh = np.tile([10.0, 12.0, 20.0, 16.0], (NUM_FRAMES, 1))
    return replace(found, truth=replace(found.truth, boxes_xywh=boxes_xywh))


def run(sequence: EvaluationSequence, **settings: Any) -> np.ndarray:
    return Pipeline(RunSettings(**({"tracker": TRACKER} | settings)))(sequence).boxes_xywh


def boxes(*xy: tuple[float, float]) -> list[list[float]]:
    return [[x, y, 20.0, 16.0] for x, y in xy]


# ---- one frame after the other -------------------------------------------------------------------------------------


def test_a_tracker_alone(sequence: EvaluationSequence) -> None:
    found = run(sequence)
    assert found.tolist() == boxes((10, 12), (11, 12), (12, 12), (13, 12), (14, 12), (15, 12))
    assert calls() == ["initialize"] + ["track"] * 5
    assert sequence.frame_paths is not None
    for shown, path in zip(calls("initialize", "track"), sequence.frame_paths, strict=True):
        np.testing.assert_array_equal(shown, read_image(path))


def test_refined_boxes_are_fed_back(sequence: EvaluationSequence) -> None:
    found = run(sequence, ckpt="a")
    assert found.tolist() == boxes((10, 12), (11, 14), (12, 16), (13, 18), (14, 20), (15, 22))
    assert calls() == ["initialize", "learn"] + ["track", "refine", "set_box"] * 5
    assert calls("set_box") == found[1:].tolist()
    assert calls("refine") == boxes((11, 12), (12, 14), (13, 16), (14, 18), (15, 20))


def test_a_tracker_put_back_on_its_target(sequence: EvaluationSequence) -> None:
    boxes_xywh = Pipeline(RunSettings("oracle:mil"))(sequence).boxes_xywh
    np.testing.assert_array_equal(boxes_xywh[:, 2:], np.tile([20.0, 16.0], (NUM_FRAMES, 1)))
    assert np.abs(boxes_xywh[:, :2] - [10, 12]).max() < 20, "MIL searches near the box alone, which stays on the truth"


def test_without_feedback_the_tracker_goes_its_own_way(sequence: EvaluationSequence) -> None:
    found = run(sequence, ckpt="a", feedback=False)
    assert found.tolist() == boxes((10, 12), (11, 14), (12, 14), (13, 14), (14, 14), (15, 14))
    assert calls() == ["initialize", "learn"] + ["track", "refine"] * 5


def test_what_the_refiner_does_not_find_stays_as_it_was(
    sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Downward, "limit", 12)
    found = run(sequence, ckpt="a")
    assert found.tolist() == boxes((10, 12), (11, 14), (12, 16), (13, 16), (14, 16), (15, 16))
    assert calls("set_box") == boxes((11, 14), (12, 16))
    assert len(calls("refine")) == 5


@pytest.mark.parametrize(
    ("score", "geometry", "settings", "handed_back"),
    [
        (0.1, "exact", {}, False),
        (0.2, "exact", {}, True),
        (0.1, "original", {}, True),
        (0.1, "exact", {"min_feedback_score": 0.0}, True),
        (0.5, "original", {"min_feedback_score": 0.6}, False),
    ],
)
def test_boxes_of_an_unsure_refiner_are_reported_and_not_handed_back(
    sequence: EvaluationSequence,
    monkeypatch: pytest.MonkeyPatch,
    score: float,
    geometry: str,
    settings: dict[str, float],
    handed_back: bool,
) -> None:
    monkeypatch.setattr(Downward, "score", score)
    monkeypatch.setattr(Downward.network, "geometry", geometry)
    found = run(sequence, ckpt="a", **settings)
    assert len(calls("set_box")) == (5 if handed_back else 0)
    assert found[-1].tolist() == [15, 22 if handed_back else 14, 20, 16]


@pytest.mark.parametrize(
    ("when_lost", "expected"),
    [
        ("refine", boxes((10, 12), (11, 14), (12, 16), (13, 18), (14, 20), (15, 22))),
        ("report", boxes((10, 12), (11, 14), (12, 16), (13, 16), (14, 18), (15, 20))),
        ("keep", boxes((10, 12), (11, 14), (12, 14), (13, 16), (14, 18), (15, 20))),
    ],
)
def test_frames_without_a_target(
    sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch, when_lost: str, expected: list[list[float]]
) -> None:
    monkeypatch.setattr(Recorder, "lost", (2,))
    assert run(sequence, ckpt="a", when_lost=when_lost).tolist() == expected
    assert len(calls("set_box")) == (5 if when_lost == "refine" else 4)
    assert len(calls("refine")) == (4 if when_lost == "keep" else 5)


def test_only_sure_boxes_are_refined(sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "scores", (0.9, 0.49, 0.5, -1.0, 1.0))
    found = run(sequence, ckpt="a", min_score=0.5)
    assert found.tolist() == boxes((10, 12), (11, 14), (12, 14), (13, 16), (14, 16), (15, 18))
    assert calls("refine") == boxes((11, 12), (13, 14), (15, 16))


@pytest.mark.parametrize(
    "bad", [[np.nan] * 4, [5, 5, 0, 9], [5, 5, 9, -1], [np.inf, 0, 5, 5], [-1] * 4], ids=lambda bad: str(bad)
)
def test_a_box_that_is_none_is_kept_unrefined(
    sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch, bad: list[float]
) -> None:
    monkeypatch.setattr(Recorder, "answers", {3: bad})
    found = run(sequence, ckpt="a")
    np.testing.assert_array_equal(found[3], bad)
    assert found[4:].tolist() == boxes((14, 18), (15, 20))
    assert len(calls("refine")) == len(calls("set_box")) == 4


def test_each_sequence_starts_afresh(sequence: EvaluationSequence) -> None:
    pipeline = Pipeline(RunSettings(TRACKER, ckpt="a"))
    first, second = pipeline(sequence), pipeline(sequence)
    np.testing.assert_array_equal(first.boxes_xywh, second.boxes_xywh)
    assert calls()[: len(calls()) // 2] == calls()[len(calls()) // 2 :]


@pytest.mark.parametrize("ckpt", [None, "a"])
def test_times_have_a_row_a_frame(sequence: EvaluationSequence, ckpt: str | None) -> None:
    times_ms = Pipeline(RunSettings(TRACKER, ckpt=ckpt))(sequence).times_ms
    assert times_ms.shape == (NUM_FRAMES, 3)
    assert (times_ms[:, :2] > 0).all()
    assert (times_ms[:, 2] >= 0).all()


# ---- replay --------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(sequence: EvaluationSequence, tmp_path: Path) -> Path:
    rows = [[30 + i, 20, 10, 10] for i in range(NUM_FRAMES + 2)]
    (tmp_path / f"{sequence.name}.txt").write_text("\n".join("\t".join(map(str, row)) for row in rows))
    return tmp_path


def test_a_replay_gives_the_published_boxes(sequence: EvaluationSequence, published: Path) -> None:
    found = run(replace(sequence, frame_paths=None), tracker="replay", results_dir=str(published))
    assert found.tolist() == [[30 + i, 20, 10, 10] for i in range(NUM_FRAMES)]


def test_a_replay_is_refined_and_never_fed_back(sequence: EvaluationSequence, published: Path) -> None:
    found = run(sequence, tracker="replay", results_dir=str(published), ckpt="a")
    assert found.tolist() == [[30, 20, 10, 10], *([30 + i, 22, 10, 10] for i in range(1, NUM_FRAMES))]
    assert calls("refine") == [[30 + i, 20, 10, 10] for i in range(1, NUM_FRAMES)]


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_feedback_that_a_tracker_cannot_take(published: Path) -> None:
    settings = RunSettings("replay", results_dir=str(published), ckpt="a", feedback=True)
    with pytest.raises(UserError, match="`--feedback`: replay cannot take the refined box; use `--no-feedback`"):
        Pipeline(settings)


def test_a_least_score_for_a_tracker_without(sequence: EvaluationSequence) -> None:
    with pytest.raises(UserError, match="`--min_score`: oracle does not tell how sure it is"):
        check_run(RunSettings("oracle", ckpt="a", min_score=0.5), [sequence])
    with pytest.raises(UserError, match=r"`--min_score`: .*Recorder gave no number as its score"):
        run(sequence, ckpt="a", min_score=0.5)


def test_published_boxes_that_are_too_few_are_found_at_once(sequence: EvaluationSequence, published: Path) -> None:
    settings = RunSettings("replay", results_dir=str(published))
    check_run(settings, [sequence])
    (published / f"{sequence.name}.txt").write_text("1,2,3,4")
    with pytest.raises(UserError, match=rf"has 1 rows, the sequence has {NUM_FRAMES} frames"):
        check_run(settings, [sequence])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RunSettings(TRACKER), rf"`--tracker {TRACKER}` looks at the frames .* give `--data_root`"),
        (RunSettings("oracle", ckpt="a"), "`--tracker oracle` with `--ckpt` looks at the frames"),
    ],
)
def test_frames_that_are_not_at_hand(sequence: EvaluationSequence, settings: RunSettings, message: str) -> None:
    without_frames = replace(sequence, frame_paths=None)
    with pytest.raises(UserError, match=message):
        check_run(settings, [sequence, without_frames])
    with pytest.raises(UserError, match=message):
        Pipeline(settings)(without_frames)
    check_run(settings, [sequence])
    check_run(replace(settings, tracker="oracle", ckpt=None), [without_frames])


@pytest.mark.parametrize("content", [None, b"", b"no picture"], ids=["absent", "empty", "text"])
def test_a_frame_that_does_not_decode(sequence: EvaluationSequence, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "00000003.jpg"
    if content is not None:
        path.write_bytes(content)
    assert sequence.frame_paths is not None
    paths = [*sequence.frame_paths[:2], path, *sequence.frame_paths[3:]]
    with pytest.raises(UserError, match=r"00000003\.jpg: .*this image"):
        run(replace(sequence, frame_paths=paths))


@pytest.mark.parametrize("box_xywh", [[64, 5, 10, 10], [5, 48, 10, 10], [-10, 5, 10, 10], [5, -10, 10, 10]], ids=str)
@pytest.mark.parametrize("ckpt", [None, "a"])
def test_a_first_box_outside_of_the_picture(sequence: EvaluationSequence, box_xywh: Any, ckpt: str | None) -> None:
    boxes_xywh = np.tile(np.array(box_xywh, dtype=np.float64), (NUM_FRAMES, 1))
    with pytest.raises(UserError, match=rf"Sequence {sequence.name}: its first box .* outside .* 64x48 px"):
        run(replace(sequence, truth=replace(sequence.truth, boxes_xywh=boxes_xywh)), ckpt=ckpt)
    assert calls() == []


# ---- processes -----------------------------------------------------------------------------------------------------


def with_a_broken_frame(sequence: EvaluationSequence, folder: Path) -> EvaluationSequence:
    assert sequence.frame_paths is not None
    broken = folder / "00000004.jpg"
    broken.write_bytes(b"no picture")
    return replace(sequence, frame_paths=[*sequence.frame_paths[:3], broken, *sequence.frame_paths[4:]])


def test_sequences_before_a_broken_one_are_yielded(lasot_root: Path, tmp_path: Path) -> None:
    loaded = SequenceSet(lasot_root, None)
    first, second, third = (loaded.load(name) for name in loaded.names)
    results = run_sequences(RunSettings(TRACKER), [first, with_a_broken_frame(second, tmp_path), third])
    assert next(results)[0] == first.name
    with pytest.raises(UserError, match="00000004"):
        next(results)


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_finish_what_they_began(lasot_root: Path, tmp_path: Path) -> None:
    loaded = SequenceSet(lasot_root, None)
    first, second, third = (loaded.load(name) for name in loaded.names)
    sequences = [with_a_broken_frame(first, tmp_path), second, third]
    done: dict[str, SequenceResult] = {}
    with pytest.raises(UserError, match="00000004"):
        done.update(run_sequences(RunSettings("mil"), sequences, num_processes=2))
    assert first.name not in done
    assert done[second.name].boxes_xywh.shape == (NUM_FRAMES, 4)


@pytest.mark.slow
@pytest.mark.ddp
def test_a_fault_in_the_settings_comes_back_from_other_processes(sequence: EvaluationSequence) -> None:
    with pytest.raises(UserError, match="--tracker nonesuch is no known tracker"):
        list(run_sequences(RunSettings("nonesuch"), [sequence], num_processes=2))
