from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from alpharefine.data.lasot import official_testing_set
from alpharefine.evaluation.published import NUM_FRAMES, PUBLISHED, format_published, why_incomparable
from alpharefine.evaluation.score import GroundTruth
from alpharefine.metrics import Protocol


def truths(names: list[str], num_frames: int = NUM_FRAMES) -> list[GroundTruth]:
    lengths = [num_frames // len(names)] * len(names)
    lengths[0] += num_frames - sum(lengths)
    return [GroundTruth(name, np.empty((n, 4)), np.empty(n, bool)) for name, n in zip(names, lengths, strict=True)]


def test_the_whole_test_set_under_its_own_protocol_compares() -> None:
    assert why_incomparable(truths(official_testing_set()), "lasot") is None
    table = format_published(None)
    assert "Not comparable" not in table
    assert "same 280 sequences" in table


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
def test_anything_else_does_not(change: Callable[[list[str]], list[str]], protocol: Protocol, reason: str) -> None:
    why_not = why_incomparable(truths(change(official_testing_set())), protocol)
    assert why_not is not None
    assert re.fullmatch(reason, why_not)
    assert format_published(why_not).endswith(f"Not comparable with what was measured: {why_not}.")


def test_sequences_cut_short_do_not_compare() -> None:
    reason = why_incomparable(truths(official_testing_set(), NUM_FRAMES - 1), "lasot")
    assert reason == "the sequences have 685359 frames in place of 685360"


def test_the_rows() -> None:
    scores = {row.tracker: row.success_auc for row in PUBLISHED}
    assert list(scores.values()) == [65.4, 64.8, 63.1, 60.2, 59.8, 57.2, 55.9, 55.0]
    header, *rows, _ = format_published(None).splitlines()
    assert header.startswith("published, not measured here")
    for row, published in zip(rows, PUBLISHED, strict=True):
        assert row.startswith(published.tracker)
        assert {f"{published.success_auc:.1f}", *published.speed.split(), *published.hardware.split()} <= set(
            row.split()
        )
    assert all(row.source for row in PUBLISHED)
