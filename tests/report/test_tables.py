"""The table of scores."""

import pytest

from alpharefine.evaluation.score import SequenceScore
from alpharefine.report.tables import format_table

BASE, REFINED = SequenceScore(51.4338, 50.5433, 57.6806), SequenceScore(55.0, 49.994, 100.0)


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        pytest.param({}, [], id="no run"),
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
def test_rows_of_the_table(runs: dict[str, SequenceScore], rows: list[str]) -> None:
    lines = format_table(runs).split("\n")
    assert [" ".join(line.split()) for line in lines] == ["AUC P@20 P_norm@0.2", *rows]
    assert len({len(line) for line in lines}) == 1
