"""Curves against values worked out by hand and against a slow reference, written from the protocols' description."""

import math

import numpy as np
import pytest
import torch

from alpharefine.errors import UserError
from alpharefine.metrics.functional import (
    NORM_PRECISION_THRESHOLDS,
    PRECISION_THRESHOLDS,
    PROTOCOLS,
    SUCCESS_THRESHOLDS,
    count_greater,
    got10k_overlaps,
    one_pass_curves,
    score_frames,
)

NAN = float("nan")
INF = float("inf")
BOX = (11.0, 21.0, 10.0, 10.0)  # x, y, w, h
MISSED = (300.0, 300.0, 10.0, 10.0)
ZERO_BOX = (0.0, 0.0, 0.0, 0.0)


def overlaps(protocol, pred, target, absent=None):
    return score_frames([BOX, pred], [BOX, target], [False, bool(absent)], protocol).overlaps.tolist()


# ---- values by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_perfect_result_without_absent_frames(protocol):
    boxes = [BOX, (12.0, 20.0, 30.0, 7.0)]
    curves = one_pass_curves(boxes, boxes, None, protocol)
    assert curves.success.tolist() == [1.0] * 20 + [0.0]  # 1 is not greater than 1
    assert curves.precision.tolist() == [1.0] * 51
    assert curves.norm_precision.tolist() == [1.0] * 51


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_huge_box_is_a_miss_without_a_warning(protocol):
    assert overlaps(protocol, (1e300,) * 4, BOX) == [1.0, 0.0]
    assert got10k_overlaps([BOX, (1e300,) * 4], [BOX] * 2, image_size=(100, 100)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("protocol", "share"),
    [("lasot", 0.75), ("pysot", 0.75), ("pytracking", 0.75), ("pytracking_valid", 1.0), ("got10k", 1.0)],
)
def test_absent_frames_stay_in_the_denominator_save_in_valid_only(protocol, share):
    boxes = [BOX] * 4
    curve = one_pass_curves(boxes, boxes, [False, True, False, False], protocol).success
    assert curve.tolist() == [share] * 20 + [0.0]


@pytest.mark.parametrize(
    ("pred", "inclusive", "continuous"),
    [
        pytest.param((16.0, 21.0, 10.0, 10.0), 1 / 3, 1 / 3, id="half shifted"),
        pytest.param((11.0, 21.0, 10.0, 5.0), 0.5, 0.5, id="half as high"),
        pytest.param((20.0, 30.0, 10.0, 10.0), 1 / 199, 1 / 199, id="one common pixel"),
        pytest.param((21.0, 21.0, 10.0, 10.0), 0.0, 0.0, id="touching"),
        pytest.param(MISSED, 0.0, 0.0, id="apart"),
        pytest.param((13.0, 23.0, 2.0, 3.0), 0.06, 0.06, id="inside"),
    ],
)
def test_overlap_by_hand(pred, inclusive, continuous):
    for protocol in ("lasot", "pytracking"):
        assert overlaps(protocol, pred, BOX) == [1.0, pytest.approx(inclusive, abs=1e-15)]
    for protocol in ("pysot", "got10k"):
        assert overlaps(protocol, pred, BOX) == pytest.approx([1.0, continuous], abs=1e-15)


@pytest.mark.parametrize(
    ("protocol", "pixel", "eps"), [("lasot", 1, 0), ("pytracking", 1, 0), ("pysot", 0, 0), ("got10k", 0, 2.0**-52)]
)
def test_overlaps_are_rounded_as_in_the_toolkits(protocol, pixel, eps):
    """One bit decides at a threshold. Toolkits with an inclusive last pixel subtract 1 and add it again."""
    rng = np.random.default_rng(4)
    target = rng.uniform(0.1, 2, (300, 4))
    pred = np.concatenate([target[:1], target[1:] * rng.uniform(0.9, 1.1, (299, 4))])
    for (ax, ay, aw, ah), (bx, by, bw, bh), overlap in zip(
        pred.tolist(), target.tolist(), score_frames(pred, target, None, protocol).overlaps, strict=True
    ):
        width = min(ax + aw - pixel, bx + bw - pixel) - max(ax, bx) + pixel
        height = min(ay + ah - pixel, by + bh - pixel) - max(ay, by) + pixel
        common = max(width, 0.0) * max(height, 0.0)
        iou = common / (aw * ah + bw * bh - common + eps)
        assert overlap == (iou if pixel else min(iou, 1.0))


def test_center_errors_by_hand():
    frames = score_frames([BOX, (14.0, 25.0, 10.0, 10.0)], [BOX, BOX])
    assert frames.errors.tolist() == [0.0, 5.0]  # 3 to the right, 4 down
    assert frames.norm_errors.tolist() == pytest.approx([0.0, 0.5])


