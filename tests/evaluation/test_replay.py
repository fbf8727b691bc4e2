"""Published boxes refined in batches: the boxes of one-by-one refinement, frames read once, faults told in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from alpharefine import Refinement
from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.evaluation import replay
from alpharefine.evaluation.replay import Replay, ReplayJob, replay_sequences
from alpharefine.evaluation.run import Pipeline, RunSettings, SequenceResult
from alpharefine.evaluation.sequences import EvaluationSequence, SequenceSet


@pytest.fixture(scope="module")
def sequences(lasot_root: Path) -> list[EvaluationSequence]:
    loaded = SequenceSet(lasot_root, None)
    return [loaded.load(name) for name in loaded.names]


@pytest.fixture(scope="module")
def jobs(sequences: list[EvaluationSequence]) -> list[ReplayJob]:
    """Two trackers near the target, of which one has no box in two frames and lacks the last sequence."""
    rng = np.random.default_rng(0)
    made = []
    for sequence in sequences:
        truth = sequence.truth.boxes_xywh
        near, far = (truth + rng.normal(0, scale, truth.shape) * [1, 1, 0, 0] for scale in (1, 4))
        far[2], far[4] = np.nan, [3, 3, 0, 5]
        made.append(ReplayJob(sequence, {"near": near, "far": far}))
    del made[-1].boxes_xywh["far"]
    return made


def one_by_one(settings: RunSettings, jobs: list[ReplayJob], tracker: str, folder: Path) -> dict[str, SequenceResult]:
    for sequence, boxes_xywh in (job for job in jobs if tracker in job.boxes_xywh):
        rows = "".join(",".join(map(repr, row)) + "\n" for row in boxes_xywh[tracker].tolist())
        (folder / f"{sequence.name}.txt").write_text(rows)
    pipeline = Pipeline(replace(settings, results_dir=str(folder)), device="cpu")
    return {job.sequence.name: pipeline(job.sequence) for job in jobs if tracker in job.boxes_xywh}


def decoded(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize(
    "settings",
    [
        RunSettings("replay"),
        RunSettings("replay", flip_test=True),
        RunSettings("replay", mask_threshold=0.4, save_masks=True),
        RunSettings("replay", box_from="mask", mask_threshold=0.4, save_masks=True),
    ],
    ids=["corner", "flip", "corner and mask", "mask"],
)
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batches_give_the_boxes_of_one_by_one(
    jobs: list[ReplayJob], checkpoint: Path, tmp_path: Path, settings: RunSettings, batch_size: int
) -> None:
    settings = replace(settings, ckpt=str(checkpoint))
    done = list(Replay(settings, "cpu", batch_size).run_all(jobs))
    assert [result.sequence_name for result in done] == [job.sequence.name for job in jobs]
    assert [list(result.results) for result in done] == [list(job.boxes_xywh) for job in jobs]
    for tracker in ("near", "far"):
        alone = one_by_one(settings, jobs, tracker, tmp_path)
        for name, results in done:
            if tracker in results:
                np.testing.assert_allclose(results[tracker].boxes_xywh, alone[name].boxes_xywh, rtol=0, atol=2e-3)
                assert results[tracker].times_ms.shape == alone[name].times_ms.shape
                assert (results[tracker].times_ms[:, 0] > 0).all()
                if settings.save_masks:
                    assert len(results[tracker].masks or ()) == 5
                    for png, other in zip(results[tracker].masks or (), alone[name].masks or (), strict=True):
                        assert (decoded(png) != decoded(other)).mean() < 1e-3
                else:
                    assert results[tracker].masks is None
    far = done[0].results["far"].boxes_xywh
    assert np.isnan(far[2]).all()
    assert far[4].tolist() == [3, 3, 0, 5]


def test_published_boxes_are_left_as_they_were(jobs: list[ReplayJob], checkpoint: Path) -> None:
    before = [{name: rows.copy() for name, rows in job.boxes_xywh.items()} for job in jobs]
    list(replay_sequences(RunSettings("replay", ckpt=str(checkpoint)), jobs))
    for job, rows in zip(jobs, before, strict=True):
        np.testing.assert_equal(job.boxes_xywh, rows)


def test_a_frame_is_read_once_for_all_trackers(
    jobs: list[ReplayJob], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[Path] = Counter()

    def counted(path: Path) -> np.ndarray:
        reads[path] += 1
        return read_image(path)

    monkeypatch.setattr(replay, "read_image", counted)
    list(replay_sequences(RunSettings("replay", ckpt=str(checkpoint)), jobs))
    assert reads == Counter(path for job in jobs for path in job.sequence.frame_paths or ())


def test_the_network_sees_full_batches(
    jobs: list[ReplayJob], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Replay(RunSettings("replay", ckpt=str(checkpoint)), "cpu", batch_size=7)
    refine_many, sizes = runner.refiner.refine_many, []

    def counted(frames: list[np.ndarray], *others: Any, **options: Any) -> list[Refinement]:
        sizes.append(len(frames))
        return refine_many(frames, *others, **options)

    monkeypatch.setattr(runner.refiner, "refine_many", counted)
    list(runner.run_all(jobs))
    num_boxes = 3 * 5 + 2 * 3  # frames after the first: of one tracker all, of the other those with a box
    assert sizes == [7] * (num_boxes // 7) + [num_boxes % 7] * (num_boxes % 7 > 0)


def test_jobs_before_a_broken_one_are_yielded(jobs: list[ReplayJob], checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "00000004.jpg"
    broken.write_bytes(b"no picture")
    first, second, third = jobs
    assert second.sequence.frame_paths is not None
    paths = [*second.sequence.frame_paths[:3], broken, *second.sequence.frame_paths[4:]]
    second = second._replace(sequence=replace(second.sequence, frame_paths=paths))
    results = replay_sequences(RunSettings("replay", ckpt=str(checkpoint)), [first, second, third])
    assert next(results).sequence_name == first.sequence.name
    with pytest.raises(UserError, match="00000004"):
        next(results)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"feedback": True}, "`--feedback`: replay cannot"), ({"min_score": 0.5}, "`--min_score`: replay does not")],
)
def test_what_replayed_trackers_cannot_do(checkpoint: Path, settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Replay(RunSettings("replay", ckpt=str(checkpoint), **settings), "cpu")


def test_frames_that_are_not_at_hand(jobs: list[ReplayJob], checkpoint: Path) -> None:
    job = jobs[0]._replace(sequence=replace(jobs[0].sequence, frame_paths=None))
    with pytest.raises(UserError, match=r"looks at the frames .* give `--data_root`"):
        list(Replay(RunSettings("replay", ckpt=str(checkpoint)), "cpu").run_all([job]))


def test_a_first_box_outside_of_the_picture(jobs: list[ReplayJob], checkpoint: Path) -> None:
    sequence = jobs[0].sequence
    outside = replace(sequence.truth, boxes_xywh=sequence.truth.boxes_xywh + np.array([1000, 0, 0, 0]))
    job = jobs[0]._replace(sequence=replace(sequence, truth=outside))
    with pytest.raises(UserError, match=r"its first box .* lies outside"):
        list(Replay(RunSettings("replay", ckpt=str(checkpoint)), "cpu").run_all([job]))
