"""Detections of `supervision`: templates of tracks, what is refined, and what is left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import supervision as sv
import torch
from supervision.detection.compact_mask import CompactMask
from trackers import ByteTrackTracker

from alpharefine import Refiner
from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.inference.backend import CropPredictions
from alpharefine.integrations.supervision import DetectionsRefiner
from alpharefine.synthetic import generate_crowd

SIZE = (120, 160)


class MiddleBackend:
    """Backend that finds the target in the middle half of every crop, and notes what it is given."""

    geometry = "exact"
    device = "cpu"
    precision = "32"

    def __init__(self, heads: Sequence[str] = ("corner", "mask"), peak: float = 0.5) -> None:
        self.heads = tuple(heads)
        self.peak = peak
        self.colors: list[tuple[int, ...]] = []  # of the middle pixels of templates
        self.batches: list[list[int]] = []  # numbers of the templates of each batch

    def encode_templates(self, crops: Sequence[np.ndarray], targets_xyxy: np.ndarray) -> Sequence[Any]:
        assert len(crops) == len(targets_xyxy)
        numbers = []
        for crop in crops:
            numbers.append(len(self.colors))
            self.colors.append(tuple(crop[crop.shape[0] // 2, crop.shape[1] // 2].tolist()))
        return numbers

    def predict(self, crops: Sequence[np.ndarray], templates: Sequence[Any], heads: Sequence[str]) -> CropPredictions:
        self.batches.append(list(templates))
        side = crops[0].shape[0]
        crop_xyxy = np.tile(np.float32([0.3, 0.3, 0.7, 0.7]) * side, (len(crops), 1))
        masks = np.zeros((len(crops), side, side), np.float32)
        masks[:, side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = 0.9
        peaks = np.full(len(crops), self.peak, np.float32)
        return CropPredictions(crop_xyxy, peaks, masks if "mask" in heads else None)


@pytest.fixture
def backend() -> MiddleBackend:
    return MiddleBackend()


def picture() -> np.ndarray:
    """Frame whose left half is red and whose right half is blue, in BGR."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[:, :80, 2] = frame[:, 80:, 0] = 250
    return frame


LEFT, RIGHT = (20.0, 40, 60, 80), (100.0, 40, 140, 80)


def found(boxes: Sequence[tuple[float, ...]], ids: Sequence[int] | None, **others: Any) -> sv.Detections:
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return sv.Detections(xyxy, tracker_id=None if ids is None else np.array(ids, int), **others)


def test_all_objects_of_a_frame_in_one_batch_with_the_template_of_their_track(backend: MiddleBackend) -> None:
    refiner = DetectionsRefiner(Refiner(backend))
    first = refiner.update(picture(), found([LEFT, RIGHT], [7, 3]))
    refiner.update(picture(), found([RIGHT, LEFT], [3, 7]))
    assert backend.batches == [[0, 1], [1, 0]]
    # The middle 0.4 of a window of twice the box: 0.8 of the box, about its center.
    np.testing.assert_allclose(first.xyxy, [[24, 44, 56, 76], [104, 44, 136, 76]], atol=0.6)
    assert first.mask is not None
    assert first.mask.shape == (2, *SIZE)
    assert first.mask[0, 60, 40]
    assert first.mask[1, 60, 120]
    assert not (first.mask[0] & first.mask[1]).any()
    assert first.data["refined"].tolist() == [True, True]
    np.testing.assert_allclose(first.data["refinement_score"], 0.5)


@pytest.mark.parametrize(("channels", "color"), [("bgr", (250, 0, 0)), ("rgb", (0, 0, 250))])
def test_the_network_sees_rgb(backend: MiddleBackend, channels: Any, color: tuple[int, ...]) -> None:
    frame = picture()
    DetectionsRefiner(Refiner(backend), channels=channels).update(frame, found([LEFT], [0]))
    assert backend.colors == [color]
    assert (frame == picture()).all()


@pytest.mark.parametrize(("max_age", "num_absent", "num_templates"), [(0, 0, 1), (0, 1, 2), (2, 2, 1), (2, 3, 2)])
def test_the_template_of_an_absent_track(
    backend: MiddleBackend, max_age: int, num_absent: int, num_templates: int
) -> None:
    refiner = DetectionsRefiner(Refiner(backend), max_age=max_age)
    refiner.update(picture(), found([LEFT], [1]))
    for _ in range(num_absent):
        refiner.update(picture(), sv.Detections.empty())
    refiner.update(picture(), found([LEFT], [1]))
    assert len(backend.colors) == num_templates


def test_another_video_starts_without_templates(backend: MiddleBackend) -> None:
    refiner = DetectionsRefiner(Refiner(backend))
    for _ in range(2):
        refiner.update(picture(), found([LEFT], [1]))
        refiner.reset()
    assert len(backend.colors) == 2


