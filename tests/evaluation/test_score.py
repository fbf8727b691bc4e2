import json

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.evaluation.score import (
    ATTRIBUTES,
    AnnotationFolder,
    GroundTruth,
    RunScore,
    SequenceScore,
    attribute_scores,
    read_results,
    score_run,
)
from alpharefine.metrics import PROTOCOLS, SuccessAUC

NAMES = ("cat-1", "dog-20", "kite-3")


def boxes_of(name, n=30):
    rng = np.random.default_rng(len(name))
    return np.concatenate([rng.integers(1, 90, (n, 2)), rng.integers(5, 40, (n, 2))], axis=1).astype(float)


def write_rows(path, rows, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(f"{value:g}" for value in row) + "\n" for row in rows))


@pytest.fixture
def toolkit(tmp_path):
    """The official toolkit's folder with three sequences; the last frame of each is absent."""
    annos = tmp_path / "toolkit" / "annos"
    for name in NAMES:
        boxes = boxes_of(name)
        write_rows(annos / f"{name}.txt", boxes)
        write_rows(annos / "absent" / f"{name}.txt", [[0]] * (len(boxes) - 1) + [[1]])
        write_rows(annos / "att" / f"{name}.txt", [[1, *[0] * 12, int(name == "cat-1")]])
    return annos.parent


def ground_truths(toolkit):
    annotations = AnnotationFolder(toolkit)
    return [annotations.load(name) for name in NAMES]


# ---- files ---------------------------------------------------------------------------------------------------------


# ---- annotations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [".", "annos"])
def test_annotation_folder_or_its_parent(toolkit, below):
    annotations = AnnotationFolder(toolkit / below)
    truth = annotations.load("dog-20")
    assert truth.name == "dog-20"
    np.testing.assert_array_equal(truth.boxes_xywh, boxes_of("dog-20"))
    assert truth.absent.tolist() == [False] * 29 + [True]


def test_relative_annotation_folder(toolkit, monkeypatch):
    monkeypatch.chdir(toolkit / "annos")
    assert AnnotationFolder(".").load("kite-3").name == "kite-3"


def test_attributes(toolkit):
    annotations = AnnotationFolder(toolkit)
    assert annotations.attributes("cat-1") == ("IV", "ARC")
    assert annotations.attributes("kite-3") == ("IV",)


def test_wrong_number_of_attributes(toolkit):
    (toolkit / "annos" / "att" / "cat-1.txt").write_text("0,1,0")
    with pytest.raises(UserError, match=r"cat-1\.txt must hold 14 flags, got 3"):
        AnnotationFolder(toolkit).attributes("cat-1")


def test_no_annotation_folder(tmp_path):
    with pytest.raises(UserError, match="is not a folder of LaSOT annotations"):
        AnnotationFolder(tmp_path)


def test_listed_sequence_without_annotation(toolkit):
    with pytest.raises(UserError, match=r"Sequence tree-1 has no annotation .*tree-1\.txt"):
        AnnotationFolder(toolkit).load("tree-1")


def test_boxes_and_flags_that_differ_in_number(toolkit):
    (toolkit / "annos" / "absent" / "cat-1.txt").write_text("0,1")
    with pytest.raises(UserError, match=r"cat-1\.txt has 30 boxes and .*cat-1\.txt has 2 flags"):
        AnnotationFolder(toolkit).load("cat-1")


# ---- scores --------------------------------------------------------------------------------------------------------


