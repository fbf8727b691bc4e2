"""Published boxes refined in batches: equal to one-by-one refinement, frames decoded once, errors in order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from alpharefine import Refinement
from alpharefine.boxes import is_valid
from alpharefine.data.images import read_image
from alpharefine.evaluation import decoding, replay
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.refined_tracker import load_refiner, mask_region
from alpharefine.evaluation.replay import ReplayJob, ReplayRunner
from alpharefine.evaluation.settings import RefinementSettings
from alpharefine.inference.refiner import Template
from tests.evaluation.settings import run_settings


@pytest.fixture(scope="module")
def sequences(lasot_root: Path) -> list[EvaluationSequence]:
    dataset = open_dataset(DatasetConfig(root=lasot_root))
    return [dataset.load(name) for name in dataset.names]


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


def settings(checkpoint: Path, **values: Any) -> RefinementSettings:
    refinement = run_settings("replay", ckpt=str(checkpoint), **values).refinement
    assert refinement is not None
    return refinement


def one_by_one(
    settings: RefinementSettings, sequence: EvaluationSequence, boxes_xywh: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Refined boxes and binary masks by the plain interface of the refiner."""
    refiner = load_refiner(settings, "cpu")
    assert sequence.frame_paths is not None
    frames = [read_image(path) for path in sequence.frame_paths]
    refiner.initialize(frames[0], sequence.truth.boxes_xywh[0])
    refined_xywh, masks = boxes_xywh.copy(), []
    for t in range(1, len(frames)):
        mask = np.zeros(frames[t].shape[:2], bool)
        if is_valid(boxes_xywh[t]):
            refinement = refiner.refine(frames[t], boxes_xywh[t], mask=settings.saves_box_masks)
            if refinement.refined:
                refined_xywh[t] = refinement.box_xywh
                if settings.saves_box_masks:
                    assert refinement.mask is not None
                    mask = refinement.mask > settings.mask_threshold
                elif settings.save_masks:
                    mask = refiner.segment(frames[t], mask_region(refinement)) > settings.mask_threshold
        masks.append(mask)
    return refined_xywh, masks


@pytest.mark.parametrize(
    ("values", "batch_size"),
    [
        ({}, 4),
        ({}, 64),
        ({"flip_test": True}, 4),
        ({"mask_threshold": 0.4, "save_masks": True}, 4),
        ({"box_from": "mask", "mask_threshold": 0.4, "save_masks": True}, 64),
    ],
    ids=["corner, small batches", "corner, large batches", "flip", "corner and mask", "mask"],
)
def test_batches_give_the_boxes_of_one_by_one(
    jobs: list[ReplayJob], checkpoint: Path, values: dict[str, Any], batch_size: int, tmp_path: Path
) -> None:
    chosen = settings(checkpoint, **values)
    done = list(ReplayRunner(chosen, "cpu", batch_size=batch_size, mask_dir=tmp_path).run_all(jobs))
    assert [result.sequence_name for result in done] == [job.sequence.name for job in jobs]
    assert [list(result.results) for result in done] == [list(job.boxes_xywh) for job in jobs]
    for job, done_job in zip(jobs, done, strict=True):
        for tracker, result in done_job.results.items():
            boxes_xywh, masks = one_by_one(chosen, job.sequence, job.boxes_xywh[tracker])
            np.testing.assert_allclose(result.boxes_xywh, boxes_xywh, rtol=0, atol=2e-3)
            assert result.times_ms.shape == (len(boxes_xywh), 3)
            assert (result.times_ms[:, 0] > 0).all()
            if chosen.save_masks:
                assert result.mask_folder is not None
                files = sorted(result.mask_folder.iterdir())
                assert [path.name for path in files] == [f"{t:08d}.png" for t in range(2, len(boxes_xywh) + 1)]
                for path, mask in zip(files, masks, strict=True):
                    assert ((cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0) != mask).mean() < 1e-3
            else:
                assert result.mask_folder is None
    far = done[0].results["far"].boxes_xywh
    assert np.isnan(far[2]).all()
    assert far[4].tolist() == [3, 3, 0, 5]


def test_published_boxes_are_left_as_they_were(jobs: list[ReplayJob], checkpoint: Path) -> None:
    before = [{name: rows.copy() for name, rows in job.boxes_xywh.items()} for job in jobs]
    list(ReplayRunner(settings(checkpoint), "cpu").run_all(jobs))
    for job, rows in zip(jobs, before, strict=True):
        np.testing.assert_equal(job.boxes_xywh, rows)