@pytest.mark.parametrize(
    ("box", "tracker_id"),
    [
        pytest.param(LEFT, -1, id="no track"),
        pytest.param((-50, 10, -20, 40), 1, id="left of the frame"),
        pytest.param((160, 10, 190, 40), 1, id="touches the frame"),
        pytest.param((40, 40, 40, 80), 1, id="no width"),
        pytest.param((60, 80, 20, 40), 1, id="corners out of order"),
    ],
)
def test_what_is_not_refined_keeps_its_box(backend: MiddleBackend, box: tuple[float, ...], tracker_id: int) -> None:
    refiner = DetectionsRefiner(Refiner(backend))
    given = found([box, RIGHT], [tracker_id, 2])
    out = refiner.update(picture(), given)
    np.testing.assert_array_equal(out.xyxy[0], given.xyxy[0])
    assert out.data["refined"].tolist() == [False, True]
    assert out.data["refinement_score"][0] == 0
    assert out.mask is not None
    assert not out.mask[0].any()
    assert backend.batches == [[0]]
    if tracker_id >= 0:  # its template is taken when its box is in the frame
        refiner.update(picture(), found([LEFT], [tracker_id]))
        assert len(backend.colors) == 2


def test_a_track_that_leaves_the_frame_keeps_its_template(backend: MiddleBackend) -> None:
    refiner = DetectionsRefiner(Refiner(backend), max_age=0)
    for box in (LEFT, (-50.0, 10, -20, 40), LEFT):
        refiner.update(picture(), found([box], [1]))
    assert len(backend.colors) == 1


def test_a_box_that_the_frame_cuts_is_refined_inside(backend: MiddleBackend) -> None:
    out = DetectionsRefiner(Refiner(backend)).update(picture(), found([(-15, 100, 25, 140)], [1]))
    assert out.data["refined"].tolist() == [True]
    x1, y1, x2, y2 = out.xyxy[0]
    assert 0 <= x1 < x2 <= 160
    assert 0 <= y1 < y2 <= 120


def test_a_low_score_keeps_the_box() -> None:
    given = found([LEFT], [1])
    for min_score, refined in ((0.5, True), (0.51, False)):
        out = DetectionsRefiner(Refiner(MiddleBackend()), min_score=min_score).update(picture(), given)
        assert out.data["refined"].tolist() == [refined]
        assert (out.xyxy == given.xyxy).all() == (not refined)
        assert out.mask is not None
        assert out.mask.any() == refined
        assert out.data["refinement_score"].tolist() == [0.5]


def test_a_prediction_that_is_not_finite_keeps_the_box() -> None:
    given = found([LEFT], [1])
    out = DetectionsRefiner(Refiner(MiddleBackend(peak=float("nan")))).update(picture(), given)
    assert out.data["refined"].tolist() == [False]
    assert (out.xyxy == given.xyxy).all()
    assert out.mask is not None
    assert not out.mask.any()


def test_other_fields_are_kept_and_the_given_detections_do_not_change(backend: MiddleBackend) -> None:
    others = {
        "confidence": np.float32([0.9, 0.8]),
        "class_id": np.array([4, 2]),
        "data": {"class_name": np.array(["cat", "dog"])},
        "metadata": {"camera": "north"},
    }
    given, same = (found([LEFT, RIGHT], [1, 2], **others) for _ in range(2))
    out = DetectionsRefiner(Refiner(backend)).update(picture(), given)
    assert given == same
    for name in ("confidence", "class_id", "tracker_id"):
        np.testing.assert_array_equal(getattr(out, name), getattr(given, name))
    assert out.metadata == {"camera": "north"}
    assert out.data["class_name"].tolist() == ["cat", "dog"]
    assert out.xyxy.dtype == np.float32
    assert out[out.data["refined"]] == out  # the fields have one length


def test_whole_numbers_become_fractions(backend: MiddleBackend) -> None:
    given = sv.Detections(np.array([[20, 40, 61, 80]]), tracker_id=np.array([1]))
    out = DetectionsRefiner(Refiner(backend)).update(picture(), given)
    assert (out.xyxy % 1).any()


@pytest.mark.parametrize("compact", [False, True])
def test_masks_of_the_detector_remain_where_nothing_is_refined(backend: MiddleBackend, compact: bool) -> None:
    masks = np.zeros((2, *SIZE), bool)
    masks[:, 0, 0] = True
    given = found([LEFT, RIGHT], [-1, 1], mask=masks)
    given.mask = CompactMask.from_dense(masks, given.xyxy * 0 + [0, 0, 9, 9], SIZE) if compact else masks
    out = DetectionsRefiner(Refiner(backend)).update(picture(), given)
    assert np.asarray(out.mask)[:, 0, 0].tolist() == [True, False]
    assert masks[:, 0, 0].all()
    without = DetectionsRefiner(Refiner(backend), mask=False).update(picture(), given)
    assert without.mask is given.mask


