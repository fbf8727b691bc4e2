"""Closed loop over one sequence: calls of tracker and refiner, and the boxes that result."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch

from alpharefine import Refinement
from alpharefine.data.images import read_image
from alpharefine.errors import SequenceError, UserError
from alpharefine.evaluation import decoding
from alpharefine.evaluation import run as run_stage
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.mask_files import remove_killed
from alpharefine.evaluation.processes import run_in_processes
from alpharefine.evaluation.results import RunFolder
from alpharefine.evaluation.run import (
    SequenceJob,
    SequenceOutcome,
    SequenceResult,
    TrackerRunner,
    failed_job,
    require_frames,
)
from alpharefine.trackers import Track, TrackState, find_tracker
from tests.evaluation.settings import run_settings

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
    monkeypatch.setattr(run_stage, "load_refiner", lambda *_: Downward())


def calls(*names: str) -> list[Any]:
    return [what if names else name for name, what in Recorder.calls if not names or name in names]


@pytest.fixture(scope="module")
def sequences(lasot_root: Path) -> list[EvaluationSequence]:
    dataset = open_dataset(DatasetConfig(root=lasot_root))
    return [dataset.load(name) for name in dataset.names]


@pytest.fixture(scope="module")
def sequence(sequences: list[EvaluationSequence]) -> EvaluationSequence:
    boxes_xywh = np.tile([10.0, 12.0, 20.0, 16.0], (NUM_FRAMES, 1))
    return replace(sequences[0], truth=replace(sequences[0].truth, boxes_xywh=boxes_xywh))


def result(sequence: EvaluationSequence, tracker: str = TRACKER, **refinement: Any) -> SequenceResult:
    return TrackerRunner({"run": run_settings(tracker, **refinement)})("run", sequence)


def run(sequence: EvaluationSequence, tracker: str = TRACKER, **refinement: Any) -> np.ndarray:
    return result(sequence, tracker, **refinement).boxes_xywh


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
    boxes_xywh = run(sequence, "oracle:mil")
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


@pytest.mark.parametrize(("score", "handed_back"), [(0.19, False), (0.2, True)])
def test_boxes_of_low_score_are_reported_and_not_handed_back(
    sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch, score: float, handed_back: bool
) -> None:
    monkeypatch.setattr(Downward, "score", score)
    found = run(sequence, ckpt="a", min_feedback_score=0.2)
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
    runner = TrackerRunner({"run": run_settings(TRACKER, ckpt="a")})
    first, second = runner("run", sequence), runner("run", sequence)
    np.testing.assert_array_equal(first.boxes_xywh, second.boxes_xywh)
    assert calls()[: len(calls()) // 2] == calls()[len(calls()) // 2 :]


def test_runs_share_the_tracker_and_differ_in_refinement(sequence: EvaluationSequence) -> None:
    runner = TrackerRunner({"base": run_settings(TRACKER), "refined": run_settings(TRACKER, ckpt="a")})
    jobs = [SequenceJob("base", sequence), SequenceJob("refined", sequence)]
    base, refined = runner.run_all(jobs)
    assert (base.run, base.name, refined.run) == ("base", sequence.name, "refined")
    assert isinstance(base.result, SequenceResult)
    assert isinstance(refined.result, SequenceResult)
    np.testing.assert_array_equal(base.result.boxes_xywh, run(sequence))
    np.testing.assert_array_equal(refined.result.boxes_xywh, run(sequence, ckpt="a"))


@pytest.mark.parametrize("refinement", [{}, {"ckpt": "a"}])
def test_times_have_a_row_a_frame(sequence: EvaluationSequence, refinement: dict[str, str]) -> None:
    times_ms = result(sequence, **refinement).times_ms
    assert times_ms.shape == (NUM_FRAMES, 3)
    assert (times_ms[:, :2] > 0).all()
    assert (times_ms[:, 2] >= 0).all()


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_a_minimum_score_for_a_tracker_that_gives_none(sequence: EvaluationSequence) -> None:
    with pytest.raises(UserError, match="`--min_score` requires a tracker that gives scores, got the score NaN"):
        run(sequence, ckpt="a", min_score=0.5)


def test_frames_that_are_not_available(sequence: EvaluationSequence) -> None:
    require_frames([sequence], "A refiner")
    with pytest.raises(UserError, match=f"A refiner reads the frames of {sequence.name}: give `--data_root`"):
        require_frames([sequence, replace(sequence, frame_paths=None)], "A refiner")
    run(replace(sequence, frame_paths=None), "oracle")


@pytest.mark.parametrize("content", [None, b"", b"no picture"], ids=["absent", "empty", "text"])
def test_a_frame_that_does_not_decode(sequence: EvaluationSequence, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "00000003.jpg"
    if content is not None:
        path.write_bytes(content)
    assert sequence.frame_paths is not None
    paths = [*sequence.frame_paths[:2], path, *sequence.frame_paths[3:]]
    with pytest.raises(UserError, match=r"00000003\.jpg: .*this image"):
        run(replace(sequence, frame_paths=paths))


@pytest.mark.parametrize(
    ("box_xywh", "fault"),
    [
        ([64, 5, 10, 10], "lies outside"),
        ([5, 48, 10, 10], "lies outside"),
        ([-10, 5, 10, 10], "lies outside"),
        ([5, -10, 10, 10], "lies outside"),
        ([-5, 5, 74, 10], "is larger than"),
        ([5, -5, 10, 58], "is larger than"),
    ],
    ids=str,
)
@pytest.mark.parametrize("refinement", [{}, {"ckpt": "a"}])
def test_a_first_box_that_is_not_in_the_picture(
    sequence: EvaluationSequence, box_xywh: Any, fault: str, refinement: dict[str, str]
) -> None:
    boxes_xywh = np.tile(np.array(box_xywh, dtype=np.float64), (NUM_FRAMES, 1))
    with pytest.raises(UserError, match=rf"{sequence.name}: the ground truth: the first box .* {fault} .* 64x48 px"):
        run(replace(sequence, truth=replace(sequence.truth, boxes_xywh=boxes_xywh)), **refinement)
    assert calls() == []


# ---- processes -----------------------------------------------------------------------------------------------------


def with_a_broken_frame(sequence: EvaluationSequence, folder: Path) -> EvaluationSequence:
    assert sequence.frame_paths is not None
    broken = folder / "00000004.jpg"
    broken.write_bytes(b"no picture")
    return replace(sequence, frame_paths=[*sequence.frame_paths[:3], broken, *sequence.frame_paths[4:]])


def outcomes(
    tracker: str, sequences: Sequence[EvaluationSequence], num_processes: int = 1
) -> Iterator[SequenceOutcome]:
    make_runner = functools.partial(TrackerRunner, {"base": run_settings(tracker)})
    jobs = [SequenceJob("base", sequence) for sequence in sequences]
    return run_in_processes(make_runner, jobs, failed_job, num_processes)


class Faulty(Recorder):
    """Fails on its fourth call of `track` in all."""

    error: ClassVar[Callable[[], BaseException]] = KeyError
    count: ClassVar[int] = 0

    def track(self, frame: np.ndarray) -> Track:
        type(self).count += 1
        if self.count == 4:
            raise self.error()
        return super().track(frame)


def opencv_error() -> BaseException:
    try:
        cv2.cvtColor(np.zeros((2, 2, 7), np.uint8), cv2.COLOR_BGR2GRAY)
    except cv2.error as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(lambda: KeyError("lost"), "KeyError: 'lost'", id="key"),
        pytest.param(lambda: SystemExit(3), "SystemExit: 3", id="exit"),
        pytest.param(opencv_error, "error: OpenCV", id="opencv"),
        pytest.param(lambda: MemoryError(), "MemoryError", id="memory"),
        pytest.param(lambda: UserError("wrong box"), "wrong box", id="user"),
    ],
)
def test_an_exception_of_the_tracker_ends_its_sequence_alone(
    sequences: list[EvaluationSequence], monkeypatch: pytest.MonkeyPatch, error: Any, text: str
) -> None:
    monkeypatch.setattr(Faulty, "error", staticmethod(error))
    monkeypatch.setattr(Faulty, "count", 0)
    first, *others = outcomes(f"{__name__}:Faulty", sequences)
    assert isinstance(first.result, SequenceError)
    assert str(first.result).startswith(text)
    if not isinstance(error(), UserError):
        assert re.search(r"test_run\.py, line \d+\)$", str(first.result)), "the line of the tracker"
    assert [outcome.name for outcome in others] == [sequence.name for sequence in sequences[1:]]
    assert all(isinstance(outcome.result, SequenceResult) for outcome in others)


def test_an_interruption_stops(sequences: list[EvaluationSequence], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "error", KeyboardInterrupt)
    monkeypatch.setattr(Faulty, "count", 0)
    with pytest.raises(KeyboardInterrupt):
        list(outcomes(f"{__name__}:Faulty", sequences))


def test_a_broken_frame_ends_its_sequence_alone(sequences: list[EvaluationSequence], tmp_path: Path) -> None:
    first, second, third = sequences
    one, two, three = outcomes(TRACKER, [first, with_a_broken_frame(second, tmp_path), third])
    assert isinstance(one.result, SequenceResult)
    assert isinstance(three.result, SequenceResult)
    assert isinstance(two.result, SequenceError)
    assert "00000004" in str(two.result)


def test_a_frame_of_another_size_ends_its_sequence(sequence: EvaluationSequence, tmp_path: Path) -> None:
    assert sequence.frame_paths is not None
    paths = list(sequence.frame_paths)
    paths[2] = tmp_path / "00000003.png"
    cv2.imwrite(str(paths[2]), np.zeros((40, 64, 3), np.uint8))
    with pytest.raises(SequenceError, match=r"00000003\.png has 64x40 px, the first frame of its sequence has 64x48"):
        run(replace(sequence, frame_paths=paths))


def test_frames_and_boxes_that_differ_in_number(sequence: EvaluationSequence) -> None:
    assert sequence.frame_paths is not None
    for frame_paths in (sequence.frame_paths[:-1], [*sequence.frame_paths, sequence.frame_paths[0]]):
        with pytest.raises(SequenceError, match=r"frames and rows must agree in number, got [57] frames and 6 rows"):
            replace(sequence, frame_paths=frame_paths)


class Masking(Downward):
    """A refiner with masks, that counts those that are on the disk before it makes one."""

    folder: ClassVar[Path]
    on_disk: ClassVar[list[int]] = []
    failing: ClassVar[int] = -1

    def segment(self, frame: np.ndarray, _box_xywh: np.ndarray) -> np.ndarray:
        self.on_disk.append(len(list(self.folder.rglob("*.png"))))
        if len(self.on_disk) == self.failing:
            raise KeyboardInterrupt
        mask = np.zeros(frame.shape[:2], np.float32)
        mask[len(self.on_disk)] = 1
        return mask


def test_masks_are_written_as_they_come(
    sequence: EvaluationSequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_stage, "load_refiner", lambda *_: Masking())
    monkeypatch.setattr(Masking, "folder", tmp_path, raising=False)
    monkeypatch.setattr(Masking, "on_disk", [])
    settings = run_settings(TRACKER, save_masks=True)
    found = TrackerRunner({"run": settings}, mask_dir=tmp_path / "out")("run", sequence)
    assert Masking.on_disk == [0, 1, 2, 3, 4]
    assert found.mask_folder is not None
    folder = RunFolder(tmp_path / "out" / "tracker" / "refined", run_settings("oracle"))
    folder.write("a", found)
    assert not found.mask_folder.exists()
    masks = sorted((folder.path / "masks" / "a").iterdir())
    assert [path.name for path in masks] == [f"{number:08d}.png" for number in range(2, 7)]
    assert [int(np.flatnonzero(read_image(path).any((1, 2)))[0]) for path in masks] == [1, 2, 3, 4, 5]


def test_masks_of_an_interrupted_sequence_are_removed(
    sequence: EvaluationSequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_stage, "load_refiner", lambda *_: Masking())
    monkeypatch.setattr(Masking, "folder", tmp_path, raising=False)
    monkeypatch.setattr(Masking, "on_disk", [])
    monkeypatch.setattr(Masking, "failing", 3)
    with pytest.raises(KeyboardInterrupt):
        TrackerRunner({"run": run_settings(TRACKER, save_masks=True)}, mask_dir=tmp_path)("run", sequence)
    assert Masking.on_disk == [0, 1, 2]
    assert not list(tmp_path.iterdir())


def test_masks_that_cannot_be_written_end_their_sequence(
    sequence: EvaluationSequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_stage, "load_refiner", lambda *_: Masking())
    monkeypatch.setattr(Masking, "folder", tmp_path, raising=False)
    (tmp_path / "file").touch()
    with pytest.raises(SequenceError, match=r"file: masks cannot be written \(.*\); free disk space"):
        TrackerRunner({"run": run_settings(TRACKER, save_masks=True)}, mask_dir=tmp_path / "file")("run", sequence)


def test_masks_of_killed_commands_are_removed_after_a_day(tmp_path: Path) -> None:
    for name in (".masks-old", ".masks-new", "others"):
        (tmp_path / name).mkdir()
    for name in (".masks-old", "others"):
        os.utime(tmp_path / name, (0, 0))
    remove_killed(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".masks-new", "others"]


class Unbuildable(Recorder):
    """Fails before its first sequence."""

    error: ClassVar[BaseException] = OSError("no weights")

    def __init__(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [OSError("no weights"), SystemExit("no weights"), cv2.error("no weights")], ids=repr)
def test_a_tracker_that_cannot_be_built_stops_at_once(
    sequences: list[EvaluationSequence], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(Unbuildable, "error", error)
    with pytest.raises(UserError, match=r"Unbuildable cannot be built: \w+: no weights \(.*test_run.py, line"):
        list(outcomes(f"{__name__}:Unbuildable", sequences))


class Painter(Recorder):
    """Draws on its frames, and changes every array that it gets."""

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        super().initialize(frame.copy(), box_xywh.copy())
        frame[:] = 0
        box_xywh[:] = 0

    def track(self, frame: np.ndarray) -> Track:
        track = super().track(frame.copy())
        cv2.rectangle(frame, (0, 0), (60, 40), (255, 0, 0), -1)
        torch.from_numpy(frame).zero_()
        return track

    def set_box(self, box_xywh: np.ndarray) -> None:
        super().set_box(box_xywh.copy())
        box_xywh[:] = 0


class Looking(Downward):
    """A refiner that keeps what it sees."""

    def initialize(self, frame: np.ndarray, _box_xywh: np.ndarray) -> None:
        Recorder.calls.append(("seen", frame.copy()))

    def refine(self, frame: np.ndarray, box_xywh: np.ndarray, mask: bool = False) -> Refinement:
        Recorder.calls.append(("seen", frame.copy()))
        return super().refine(frame, box_xywh, mask)


def test_a_tracker_cannot_spoil_the_frames_of_the_refiner(
    sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(sequence, ckpt="a")
    monkeypatch.setattr(run_stage, "load_refiner", lambda *_: Looking())
    truth = sequence.truth.boxes_xywh.copy()
    np.testing.assert_array_equal(run(sequence, f"{__name__}:Painter", ckpt="a"), expected)
    assert len(calls("seen")) == NUM_FRAMES
    for seen, path in zip(calls("seen"), sequence.frame_paths or (), strict=True):
        np.testing.assert_array_equal(seen, read_image(path))
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, truth)


def test_frames_are_not_copied_for_the_trackers_of_this_package(
    sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nano", "mil", "dimp", "oracle", "oracle:mil", "oracle:dimp"):
        assert not find_tracker(name).may_change_frames
    assert find_tracker(TRACKER).may_change_frames
    seen: list[np.ndarray] = []

    def read_only(path: Path) -> np.ndarray:
        frame = read_image(path)
        frame.setflags(write=False)
        return frame

    class Keeping(Downward):
        def refine(self, frame: np.ndarray, box_xywh: np.ndarray, mask: bool = False) -> Refinement:
            seen.append(frame)
            return super().refine(frame, box_xywh, mask)

    monkeypatch.setattr(run_stage, "load_refiner", lambda *_: Keeping())
    monkeypatch.setattr(decoding, "read_image", read_only)
    run(sequence, "oracle", ckpt="a")
    assert len(seen) == NUM_FRAMES - 1
    assert not any(frame.flags.writeable for frame in seen)  # a copy would be writable


@pytest.mark.parametrize(
    ("failure", "key"), [("not_finite", "not_finite"), ("outside", "outside"), (None, "not_found")], ids=str
)
def test_frames_are_counted(
    sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch, failure: Any, key: str
) -> None:
    class Failing(Downward):
        def refine(self, frame: np.ndarray, box_xywh: np.ndarray, mask: bool = False) -> Refinement:
            refinement = super().refine(frame, box_xywh, mask)
            return replace(refinement, failure=None if refinement.refined else failure)

    monkeypatch.setattr(run_stage, "load_refiner", lambda *_: Failing())
    monkeypatch.setattr(Downward, "limit", 13)
    monkeypatch.setattr(Recorder, "answers", {1: [np.nan, 0, 5, 5], 2: [5, 5, 0, 9]})
    assert result(sequence, ckpt="a").counts == {"frames": 5, "invalid_box": 2, "refined": 1, key: 2}
    assert result(sequence).counts == {"frames": 5, "invalid_box": 2}


def test_frames_left_out_by_the_settings_are_counted(
    sequence: EvaluationSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "lost", (2,))
    monkeypatch.setattr(Recorder, "scores", (0.9, 0.9, 0.1, 0.1, 0.9))
    counts = result(sequence, ckpt="a", when_lost="keep", min_score=0.5).counts
    assert counts == {"frames": 5, "refined": 2, "lost": 1, "low_score": 2}


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_go_on_after_a_broken_sequence(sequences: list[EvaluationSequence], tmp_path: Path) -> None:
    first, second, third = sequences
    broken = with_a_broken_frame(first, tmp_path)
    done = {outcome.name: outcome.result for outcome in outcomes("mil", [broken, second, third], num_processes=2)}
    assert "00000004" in str(done[first.name])
    for name in (second.name, third.name):
        found = done[name]
        assert isinstance(found, SequenceResult)
        assert found.boxes_xywh.shape == (NUM_FRAMES, 4)


@pytest.mark.slow
@pytest.mark.ddp
def test_an_error_in_the_settings_comes_back_from_other_processes(sequence: EvaluationSequence) -> None:
    with pytest.raises(UserError, match="--tracker nonesuch is not a known tracker"):
        list(outcomes("nonesuch", [sequence], num_processes=2))
