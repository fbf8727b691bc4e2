"""Published configurations of SiamRPN++ (`config.yaml` of pysot's experiments), without common values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alpharefine.trackers.siamrpnpp.backbones import BackboneName

TEMPLATE_SIZE = 127
STRIDE = 8


@dataclass(frozen=True)
class LostSearch:
    """Search of the long-term tracker for a lost target.

    Attributes:
        search_size: Side of the search crop in pixels.
        window_influence: Weight of the window in 0..1.
        low_score: Score below which the target is lost and its box does not move.
        high_score: Score above which the target is found again.
    """

    search_size: int = 831
    window_influence: float = 0.001
    low_score: float = 0.8
    high_score: float = 0.998


@dataclass(frozen=True)
class Variant:
    """Configuration of a network and of its tracker.

    Attributes:
        backbone: Name of the backbone.
        neck_channels: Number of channels of each level of the neck; empty for no neck.
        weighted: Combines the levels with trained weights; otherwise they are averaged.
        penalty: Strength of the penalty for changes of size and aspect ratio.
        window_influence: Weight in 0..1 of the window, which prefers the center.
        rate: Rate at which the size follows the candidate's size, multiplied by its score.
        search_size: Side of the search crop in pixels.
        base_size: Number of positions of the score map in addition to those from the strides.
        lost: Search of the long-term tracker; None for the short-term tracker.
    """

    backbone: BackboneName
    neck_channels: tuple[int, ...]
    weighted: bool
    penalty: float
    window_influence: float
    rate: float
    search_size: int = 255
    base_size: int = 8
    lost: LostSearch | None = None

    def score_size(self, search_size: int) -> int:
        """Return the side of the score map of a search crop, in cells.

        Args:
            search_size: Side of the search crop in pixels.
        """
        return (search_size - TEMPLATE_SIZE) // STRIDE + 1 + self.base_size


_R50 = Variant("resnet50", (256, 256, 256), weighted=True, penalty=0.05, window_influence=0.42, rate=0.38)
_ALEX = Variant(
    "alexnet",
    (),
    weighted=False,
    penalty=0.16,
    window_influence=0.40,
    rate=0.30,
    search_size=287,
    base_size=0,
)

VARIANTS: dict[str, Variant] = {
    "siamrpnpp": _R50,
    "siamrpnpp-lt": replace(_R50, neck_channels=(128, 256, 512), window_influence=0.28, rate=0.22, lost=LostSearch()),
    "siamrpnpp-otb": replace(_R50, weighted=False, penalty=0.24, window_influence=0.50, rate=0.25),
    "siamrpnpp-mobilev2": Variant(
        "mobilenet_v2", (256, 256, 256), weighted=False, penalty=0.04, window_influence=0.40, rate=0.50
    ),
    "siamrpnpp-alex": _ALEX,
    "siamrpnpp-alex-otb": _ALEX,
}
"""Variants by the name of the tracker."""