def test_normalized_error_divides_each_axis_by_its_own_side():
    target = (11.0, 21.0, 30.0, 5.0)
    frames = score_frames([target, (20.0, 23.0, 30.0, 5.0)], [target, target])
    assert frames.norm_errors[1] == pytest.approx(0.5)  # 9 / 30 = 0.3 and 2 / 5 = 0.4


def test_got10k_divides_by_no_side_below_one_pixel():
    target = (11.0, 21.0, 0.5, 4.0)
    frames = score_frames([target, (11.3, 21.0, 0.5, 4.0)], [target, target], protocol="got10k")
    assert frames.norm_errors[1] == pytest.approx(0.3)


def test_thresholds_are_met_by_equal_errors_but_not_by_equal_overlaps():
    pred = [BOX, (11.0, 41.0, 10.0, 10.0)]  # 20 px down
    assert one_pass_curves(pred, [BOX, BOX]).precision[[19, 20]].tolist() == [0.5, 1.0]
    half = [BOX, (11.0, 21.0, 10.0, 5.0)]  # overlap 0.5
    assert one_pass_curves(half, [BOX, BOX]).success[[9, 10]].tolist() == [1.0, 0.5]


# ---- repair of result rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param((NAN, 21.0, 10.0, 10.0), id="NaN"),
        pytest.param((11.0, 21.0, 0.0, 10.0), id="zero width"),
        pytest.param((11.0, 21.0, 10.0, -1.0), id="negative height"),
        pytest.param((NAN, NAN, NAN, NAN), id="all NaN"),
    ],
)
def test_lasot_repeats_the_repaired_row_before_a_bad_one(bad):
    near = (12.0, 21.0, 10.0, 10.0)
    frames = score_frames([BOX, near, bad, bad, BOX], [BOX] * 5)
    assert frames.errors.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_lasot_repairs_before_it_sets_the_first_row():
    frames = score_frames([MISSED, ZERO_BOX], [BOX, BOX])
    assert frames.overlaps.tolist() == [1.0, 0.0]  # the second row became the first one as it stood in the file


def test_lasot_repeats_the_first_row_if_all_before_are_bad():
    first, second = (14.0, 25.0, 0.0, 10.0), (99.0, 99.0, 0.0, 10.0)
    assert score_frames([first, second], [BOX, BOX]).errors[1] == math.hypot(3 - 5, 4)  # centers at 13.5 and 15.5


def test_pytracking_repairs_zero_sizes():
    near = (12.0, 21.0, 10.0, 10.0)
    frames = score_frames([BOX, near, (50.0, 50.0, 0.0, 5.0)], [BOX] * 3, protocol="pytracking")
    assert frames.errors.tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("protocol", ["pytracking", "pytracking_valid"])
@pytest.mark.parametrize("bad", [(NAN, 1.0, 5.0, 5.0), (1.0, 1.0, -5.0, 5.0)], ids=["NaN", "negative"])
def test_pytracking_refuses_broken_rows(protocol, bad):
    with pytest.raises(UserError, match=r"row 3; use the protocol `lasot`"):
        score_frames([BOX, BOX, bad], [BOX] * 3, protocol=protocol)


@pytest.mark.parametrize("protocol", ["pysot", "got10k"])
def test_nan_row_is_a_miss_where_nothing_is_repaired(protocol):
    pred, target = [BOX, (NAN, NAN, NAN, NAN)], [BOX, BOX]
    assert one_pass_curves(pred, target, None, protocol).success[0] == 0.5
    assert one_pass_curves(pred, target, None, protocol).precision[-1] == 0.5
    assert one_pass_curves(pred, target, None, protocol).norm_precision[-1] == 0.5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_first_row_is_the_ground_truth_save_in_pysot(protocol):
    expected = 0.5 if protocol == "pysot" else 1.0
    assert one_pass_curves([MISSED, BOX], [BOX, BOX], None, protocol).success[0] == expected


