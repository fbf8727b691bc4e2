"""AO and SR against a slow reference written from the toolkit's definition, and against the toolkit where installed."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from alpharefine.errors import UserError
from alpharefine.metrics import AverageOverlap, SuccessRate, got10k_overlaps
from alpharefine.metrics.functional import GOT10K_THRESHOLDS

BOX = (10.0, 20.0, 10.0, 10.0)
NAN = float("nan")


def sequences(count=5):
    """Results, ground truths, absence flags and image sizes; many boxes reach over the border of their image."""
    rng = np.random.default_rng(11)
    made = []
    for index in range(count):
        n, (height, width) = 8 + 23 * index, (60 + 10 * index, 90)
        target = np.concatenate([rng.uniform(-20, [width, height], (n, 2)), rng.uniform(2, 60, (n, 2))], axis=1)
        pred = target + rng.normal(0, 1 + 2 * index, (n, 4))
        pred[rng.random(n) < 0.1, 2:] *= -1
        made.append((pred, target, rng.random(n) < 0.2, (height, width)))
    return made


def slow_iou(pred, target, image_size):
    corners = []
    for x, y, w, h in (pred, target):
        left, top = min(max(x, 0.0), image_size[1]), min(max(y, 0.0), image_size[0])
        w, h = min(max(w, 0.0), image_size[1] - left), min(max(h, 0.0), image_size[0] - top)
        corners.append((left, top, left + w, top + h))
    (al, at, ar, ab), (bl, bt, br, bb) = corners
    common = max(min(ar, br) - max(al, bl), 0.0) * max(min(ab, bb) - max(at, bt), 0.0)
    return common / ((ar - al) * (ab - at) + (br - bl) * (bb - bt) - common + 2.0**-52)


def slow_scores(cases):
    """AO, SR 0.5, SR 0.75 and the success curve over the frames of all sequences, in plain Python."""
    ious = []
    for pred, target, absent, image_size in cases:
        frames = list(zip(pred.tolist(), target.tolist(), absent.tolist(), strict=True))[1:]
        ious += [slow_iou(p, t, image_size) for p, t, is_absent in frames if not is_absent]
    rates = [sum(iou > threshold for iou in ious) / len(ious) for threshold in (0.5, 0.75)]
    curve = [sum(iou > threshold for iou in ious) / len(ious) for threshold in GOT10K_THRESHOLDS]
    return [math.fsum(ious) / len(ious), *rates], curve


def metrics():
    return [AverageOverlap(), SuccessRate(0.5), SuccessRate(0.75)]


def test_scores_equal_the_slow_reference():
    measured = metrics()
    for case in sequences():
        for metric in measured:
            metric.update(*case)
    expected, curve = slow_scores(sequences())
    assert [metric.compute().item() for metric in measured] == pytest.approx(expected, abs=1e-12)
    assert measured[0].curve().tolist() == pytest.approx(curve, abs=1e-12)
    assert measured[0].curve().shape == (101,)


def test_scores_equal_the_toolkit():
    toolkit = pytest.importorskip("got10k.utils.metrics", exc_type=ImportError)
    ious = [
        toolkit.rect_iou(pred[1:].copy(), target[1:].copy(), bound=image_size[::-1])[~absent[1:]]
        for pred, target, absent, image_size in sequences()
    ]
    for case, expected in zip(sequences(), ious, strict=True):
        np.testing.assert_allclose(got10k_overlaps(*case), expected, rtol=0, atol=1e-12)
    frames = np.concatenate(ious)
    expected = [frames.mean(), (frames > 0.5).mean(), (frames > 0.75).mean()]
    assert slow_scores(sequences())[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("pred", "expected"),
    [
        pytest.param(BOX, 1.0, id="equal"),
        pytest.param((15.0, 20.0, 10.0, 10.0), 1 / 3, id="half shifted"),
        pytest.param((20.0, 20.0, 10.0, 10.0), 0.0, id="touching"),
        pytest.param((10.0, 20.0, 10.0, 5.0), 0.5, id="half as high"),
        pytest.param((10.0, 20.0, -10.0, 10.0), 0.0, id="negative width"),
        pytest.param((NAN, 20.0, 10.0, 10.0), 0.0, id="NaN"),
        pytest.param((-5.0, -5.0, 60.0, 60.0), 0.04, id="cut to the image, with its sides kept until they reach out"),
    ],
)
def test_overlaps_by_hand(pred, expected):
    assert got10k_overlaps([BOX, pred], [BOX, BOX], None, (50, 50)) == pytest.approx([expected], abs=1e-12)


def test_frames_that_do_not_count():
    target = [BOX, BOX, (NAN,) * 4, BOX]
    assert got10k_overlaps([BOX] * 5, target, [False, True, False, False]).tolist() == pytest.approx([1.0])
    with pytest.raises(UserError, match="None of the 2 frames counts: the target must be visible after the first"):
        got10k_overlaps([BOX] * 2, [BOX] * 2, [False, True])
    with pytest.raises(UserError, match="result has 1 boxes and the ground truth has 2"):
        got10k_overlaps([BOX], [BOX] * 2)


def test_without_an_image_size_boxes_are_not_clipped():
    target = [BOX, (-5.0, 0.0, 10.0, 10.0)]
    assert got10k_overlaps([BOX, (0.0, 0.0, 10.0, 10.0)], target).tolist() == pytest.approx([1 / 3])
    assert got10k_overlaps([BOX, (0.0, 0.0, 10.0, 10.0)], target, None, (50, 50)).tolist() == pytest.approx([1.0])


def test_every_frame_weighs_the_same_and_inputs_are_left_alone():
    metric = SuccessRate(0.5)
    pred, target = np.array([BOX] * 4), np.array([BOX] * 4) - 100.0
    before = target.copy()
    metric.update(pred, pred, None, (50, 50))
    metric.update(torch.from_numpy(pred[:2]), torch.from_numpy(target[:2]), None, (50, 50))
    assert metric.compute().item() == 0.75
    np.testing.assert_array_equal(target, before)


def test_shared_overlaps_count_as_updates():
    updated, shared = metrics(), metrics()
    for case in sequences():
        overlaps = got10k_overlaps(*case)
        for one, other in zip(updated, shared, strict=True):
            one.update(*case)
            other.add_overlaps(overlaps)
            assert one.compute() == other.compute()
            assert one.update_count == other.update_count


def test_threshold_out_of_range():
    for threshold in (50, 1.01, -0.01):
        with pytest.raises(UserError, match=rf"`threshold` must be an overlap in 0\.\.1, got {threshold}"):
            SuccessRate(threshold)


def test_an_overlap_at_the_threshold_is_no_success():
    overlaps = np.array([0.0, 0.5, 1.0])
    for threshold, expected in ((0, 2 / 3), (0.5, 1 / 3), (1, 0.0)):
        metric = SuccessRate(threshold)
        metric.add_overlaps(overlaps)
        assert metric.compute().item() == expected


def test_no_frame_gives_nan_with_a_warning():
    for metric in metrics():
        with pytest.warns(UserWarning, match="before the ``update`` method"):
            assert math.isnan(metric.compute().item())


def test_state_survives_module_casts():
    assert torch.nn.ModuleList([AverageOverlap()]).half()[0].overlap_sum.dtype == torch.float64


def test_frames_are_counted_in_integers():
    assert AverageOverlap().num_greater.dtype == torch.int64  # a float32 stops counting at 16.8 million


def score_a_shard(rank: int, rendezvous: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    measured = metrics()
    for case in sequences()[:4] if rank == 0 else sequences()[4:]:
        for metric in measured:
            metric.update(*case)
    torch.save([[metric.compute().item() for metric in measured], measured[0].curve()], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.exhaustive  # the other metrics are gathered in the same way in every run
@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_with_uneven_shards(tmp_path):
    torch.multiprocessing.spawn(score_a_shard, (str(tmp_path / "rendezvous"), str(tmp_path)), nprocs=2)
    expected, expected_curve = slow_scores(sequences())
    for rank in range(2):
        scores, curve = torch.load(tmp_path / f"{rank}.pt")
        assert scores == pytest.approx(expected, abs=1e-12)
        assert curve.tolist() == pytest.approx(expected_curve, abs=1e-12)
