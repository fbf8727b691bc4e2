"""Published scores, for comparison with measured ones."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from alpharefine.data.lasot import official_testing_set
from alpharefine.options import Protocol


@dataclass(frozen=True)
class PublishedScore:
    """Row of a published table.

    Attributes:
        tracker: Name of the tracker in its source.
        success_auc: Success AUC in percent.
        speed: Published speed of the tracker, or of the refiner alone; ``-`` if none was found.
        hardware: Hardware of the speed; ``-`` if none is named.
        source: Source of score and speed.
    """

    tracker: str
    success_auc: float
    speed: str
    hardware: str
    source: str


@dataclass(frozen=True)
class PublishedScores:
    """Published scores on one data set.

    Attributes:
        rows: Scores of trackers.
        official_names: Function that returns the names of the sequences of the published scores.
        num_frames: Number of frames of these sequences.
        protocol: Scoring conventions of the published scores.
    """

    rows: tuple[PublishedScore, ...]
    official_names: Callable[[], list[str]]
    num_frames: int
    protocol: Protocol

    def why_incomparable(self, names: Collection[str], num_frames: int, protocol: str | None) -> str | None:
        """Return the reason why measured scores are not comparable with the published ones; None if they are.

        Args:
            names: Names of the scored sequences.
            num_frames: Number of their frames.
            protocol: Scoring conventions of the measured scores.
        """
        official = set(self.official_names())
        num_official = len(official & set(names))
        reasons = []
        if num_official != len(official) or len(names) != len(official):
            reasons.append(f"{num_official} of the {len(official)} official test sequences are scored")
            if len(names) > num_official:
                reasons.append(f"{len(names) - num_official} others are scored too")
        elif num_frames != self.num_frames:
            reasons.append(f"the sequences have {num_frames} frames, expected {self.num_frames}")
        if protocol != self.protocol:
            reasons.append(f"the protocol is {protocol}, not {self.protocol}")
        return "; ".join(reasons) or None


_ALPHA_REFINE = "Alpha-Refine, arXiv 2012.06815, comparison on LaSOT"
_ALPHA_REFINE_CODE = "Alpha-Refine's repository, table of models"
_SURVEY = "bluoluo/online-visual-tracking-sota (scores and speeds of the papers)"

_ROWS = (
    PublishedScore("ARDiMP", 65.4, "-", "-", _ALPHA_REFINE),
    PublishedScore("Siam R-CNN", 64.8, "5 fps", "Tesla V100", _SURVEY),
    PublishedScore("DiMPsuper", 63.1, "-", "-", "pytracking's model zoo (SuperDiMP)"),
    PublishedScore("ARDiMP50", 60.2, "-", "-", _ALPHA_REFINE),
    PublishedScore("PrDiMP50", 59.8, "30 fps", "-", f"pytracking's model zoo; speed: {_SURVEY}"),
    PublishedScore("LTMU", 57.2, "13 fps", "RTX 2080 Ti", _SURVEY),
    PublishedScore("SiamRPN++ + AR34", 55.9, "refiner 5.1 ms", "RTX 2080 Ti", _ALPHA_REFINE_CODE),
    PublishedScore("SiamRPN++ + AR18", 55.0, "refiner 4.2 ms", "RTX 2080 Ti", _ALPHA_REFINE_CODE),
)

LASOT = PublishedScores(_ROWS, official_testing_set, 685_360, "lasot")
"""Scores on the 280 sequences of LaSOT's test set."""
