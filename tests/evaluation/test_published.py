from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from alpharefine.data.lasot import official_testing_set
from alpharefine.evaluation.metrics_file import PublishedComparison
from alpharefine.evaluation.published import LASOT
from alpharefine.options import Protocol
from alpharefine.report.summary import format_published


def test_the_whole_test_set_under_its_own_protocol_is_comparable() -> None:
    assert LASOT.why_incomparable(official_testing_set(), 685_360, "lasot") is None
    assert "Not comparable" not in format_published(PublishedComparison(LASOT.rows, None))


@pytest.mark.parametrize(
    ("change", "protocol", "reason"),
    [
        (lambda names: names[:279], "lasot", "279 of the 280 official test sequences are scored"),
        (lambda _: ["couple-1"], "lasot", "0 of the 280 .*; 1 others are scored too"),
        (lambda names: [*names, "couple-1"], "lasot", "280 of the 280 .*; 1 others are scored too"),
        (lambda names: names, "got10k", "the protocol is got10k, not lasot"),
        (lambda names: names[1:], "pysot", "279 of the 280 .* scored; the protocol is pysot, not lasot"),
    ],
)
def test_anything_else_is_not(change: Callable[[list[str]], list[str]], protocol: Protocol, reason: str) -> None:
    why_not = LASOT.why_incomparable(change(official_testing_set()), 685_360, protocol)
    assert why_not is not None
    assert re.fullmatch(reason, why_not)
    assert format_published(PublishedComparison(LASOT.rows, why_not)).endswith(f"Not comparable: {why_not}.")


def test_truncated_sequences_are_not_comparable() -> None:
    reason = LASOT.why_incomparable(official_testing_set(), 685_359, "lasot")
    assert reason == "the sequences have 685359 frames, expected 685360"


def test_the_rows() -> None:
    scores = {row.tracker: row.success_auc for row in LASOT.rows}
    assert list(scores.values()) == [65.4, 64.8, 63.1, 60.2, 59.8, 57.2, 55.9, 55.0]
    header, *rows, _ = format_published(PublishedComparison(LASOT.rows, None)).splitlines()
    assert header.startswith("published, not measured here")
    for row, published in zip(rows, LASOT.rows, strict=True):
        assert row.startswith(published.tracker)
        assert {f"{published.success_auc:.1f}", *published.speed.split(), *published.hardware.split()} <= set(
            row.split()
        )
    assert all(row.source for row in LASOT.rows)
