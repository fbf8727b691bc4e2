import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationSequence, GroundTruth
from alpharefine.evaluation.score import GOT10K_KEYS, ONE_PASS_KEYS, read_results, score_run, score_sequence
from alpharefine.metrics import (
    PROTOCOLS,
    AverageOverlap,
    NormalizedPrecision,
    Precision,
    SuccessAUC,
    SuccessRate,
    one_pass_curves,
)

BOX, SHIFTED, MISSED = (11.0, 21.0, 10.0, 10.0), (16.0, 21.0, 10.0, 10.0), (300.0, 300.0, 10.0, 10.0)
NAMES = ("cat-1", "dog-20", "kite-3")


def boxes_of(name, n=30):
    rng = np.random.default_rng(len(name))
    return np.concatenate([rng.integers(1, 90, (n, 2)), rng.integers(5, 40, (n, 2))], axis=1).astype(float)


def sequences(image_size=None):
    """Three sequences; the last frame of each is absent."""
    absent = np.arange(30) == 29
    return [
        EvaluationSequence(name, GroundTruth(boxes_of(name), absent, image_size), attributes=attributes)
        for name, attributes in zip(NAMES, (("IV", "ARC"), ("IV",), ()), strict=True)
    ]


def results(offset=(2.0, 1.0, 0.0, 3.0)):
    return {name: boxes_of(name) + np.array(offset) for name in NAMES}


def test_one_pass_scores_by_hand():
    truth = GroundTruth(np.array([BOX, BOX]), np.zeros(2, dtype=bool))
    chosen = [EvaluationSequence("a", truth, attributes=("OV", "IV")), EvaluationSequence("b", truth, None, ("IV",))]
    run = score_run({"a": np.array([BOX, SHIFTED]), "b": np.array([BOX, MISSED])}, chosen)
    # The shifted box overlaps by 1/3: greater than 7 of the 21 thresholds; its center is off by 5 px, half a side.
    of_a = dict(zip(ONE_PASS_KEYS, (pytest.approx(100 * (20 + 7) / 42), 100.0, 50.0), strict=True))
    of_b = dict(zip(ONE_PASS_KEYS, (pytest.approx(100 * 20 / 42), 50.0, 50.0), strict=True))
    mean = dict(zip(ONE_PASS_KEYS, (pytest.approx(100 * 47 / 84), 75.0, 50.0), strict=True))
    assert run.sequences == {"a": of_a, "b": of_b}
    assert run.scores == mean
    assert run.attributes == {"OV": of_a, "IV": mean}


def test_got10k_scores_by_hand():
    short = GroundTruth(np.array([BOX] * 2), np.zeros(2, dtype=bool), (100, 100))
    long = GroundTruth(np.array([BOX] * 5), np.array([False] * 4 + [True]), (100, 100))
    chosen = [EvaluationSequence("a", short, attributes=("OV",)), EvaluationSequence("b", long)]
    run = score_run({"a": np.array([BOX, SHIFTED]), "b": np.array([MISSED, BOX, BOX, BOX, MISSED])}, chosen, "got10k")
    assert run.sequences["a"] == dict(zip(GOT10K_KEYS, (pytest.approx(100 / 3), 0.0, 0.0), strict=True))
    assert run.sequences["b"] == pytest.approx(dict.fromkeys(GOT10K_KEYS, 100.0))
    assert run.scores == dict(zip(GOT10K_KEYS, (pytest.approx(100 * 10 / 12), 75.0, 75.0), strict=True))  # 4 frames
    assert run.curves["success"][[0, 33, 34, 99]].tolist() == [1.0, 1.0, 0.75, 0.75]
    assert run.sequence_curves["success"].shape == (2, 101)
    assert run.sequence_curves["success"][:, [0, 33, 34, 99]].tolist() == [[1.0, 1.0, 0.0, 0.0], [1.0] * 4]
    assert run.attributes == {"OV": run.sequences["a"]}