# ---- frames without a valid ground truth ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [ZERO_BOX, (11.0, 21.0, 0.0, 5.0), (0.0, 21.0, 5.0, 5.0)], ids=["zeros", "w = 0", "x = 0"]
)
def test_lasot_invalid_ground_truth_misses_the_overlap_and_hits_the_center(target):
    frames = score_frames([BOX, MISSED], [BOX, target])
    assert (frames.overlaps[1], frames.errors[1], frames.norm_errors[1]) == (-1.0, -1.0, -1.0)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(ZERO_BOX, (-1.0, -1.0, -1.0), id="center at -0.5"),
        pytest.param((0.0, 21.0, 1.0, 5.0), (-1.0, -1.0, -1.0), id="center at 0"),
        pytest.param((0.0, 21.0, 2.0, 5.0), (-1.0, 0.0, 0.0), id="center at 0.5"),
        pytest.param((0.0, 21.0, 5.0, 5.0), (-1.0, 0.0, 0.0), id="x = 0 with its center inside"),
    ],
)
def test_pysot_judges_errors_by_the_center(target, expected):
    frames = score_frames([BOX, target], [BOX, target], protocol="pysot")
    assert (frames.overlaps[1], frames.errors[1], frames.norm_errors[1]) == expected


@pytest.mark.parametrize(
    ("target", "absent", "norm_error"),
    [
        pytest.param((0.0, 21.0, 5.0, 5.0), False, -1.0, id="invalid"),
        pytest.param(BOX, True, INF, id="not visible"),
        pytest.param(ZERO_BOX, True, INF, id="invalid and not visible"),
    ],
)
def test_pytracking_ruled_out_frames(target, absent, norm_error):
    frames = score_frames([BOX, BOX], [BOX, target], [False, absent], "pytracking")
    assert (frames.overlaps[1], frames.errors[1], frames.norm_errors[1]) == (-1.0, INF, norm_error)


def test_pytracking_valid_divides_by_visible_frames_with_a_valid_box():
    target = [BOX, BOX, ZERO_BOX, BOX, BOX]
    absent = [False, True, False, False, False]
    assert score_frames([BOX] * 5, target, absent, "pytracking_valid").num_frames == 3
    assert score_frames([BOX] * 5, target, absent, "pytracking").num_frames == 5


def test_got10k_scores_absent_frames_and_drops_nan_ground_truth():
    target = [BOX, (NAN, NAN, NAN, NAN), BOX]
    frames = score_frames([BOX, BOX, MISSED], target, [False, False, True], "got10k")
    assert frames.overlaps.tolist() == pytest.approx([1.0, 0.0])
    assert frames.num_frames == 2


@pytest.mark.parametrize("protocol", ["pysot", "got10k"])
def test_equal_boxes_overlap_by_no_more_than_one(protocol):
    """Rounding makes the ratio of the areas greater than 1 for many of them, which would be a success at 1."""
    boxes = np.random.default_rng(0).uniform(1, 9, (300, 4)) / 10
    assert one_pass_curves(boxes, boxes, None, protocol).success[-1] == 0
    assert got10k_overlaps(boxes, boxes).max() <= 1
    assert got10k_overlaps(boxes, boxes).min() > 1 - 1e-12


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_integers_and_half_floats_are_scored_in_float64(protocol):
    boxes = np.array([[11, 21, 10, 9], [100, 200, 250, 200], [300, 5, 160, 180]])
    expected = one_pass_curves(boxes + 3.0, boxes.astype(float), None, protocol)
    for dtype in (np.int16, np.float16):
        curves = one_pass_curves((boxes + 3).astype(dtype), boxes.astype(dtype), None, protocol)
        assert curves.success.tolist() == expected.success.tolist()
        assert curves.norm_precision.tolist() == expected.norm_precision.tolist()


def test_got10k_two_empty_boxes_overlap_by_zero():
    assert overlaps("got10k", (5.0, 5.0, 0.0, 0.0), (5.0, 5.0, 0.0, 0.0)) == pytest.approx([1.0, 0.0])


NAN_BOX = (NAN, NAN, NAN, NAN)


@pytest.mark.parametrize("target", [NAN_BOX, (NAN, 0.0, 10.0, 10.0), (11.0, 21.0, 0.0, NAN)])
@pytest.mark.parametrize(
    ("protocol", "share"),
    [("lasot", 2 / 3), ("pysot", 2 / 3), ("pytracking", 2 / 3), ("pytracking_valid", 1.0), ("got10k", 1.0)],
)
def test_nan_ground_truth_is_never_a_hit(protocol, share, target):
    curves = one_pass_curves([BOX, BOX, BOX], [BOX, target, BOX], None, protocol)
    assert (curves.success[0], curves.precision[-1], curves.norm_precision[-1]) == (share, share, share)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nan_ground_truth_in_the_first_row(protocol):
    curves = one_pass_curves([BOX, BOX], [NAN_BOX, BOX], None, protocol)
    share = 1.0 if protocol in ("pytracking_valid", "got10k") else 0.5
    assert (curves.success[0], curves.precision[-1], curves.norm_precision[-1]) == (share, share, share)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nan_ground_truth_alone(protocol):
    if protocol in ("pytracking_valid", "got10k"):
        with pytest.raises(UserError, match="None of the 2 frames counts"):
            one_pass_curves([BOX, BOX], [NAN_BOX, NAN_BOX], None, protocol)
    else:
        assert one_pass_curves([BOX, BOX], [NAN_BOX, NAN_BOX], None, protocol).precision.tolist() == [0.0] * 51


