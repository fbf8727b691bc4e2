"""Published scores on LaSOT's test set, to stand beside those that are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alpharefine.data.lasot import official_testing_set
from alpharefine.evaluation.score import GroundTruth
from alpharefine.metrics import Protocol

NUM_FRAMES = 685_360
"""Of the official test set, in 280 sequences."""


@dataclass(frozen=True)
class PublishedScore:
    """A row of somebody's table.

    Attributes:
        tracker: as it is called there.
        success_auc: on LaSOT's 280 test sequences, in percent.
        speed: as published, of the tracker in frames a second, or of the refiner alone; ``-`` where none was found.
        hardware: that the speed is of; ``-`` where none is named.
        source: where score and speed are from.
    """

    tracker: str
    success_auc: float
    speed: str
    hardware: str
    source: str


_ALPHA_REFINE = "Alpha-Refine, arXiv 2012.06815, comparison on LaSOT"
_ALPHA_REFINE_CODE = "Alpha-Refine's repository, table of models"
_SURVEY = "bluoluo/online-visual-tracking-sota (scores and speeds of the papers)"

PUBLISHED = (
    PublishedScore("ARDiMP", 65.4, "-", "-", _ALPHA_REFINE),
    PublishedScore("Siam R-CNN", 64.8, "5 fps", "Tesla V100", _SURVEY),
    PublishedScore("DiMPsuper", 63.1, "-", "-", "pytracking's model zoo (SuperDiMP)"),
    PublishedScore("ARDiMP50", 60.2, "-", "-", _ALPHA_REFINE),
    PublishedScore("PrDiMP50", 59.8, "30 fps", "-", f"pytracking's model zoo; speed: {_SURVEY}"),
    PublishedScore("LTMU", 57.2, "13 fps", "RTX 2080 Ti", _SURVEY),
    PublishedScore("SiamRPN++ + AR34", 55.9, "refiner 5.1 ms", "RTX 2080 Ti", _ALPHA_REFINE_CODE),
    PublishedScore("SiamRPN++ + AR18", 55.0, "refiner 4.2 ms", "RTX 2080 Ti", _ALPHA_REFINE_CODE),
)


def why_incomparable(truths: Sequence[GroundTruth], protocol: Protocol) -> str | None:
    """What keeps measured scores from standing beside the published ones; None if nothing does.

    Args:
        truths: the sequences that were scored.
        protocol: whose conventions they were scored by.
    """
    official = set(official_testing_set())
    reasons = []
    num_official = sum(truth.name in official for truth in truths)
    num_frames = sum(len(truth.boxes_xywh) for truth in truths)
    if num_official != len(official) or len(truths) != len(official):
        reasons.append(f"{num_official} of the {len(official)} official test sequences are scored")
        if len(truths) > num_official:
            reasons.append(f"{len(truths) - num_official} others are scored too")
    elif num_frames != NUM_FRAMES:
        reasons.append(f"the sequences have {num_frames} frames in place of {NUM_FRAMES}")
    if protocol != "lasot":
        reasons.append(f"the protocol is {protocol}, not lasot")
    return "; ".join(reasons) or None


def format_published(why_not: str | None) -> str:
    """A table of `PUBLISHED`.

    Args:
        why_not: see `why_incomparable`.

    Returns:
        Lines of text, the last without a line break.
    """
    rows = [
        ("published, not measured here", "AUC", "speed", "on"),
        *((row.tracker, f"{row.success_auc:.1f}", row.speed, row.hardware) for row in PUBLISHED),
    ]
    name, auc, speed, _ = (max(len(row[column]) for row in rows) for column in range(4))
    lines = [f"{row[0]:{name}}  {row[1]:>{auc}}  {row[2]:>{speed}}  {row[3]}" for row in rows]
    if why_not is None:
        return "\n".join([*lines, "AUC in percent on the same 280 sequences of LaSOT, protocol lasot."])
    return "\n".join([*lines, f"Not comparable with what was measured: {why_not}."])