def test_got10k_an_overlap_at_the_threshold_is_no_success():
    truth = GroundTruth(np.array([BOX] * 2), np.zeros(2, dtype=bool), (100, 100))
    run = score_run({"a": np.array([BOX, (11.0, 21.0, 10.0, 5.0)])}, [EvaluationSequence("a", truth)], "got10k")
    assert run.scores == run.sequences["a"] == {"ao": 50.0, "sr_50": 0.0, "sr_75": 0.0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_pass_totals_are_those_of_the_metrics(protocol):
    success, precision, norm_precision = SuccessAUC(protocol), Precision(protocol), NormalizedPrecision(protocol)
    for sequence in sequences():
        for metric in (success, precision, norm_precision):
            metric.update(results()[sequence.name], sequence.truth.boxes_xywh, sequence.truth.absent)
    run = score_run({**results(), "unasked": boxes_of("unasked")}, iter(sequences()), "one_pass", protocol)
    assert run.scores["success_auc"] == 100 * success.compute().item()
    assert run.scores["precision_20"] == 100 * precision.compute().item()
    assert run.scores["norm_precision_20"] == 100 * norm_precision.compute().item()
    assert run.curves["success"].tolist() == success.curve().tolist()
    assert run.curves["precision"].tolist() == precision.curve().tolist()
    assert list(run.sequences) == list(NAMES)
    for key in ONE_PASS_KEYS:
        assert run.scores[key] == pytest.approx(np.mean([score[key] for score in run.sequences.values()]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_curves_of_the_sequences(protocol):
    run = score_run(results(), sequences(), "one_pass", protocol)
    assert list(run.sequence_curves) == list(run.curves) == ["success", "precision", "norm_precision"]
    for row, sequence in enumerate(sequences()):
        expected = one_pass_curves(results()[sequence.name], boxes_of(sequence.name), sequence.truth.absent, protocol)
        for name, curves in run.sequence_curves.items():
            assert curves[row].tolist() == getattr(expected, name).tolist()
    for name, curve in run.curves.items():
        np.testing.assert_allclose(curve, run.sequence_curves[name].mean(0), atol=1e-15)


def test_got10k_totals_are_those_of_the_metrics():
    metrics = AverageOverlap(), SuccessRate(0.5), SuccessRate(0.75)
    for sequence in sequences((60, 80)):
        truth = sequence.truth
        for metric in metrics:
            metric.update(results()[sequence.name], truth.boxes_xywh, truth.absent, truth.image_size)
    run = score_run(results(), sequences((60, 80)), "got10k")
    assert list(run.scores.values()) == [100 * metric.compute().item() for metric in metrics]


@pytest.mark.parametrize("scoring", ["one_pass", "got10k"])
def test_a_process_scores_without_the_others(scoring, monkeypatch):
    def gather(*_):
        raise AssertionError("waits for other processes")

    expected = score_run(results(), sequences((60, 80)), scoring).scores
    monkeypatch.setattr("torchmetrics.metric.jit_distributed_available", lambda: True)
    monkeypatch.setattr("torchmetrics.metric.gather_all_tensors", gather)
    assert score_run(results(), sequences((60, 80)), scoring).scores == expected


@pytest.mark.parametrize("scoring", ["server", "none"])
def test_data_sets_without_public_truth(scoring):
    with pytest.raises(UserError, match=f"`scoring` must be `one_pass` or `got10k`, got `{scoring}`"):
        score_run(results(), sequences(), scoring)


def test_got10k_requires_the_size_of_the_images():
    with pytest.raises(UserError, match=r"Sequence cat-1: GOT-10k's scores require the size of its images"):
        score_run(results(), sequences(), "got10k")


def test_missing_result():
    with pytest.raises(UserError, match="no result for the sequence kite-3 in the results;"):
        score_run({name: boxes_of(name) for name in NAMES[:2]}, sequences())


def test_short_result_names_the_sequence():
    short = results() | {"dog-20": boxes_of("dog-20")[:7]}
    for scoring in ("one_pass", "got10k"):
        with pytest.raises(UserError, match="Sequence dog-20: The result has 7 boxes and the ground truth has 30"):
            score_run(short, sequences((60, 80)), scoring)


def test_no_sequence_and_a_sequence_twice():
    with pytest.raises(UserError, match="at least one sequence"):
        score_run({}, [])
    with pytest.raises(UserError, match="got cat-1 more than once"):
        score_run(results(), [*sequences(), sequences()[0]])


def test_result_files(tmp_path):
    for name, separator in (("cat-1", ","), ("kite-3", "\t")):
        np.savetxt(tmp_path / f"{name}.txt", boxes_of(name), fmt="%g", delimiter=separator)
    read = read_results(str(tmp_path), ["kite-3", "cat-1"])
    assert list(read) == ["kite-3", "cat-1"]
    np.testing.assert_array_equal(read["cat-1"], boxes_of("cat-1"))
    with pytest.raises(UserError, match=r"sequence dog-20 in the folder .*, and 1 more"):
        read_results(tmp_path, ["dog-20", "cat-1", "tree-1"])


@pytest.mark.parametrize("scoring", ["one_pass", "got10k"])
def test_corners_in_place_of_sizes_are_refused(scoring):
    chosen, boxes = sequences((100, 100)), results((0.0, 0.0, 0.0, 0.0))
    score_run(boxes, chosen, scoring)
    boxes["dog-20"][:, 2:] += boxes["dog-20"][:, :2]
    with pytest.raises(UserError, match=r"The result of dog-20 must hold x,y,width,height .* as x1,y1,x2,y2"):
        score_run(boxes, chosen, scoring)


# ---- one result ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["one_pass", "got10k"])
def test_a_result_that_is_too_short(scoring):
    (sequence, *_) = sequences((100, 100))
    with pytest.raises(UserError, match="28"):
        score_sequence(results()[sequence.name][:-2], sequence, scoring)


def test_a_box_that_only_one_protocol_allows():
    (sequence, *_) = sequences()
    boxes = results()[sequence.name]
    boxes[7, 2] = -1
    score_sequence(boxes, sequence, "one_pass")
    with pytest.raises(UserError, match="row 8"):
        score_sequence(boxes, sequence, "one_pass", "pytracking")


def test_a_sequence_whose_target_is_always_absent():
    truth = GroundTruth(np.array([BOX] * 3), np.ones(3, dtype=bool), (100, 100))
    with pytest.raises(UserError, match="None of the 3 frames counts"):
        score_sequence(np.array([BOX] * 3), EvaluationSequence("a", truth), "got10k")