def test_counts_are_those_of_comparisons():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.integers(-1, 60, 200) / 50, [NAN, INF, -INF, -1.0, NAN, 0.05 * 3, 1.0, 0.0]])
    for thresholds in (SUCCESS_THRESHOLDS, NORM_PRECISION_THRESHOLDS):
        assert count_greater(values, thresholds).tolist() == (values[:, None] > thresholds).sum(0).tolist()
    assert count_greater(np.array([]), SUCCESS_THRESHOLDS).tolist() == [0] * 21
    assert count_greater(np.array([NAN, NAN]), SUCCESS_THRESHOLDS).tolist() == [0] * 21


# ---- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_longer_result_is_cut(protocol):
    cut, exact = (one_pass_curves(pred, [BOX, BOX], None, protocol) for pred in ([BOX, BOX, MISSED], [BOX, BOX]))
    assert cut.success.tolist() == exact.success.tolist()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shorter_result_is_an_error_with_both_counts(protocol):
    with pytest.raises(UserError, match="result has 2 boxes and the ground truth has 3"):
        one_pass_curves([BOX] * 2, [BOX] * 3, None, protocol)


@pytest.mark.parametrize(
    ("pred", "target", "absent", "message"),
    [
        ([(1.0, 2.0, 3.0)], [BOX], None, r"`pred_xywh` must hold x, y, w, h rows .* got \(1, 3\)"),
        ([BOX], [[BOX]], None, r"`target_xywh` must hold .* got \(1, 1, 4\)"),
        ([BOX], [BOX], [False, False], r"`absent` needs one flag for each of the 1 .* got shape \(2,\)"),
        (np.zeros((0, 4)), np.zeros((0, 4)), None, "None of the 0 frames counts under the protocol `lasot`"),
    ],
    ids=["three columns", "a batch", "too many flags", "no frame"],
)
def test_wrong_shapes(pred, target, absent, message):
    with pytest.raises(UserError, match=message):
        score_frames(pred, target, absent)


def test_no_valid_frame():
    with pytest.raises(UserError, match="None of the 2 frames counts under the protocol `pytracking_valid`"):
        score_frames([BOX, BOX], [BOX, BOX], [True, True], "pytracking_valid")


def test_unknown_protocol():
    with pytest.raises(UserError, match=r"`protocol` must be one of lasot, pysot, .*; got 'vot'"):
        score_frames([BOX], [BOX], None, "vot")