def test_a_frame_is_read_once_for_all_trackers(
    jobs: list[ReplayJob], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[Path] = Counter()

    def counted(path: Path) -> np.ndarray:
        reads[path] += 1
        return read_image(path)

    monkeypatch.setattr(decoding, "read_image", counted)
    list(ReplayRunner(settings(checkpoint), "cpu").run_all(jobs))
    assert reads == Counter(path for job in jobs for path in job.sequence.frame_paths or ())


def test_the_network_sees_full_batches(
    jobs: list[ReplayJob], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = ReplayRunner(settings(checkpoint), "cpu", batch_size=7)
    refine_many, sizes = runner.refiner.refine_many, []

    def counted(frames: list[np.ndarray], *others: Any, **options: Any) -> list[Refinement]:
        sizes.append(len(frames))
        return refine_many(frames, *others, **options)

    monkeypatch.setattr(runner.refiner, "refine_many", counted)
    list(runner.run_all(jobs))
    num_boxes = 3 * 5 + 2 * 3  # frames after the first: of one tracker all, of the other those with a box
    assert sizes == [7] * (num_boxes // 7) + [num_boxes % 7] * (num_boxes % 7 > 0)


def with_frame(job: ReplayJob, index: int, path: Path) -> ReplayJob:
    assert job.sequence.frame_paths is not None
    paths = [*job.sequence.frame_paths[:index], path, *job.sequence.frame_paths[index + 1 :]]
    return job._replace(sequence=replace(job.sequence, frame_paths=paths))


class Downward:
    """A refiner that moves boxes down by two pixels, and fails in the batches of `failing`."""

    failing: ClassVar[Collection[int]] = ()

    def __init__(self) -> None:
        self.count = 0

    def encode_template(self, _frame: np.ndarray, _box_xywh: np.ndarray) -> Template:
        return Template(None)

    def refine_many(
        self, _frames: list[np.ndarray], boxes_xywh: list[np.ndarray], _templates: list[Template], mask: bool = False
    ) -> list[Refinement]:
        assert not mask
        self.count += 1
        if self.count in self.failing:
            raise RuntimeError("out of memory")
        moved = [box_xywh + np.array([0, 2.0, 0, 0]) for box_xywh in boxes_xywh]
        return [Refinement(box_xywh, box_xywh, None, 0.5, True) for box_xywh in moved]


@pytest.fixture
def downward(monkeypatch: pytest.MonkeyPatch) -> RefinementSettings:
    """Settings of runs with the quick refiner `Downward`."""
    monkeypatch.setattr(replay, "load_refiner", lambda *_: Downward())
    return settings(Path("absent"))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize(
    ("index", "content", "message"),
    [
        pytest.param(3, b"no picture", "00000004", id="no picture"),
        pytest.param(0, b"no picture", "00000001", id="first"),
        pytest.param(5, None, "00000006.png has 64x40 px, the first frame of its sequence has 64x48", id="size"),
    ],
)
def test_a_broken_frame_ends_its_sequence_alone(
    jobs: list[ReplayJob],
    downward: RefinementSettings,
    tmp_path: Path,
    batch_size: int,
    index: int,
    content: bytes | None,
    message: str,
) -> None:
    broken = tmp_path / f"{index + 1:08d}.png"
    broken.write_bytes(cv2.imencode(".png", np.zeros((40, 64, 3)))[1].tobytes() if content is None else content)
    runner = ReplayRunner(downward, "cpu", batch_size=batch_size)
    whole = {result.sequence_name: result.results for result in runner.run_all(jobs)}
    first, second, third = jobs
    one, two, three = runner.run_all([first, with_frame(second, index, broken), third])
    assert (two.sequence_name, two.results) == (second.sequence.name, {})
    assert message in str(two.error)
    for result in (one, three):
        assert result.error is None
        for tracker, found in result.results.items():
            np.testing.assert_array_equal(found.boxes_xywh, whole[result.sequence_name][tracker].boxes_xywh)


@pytest.mark.parametrize(
    ("failing", "failed"), [((1,), [True, False, False]), ((2,), [True, True, False]), ((3,), [False, True, True])]
)
def test_an_error_of_a_batch_ends_the_sequences_in_it(
    jobs: list[ReplayJob],
    downward: RefinementSettings,
    monkeypatch: pytest.MonkeyPatch,
    failing: Collection[int],
    failed: list[bool],
) -> None:
    monkeypatch.setattr(Downward, "failing", failing)
    results = list(ReplayRunner(downward, "cpu", batch_size=7).run_all(jobs))  # of 8, 8 and 5 boxes
    assert [result.sequence_name for result in results] == [job.sequence.name for job in jobs]
    assert [result.error is not None for result in results] == failed
    assert all("RuntimeError: out of memory" in str(result.error) for result in results if result.error is not None)


def test_frames_are_counted(jobs: list[ReplayJob], downward: RefinementSettings) -> None:
    done = next(ReplayRunner(downward, "cpu").run_all(jobs))
    assert done.results["near"].counts == {"frames": 5, "refined": 5, "invalid_box": 0}
    assert done.results["far"].counts == {"frames": 5, "refined": 3, "invalid_box": 2}


def test_a_first_box_outside_of_the_picture(jobs: list[ReplayJob], downward: RefinementSettings) -> None:
    sequence = jobs[0].sequence
    outside = replace(sequence.truth, boxes_xywh=sequence.truth.boxes_xywh + np.array([1000, 0, 0, 0]))
    job = jobs[0]._replace(sequence=replace(sequence, truth=outside))
    (result,) = ReplayRunner(downward, "cpu").run_all([job])
    assert re.search(r"the first box .* lies outside", str(result.error))