def test_boxes_without_masks() -> None:
    backend = MiddleBackend(heads=["corner"])
    out = DetectionsRefiner(Refiner(backend), mask=False).update(picture(), found([LEFT], [1]))
    assert out.mask is None
    assert out.data["refined"].tolist() == [True]


@pytest.mark.parametrize("ids", [None, []])
def test_no_detections(backend: MiddleBackend, ids: list[int] | None) -> None:
    out = DetectionsRefiner(Refiner(backend)).update(picture(), found([], ids))
    assert len(out) == 0
    assert backend.batches == []
    assert len(out.data["refined"]) == 0
    merged = sv.Detections.merge([out, DetectionsRefiner(Refiner(backend)).update(picture(), found([LEFT], [1]))])
    assert len(merged) == 1


@pytest.mark.parametrize(
    ("detections", "frame", "message"),
    [
        (found([LEFT], None), picture(), "must have a `tracker_id`, got None; pass them through a tracker"),
        (found([LEFT, RIGHT], [5, 5]), picture(), "must differ within a frame, got 5 twice"),
        (found([LEFT], [1]), picture()[..., 0], r"`frame` must be an \(H, W, 3\) uint8 image, got uint8 \(120, 160\)"),
        (found([LEFT], [1]), picture() / 255, r"`frame` must be .*, got float64"),
        (
            found([LEFT], [1], mask=np.zeros((1, 9, 9), bool)),
            picture(),
            r"`detections.mask` must have the size of the frame, \(120, 160\), got \(9, 9\)",
        ),
    ],
)
def test_bad_input(backend: MiddleBackend, detections: sv.Detections, frame: np.ndarray, message: str) -> None:
    refiner = DetectionsRefiner(Refiner(backend))
    with pytest.raises(ValueError, match=message):
        refiner.update(frame, detections)
    assert backend.colors == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": "gray"}, "`channels` must be one of .*'bgr', 'rgb'.*, got 'gray'"),
        ({"max_age": -1}, "`max_age` must be at least 0, got -1"),
        ({"min_score": 1.0}, "`min_score` must be at least 0 and below 1, got 1.0"),
        ({"mask_threshold": float("nan")}, "`mask_threshold` must be"),
        ({}, r"`mask` requires a network with a mask head, got one with \['corner'\]; give `mask=False`"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectionsRefiner(Refiner(MiddleBackend(heads=["corner"])), **{"mask": bool(not arguments), **arguments})


@pytest.mark.slow
def test_rough_boxes_of_a_tracker_become_precise_and_get_masks() -> None:
    crowd, rng = generate_crowd(seed=1, num_objects=3, num_frames=8, frame_size=(240, 320)), np.random.default_rng(0)
    tracker, refiner = ByteTrackTracker(), DetectionsRefiner(Refiner.from_checkpoint("ar18_cm", "cpu"), channels="rgb")
    rough_ious, ious, mask_ious = [], [], []
    for index, frame in enumerate(crowd.frames):
        order = rng.permutation(3)
        true_xyxy = xywh_to_xyxy(crowd.boxes_xywh[index])[order]
        sides = crowd.boxes_xywh[index][order][:, [2, 3, 2, 3]]
        rough_xyxy = true_xyxy + rng.normal(0, 0.08, (3, 4)) * sides
        detections = sv.Detections(
            rough_xyxy.astype(np.float32), confidence=np.full(3, 0.9, np.float32), class_id=order
        )
        out = refiner.update(frame, tracker.update(detections))
        if index == 0:
            assert not out.data["refined"].any(), "ByteTrack gives no ids in the first frame"
            continue
        assert out.data["refined"].all()
        assert out.class_id is not None
        assert out.mask is not None
        for xyxy, mask, number in zip(out.xyxy, out.mask, out.class_id, strict=True):
            (row,) = np.flatnonzero(order == number)
            truth = torch.tensor(true_xyxy[row])
            rough_ious.append(paired_iou(torch.tensor(rough_xyxy[row]), truth).item())
            ious.append(paired_iou(torch.tensor(xyxy), truth).item())
            true_mask = crowd.labels[index] == number + 1
            mask_ious.append((mask & true_mask).sum() / (mask | true_mask).sum())
        drawn = sv.MaskAnnotator().annotate(sv.BoxAnnotator().annotate(frame.copy(), out), out)
        assert (drawn != frame).any()
    assert np.mean(rough_ious) < 0.85
    assert np.mean(ious) > 0.93
    assert np.mean(mask_ious) > 0.93
