"""Sentences about the sequences without a result."""

from __future__ import annotations

import pytest

from alpharefine.evaluation.failures import Failure, summarize

CHOSEN = ["a", "b"]
BOTH = [Failure(name, "Disk full.", "mil") for name in CHOSEN]


@pytest.mark.parametrize(
    ("failures", "chosen", "is_scored", "sentence"),
    [
        (BOTH[:1], CHOSEN, True, "1 of 2 sequences failed (a)."),
        (BOTH, CHOSEN, False, "All 2 sequences failed in the same way: Disk full."),
        ([BOTH[0], Failure("b", "other", "mil")], CHOSEN, False, "All 2 sequences failed (a, b)."),
        ([Failure("a", "no disk")], ["a"], False, "Sequence a failed: no disk."),
        (BOTH, CHOSEN, True, "Sequences without a result, of 2: mil 2."),  # another tracker has both
        ([*BOTH, Failure("a", "x", "vit")], CHOSEN, True, "Sequences without a result, of 2: mil 2, vit 1."),
    ],
)
def test_summary(failures: list[Failure], chosen: list[str], is_scored: bool, sentence: str) -> None:
    assert summarize(failures, chosen, is_scored) == sentence