def test_inputs_are_left_alone_and_tensors_are_taken():
    pred = torch.tensor([MISSED, ZERO_BOX, BOX], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([BOX, BOX, BOX])
    absent = torch.tensor([False, False, True])
    before = pred.detach().clone()
    curve = one_pass_curves(pred, target, absent).success
    assert curve.tolist() == one_pass_curves(before.numpy(), target.numpy(), absent.numpy()).success.tolist()
    assert torch.equal(pred, before)


# ---- a slow reference ----------------------------------------------------------------------------------------------


def slow_overlap(p, g, pixel, eps=0.0):
    width = max(min(p[0] + p[2] - pixel, g[0] + g[2] - pixel) - max(p[0], g[0]) + pixel, 0.0)
    height = max(min(p[1] + p[3] - pixel, g[1] + g[3] - pixel) - max(p[1], g[1]) + pixel, 0.0)
    return width * height / (p[2] * p[3] + g[2] * g[3] - width * height + eps)


def slow_center(box):
    return box[0] + (box[2] - 1) / 2, box[1] + (box[3] - 1) / 2


def slow_repair(pred, target, protocol):
    rows = [tuple(row) for row in pred[: len(target)]]
    for i in range(1, len(rows)):
        sides = rows[i][2:]
        lasot_bad = any(math.isnan(v) for v in rows[i]) or min(sides) <= 0
        if (protocol == "lasot" and lasot_bad) or (protocol.startswith("pytracking") and 0 in sides):
            rows[i] = rows[i - 1]
    if protocol != "pysot":
        rows[0] = tuple(target[0])
    return rows


def slow_frame(p, g, absent, protocol):
    """Overlap, error and normalized error of a frame; None if the protocol drops it."""
    if protocol == "got10k" and any(math.isnan(v) for v in g):
        return None
    absent = absent or any(math.isnan(v) for v in g)
    if protocol in ("lasot", "pysot") and absent:
        return None
    invalid = any(v <= 0 for v in g)
    (px, py), (gx, gy) = slow_center(p), slow_center(g)
    if protocol == "lasot" and invalid:
        return -1.0, -1.0, -1.0
    if protocol.startswith("pytracking") and (absent or invalid):
        return -1.0, INF, INF if absent else -1.0
    missed = any(math.isnan(v) for v in p)
    overlap, error, norm_error = -1.0, INF, INF
    if protocol == "pysot":
        sides = g[2] + 1e-16, g[3] + 1e-16
        if not missed and not invalid:
            overlap = min(max(slow_overlap(p, g, 0.0), 0.0), 1.0)
        if min(gx, gy) <= 0:
            error = norm_error = -1.0
        elif not missed:
            error = math.sqrt((px - gx) ** 2 + (py - gy) ** 2)
            norm_error = math.sqrt((px / sides[0] - gx / sides[0]) ** 2 + (py / sides[1] - gy / sides[1]) ** 2)
    elif not missed and protocol == "got10k":
        sides = max(1.0, g[2]), max(1.0, g[3])
        overlap = min(max(slow_overlap(p, g, 0.0, 2.0**-52), 0.0), 1.0)
        error = math.sqrt((px - gx) ** 2 + (py - gy) ** 2)
        norm_error = math.sqrt(((px - gx) / sides[0]) ** 2 + ((py - gy) / sides[1]) ** 2)
    elif not missed:
        overlap = slow_overlap(p, g, 1.0)
        error = math.sqrt((px - gx) ** 2 + (py - gy) ** 2)
        norm_error = math.sqrt((px / g[2] - gx / g[2]) ** 2 + (py / g[3] - gy / g[3]) ** 2)
    return overlap, error, norm_error


def slow_curves(pred, target, absent, protocol):
    pred, target, absent = pred.tolist(), target.tolist(), absent.tolist()
    rows = slow_repair(pred, target, protocol)
    frames = [slow_frame(p, g, a, protocol) for p, g, a in zip(rows, target, absent, strict=True)]
    scored = [frame for frame in frames if frame is not None]
    total = len(target)
    if protocol == "got10k":
        total = len(scored)
    if protocol == "pytracking_valid":
        total = sum(1 for g, a in zip(target, absent, strict=True) if not a and all(v > 0 for v in g))
    success = [sum(o > t for o, _, _ in scored) / total for t in SUCCESS_THRESHOLDS]
    precision = [sum(e <= t for _, e, _ in scored) / total for t in PRECISION_THRESHOLDS]
    norm_precision = [sum(n <= t for _, _, n in scored) / total for t in NORM_PRECISION_THRESHOLDS]
    return success, precision, norm_precision


def random_sequence(seed, protocol, whole):
    rng = np.random.default_rng(seed)
    n = 120
    target = np.concatenate([rng.uniform(1, 200, (n, 2)), rng.uniform(4, 80, (n, 2))], axis=1)
    pred = target + rng.normal(0, 8, (n, 4)) * rng.integers(0, 2, (n, 1))
    pred[:, 2:] = pred[:, 2:].clip(min=0.5)
    if whole:
        target, pred = target.round(), pred.round().clip(min=[-9, -9, 1, 1])
    absent = rng.random(n) < 0.15
    target[1:][rng.random(n - 1) < 0.1] = 0.0
    target[1:, :2][rng.random((n - 1, 2)) < 0.03] = 0.0
    pred[rng.random(n) < 0.1, 2] = 0.0
    if not protocol.startswith("pytracking"):
        pred[rng.random((n, 4)) < 0.03] = np.nan
        pred[1:, 3][rng.random(n - 1) < 0.03] *= -1.5
    target[1:][rng.random(n - 1) < 0.1] = np.nan
    target[1:][rng.random((n - 1, 4)) < 0.02] = np.nan
    return np.concatenate([pred, pred[:3]]), target, absent


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("whole", [False, True], ids=["fractions", "integers"])
@pytest.mark.parametrize("seed", range(5))
def test_random_sequences_against_the_slow_reference(protocol, whole, seed):
    pred, target, absent = random_sequence(seed, protocol, whole)
    success, precision, norm_precision = slow_curves(pred, target, absent, protocol)
    curves = one_pass_curves(pred, target, absent, protocol)
    np.testing.assert_allclose(curves.success, success, atol=1e-12)
    np.testing.assert_allclose(curves.precision, precision, atol=1e-12)
    np.testing.assert_allclose(curves.norm_precision, norm_precision, atol=1e-12)