def test_scores_by_hand():
    box, shifted, missed = (11.0, 21.0, 10.0, 10.0), (16.0, 21.0, 10.0, 10.0), (300.0, 300.0, 10.0, 10.0)
    truths = [GroundTruth(name, np.array([box, box]), np.zeros(2, dtype=bool)) for name in ("a", "b")]
    run = score_run({"a": np.array([box, shifted]), "b": np.array([box, missed])}, truths)
    # The shifted box overlaps by 1/3: greater than 7 of the 21 thresholds; its centre is off by 5 px, half a side.
    assert run.sequences["a"] == SequenceScore(pytest.approx(100 * (20 + 7) / 42), 100.0, 50.0)
    assert run.sequences["b"] == SequenceScore(pytest.approx(100 * 20 / 42), 50.0, 50.0)
    assert (run.precision_20, run.norm_precision_20) == (75.0, 50.0)
    assert run.success_auc == pytest.approx(100 * 47 / 84)


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_folder_and_mapping_give_the_same(toolkit, tmp_path, separator, protocol):
    results = {name: boxes_of(name) + np.array([2.0, 1.0, 0.0, 3.0]) for name in NAMES}
    for name, boxes in results.items():
        write_rows(tmp_path / "results" / f"{name}.txt", boxes, separator)
    truths = ground_truths(toolkit)
    of_mapping = score_run({**results, "unasked": boxes_of("unasked")}, truths, protocol)
    assert score_run(tmp_path / "results", truths, protocol) == of_mapping
    assert score_run(str(tmp_path / "results"), iter(truths), protocol) == of_mapping
    assert list(of_mapping.sequences) == list(NAMES)


def test_totals_are_those_of_the_metric(toolkit):
    truths = ground_truths(toolkit)
    results = {name: boxes_of(name) + 3.0 for name in NAMES}
    metric = SuccessAUC()
    for truth in truths:
        metric.update(results[truth.name], truth.boxes_xywh, truth.absent)
    run = score_run(results, truths)
    assert run.success_auc == 100 * metric.compute().item()
    assert run.success_auc == pytest.approx(np.mean([score.success_auc for score in run.sequences.values()]))


def test_to_dict_is_plain(toolkit):
    run = score_run({name: boxes_of(name) for name in NAMES}, ground_truths(toolkit))
    plain = json.loads(json.dumps(run.to_dict()))
    assert set(plain) == {"success_auc", "precision_20", "norm_precision_20", "sequences"}
    assert plain["sequences"]["cat-1"] == {
        "success_auc": pytest.approx(100 * 20 / 21 * 29 / 30),
        "precision_20": pytest.approx(100 * 29 / 30),
        "norm_precision_20": pytest.approx(100 * 29 / 30),
    }


def test_missing_results_in_a_folder(toolkit, tmp_path):
    write_rows(tmp_path / "results" / "cat-1.txt", boxes_of("cat-1"))
    with pytest.raises(UserError, match=r"sequence dog-20 in the folder .*results, and 1 more"):
        score_run(tmp_path / "results", ground_truths(toolkit))


def test_missing_result_in_a_mapping(toolkit):
    with pytest.raises(UserError, match="no result for the sequence kite-3 in the results;"):
        score_run({name: boxes_of(name) for name in NAMES[:2]}, ground_truths(toolkit))


def test_read_results_reads_what_is_asked(toolkit):
    assert list(read_results(toolkit / "annos", ["kite-3"])) == ["kite-3"]


def test_short_result_names_the_sequence(toolkit):
    results = {name: boxes_of(name) for name in NAMES} | {"dog-20": boxes_of("dog-20")[:7]}
    with pytest.raises(UserError, match="Sequence dog-20: The result has 7 boxes and the ground truth has 30"):
        score_run(results, ground_truths(toolkit))


def test_no_sequence_and_a_sequence_twice(toolkit):
    with pytest.raises(UserError, match="at least one sequence"):
        score_run({}, [])
    truths = ground_truths(toolkit)
    with pytest.raises(UserError, match="got cat-1 more than once"):
        score_run({name: boxes_of(name) for name in NAMES}, [*truths, truths[0]])


def test_attribute_scores():
    sequences = {"a": SequenceScore(10.0, 20.0, 30.0), "b": SequenceScore(20.0, 40.0, 50.0)}
    run = RunScore(15.0, 30.0, 40.0, sequences)
    scores = attribute_scores(run, {"a": ("IV", "OV"), "b": ("IV",), "unscored": ("LR",)})
    assert scores == {"IV": SequenceScore(15.0, 30.0, 40.0), "OV": SequenceScore(10.0, 20.0, 30.0)}
    assert len(ATTRIBUTES) == 14
