"""Tables of scores."""

import pytest

from alpharefine.evaluation.score import GOT10K_KEYS, ONE_PASS_KEYS, RunScore
from alpharefine.report.tables import format_attributes, format_table, format_trackers, missing_sequences


def one_pass(*numbers: float, names: tuple[str, ...] = ("a-1",)) -> RunScore:
    scores = dict(zip(ONE_PASS_KEYS, numbers, strict=True))
    return RunScore(scores, {}, dict.fromkeys(names, scores), {}, {})


BASE, REFINED = one_pass(51.4338, 50.5433, 57.6806), one_pass(55.0, 49.994, 100.0)


def words(table: str) -> list[str]:
    return [" ".join(line.split()) for line in table.split("\n")]


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        pytest.param({"base": BASE}, ["base 51.43 50.54 57.68"], id="base alone"),
        pytest.param({"refined": REFINED}, ["refined 55.00 49.99 100.00"], id="refined alone"),
        pytest.param(
            {"base": BASE, "refined": REFINED},
            ["base 51.43 50.54 57.68", "refined 55.00 49.99 100.00", "gain +3.57 -0.55 +42.32"],
            id="both",
        ),
        pytest.param(
            {"base": BASE, "refined": BASE},
            ["base 51.43 50.54 57.68", "refined 51.43 50.54 57.68", "gain +0.00 +0.00 +0.00"],
            id="no gain",
        ),
        pytest.param({"a": BASE, "b": REFINED}, ["a 51.43 50.54 57.68", "b 55.00 49.99 100.00"], id="other runs"),
    ],
)
def test_rows_of_the_table(runs: dict[str, RunScore], rows: list[str]) -> None:
    table = format_table(runs)
    assert words(table) == ["AUC P@20 P_norm@0.2", *rows]
    assert len({len(line) for line in table.split("\n")}) == 1


def test_titles_follow_scoring_and_protocol() -> None:
    got10k = RunScore(dict(zip(GOT10K_KEYS, (55.0, 60.0, 40.0), strict=True)), {}, {}, {}, {})
    assert words(format_table({"base": got10k})) == ["AO SR0.5 SR0.75", "base 55.00 60.00 40.00"]
    assert words(format_table({"base": BASE}, "got10k"))[0] == "AUC P@20 P_norm_mean"


def test_one_row_a_tracker() -> None:
    trackers = {
        "ATOM": {"base": BASE, "refined": REFINED},
        "SiamRPN++": {"base": one_pass(1, 2, 3, names=("a-1", "b-2")), "refined": one_pass(2, 2, 2)},
    }
    table = format_trackers(trackers)
    assert table.split("\n")[0] == f"{'AUC':>50}{'P@20':>30}{'P_norm@0.2':>30}"
    assert table.split("\n")[1] == " " * 9 + "  sequences" + f"   {'base':>9}{'refined':>9}{'gain':>9}" * 3
    assert words(table)[2:] == [
        "ATOM 1 51.43 55.00 +3.57 50.54 49.99 -0.55 57.68 100.00 +42.32",
        "SiamRPN++ 2 1.00 2.00 +1.00 2.00 2.00 +0.00 3.00 2.00 -1.00",
    ]


def test_missing_sequences_are_named() -> None:
    trackers = {"A": {"base": one_pass(1, 2, 3, names=("a", "b"))}, "B": {"base": one_pass(1, 2, 3, names=("b",))}}
    assert missing_sequences(trackers, ["b"]) == []
    assert missing_sequences(trackers, ["a", "b"]) == [
        "B has no results of 1 of the 2 sequences: a",
        "Rows over different sequences are not comparable; `--sequences` selects some that all trackers have.",
    ]
    many = [str(number) for number in range(12)]
    assert (
        missing_sequences(trackers, many)[0]
        == f"A has no results of 12 of the 12 sequences: {', '.join(many[:10])}, ..."
    )


def test_attributes_in_the_order_asked_for() -> None:
    base = RunScore({"ao": 50.0}, {}, {}, {}, {"OV": {"ao": 40.0}, "MB": {"ao": 31.25}})
    table = format_attributes({"base": base}, ["MB", "IV", "OV"])
    assert words(table) == ["AO", "base", "MB 31.25", "OV 40.00"]
    assert len({len(line) for line in table.split("\n")}) == 1
    assert format_attributes({"base": base}, ["IV"]) == ""


def test_trackers_with_different_runs() -> None:
    score = RunScore({"ao": 50.0}, {}, {"a-1": {"ao": 50.0}}, {}, {})
    table = format_trackers({"A": {"base": score, "refined": score}, "B": {"refined": score}}).splitlines()
    assert table[1].split() == ["sequences", "base", "refined", "gain"]
    assert table[2].split() == ["A", "1", "50.00", "50.00", "+0.00"]
    assert table[3].split() == ["B", "1", "-", "50.00", "-"]
