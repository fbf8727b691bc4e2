"""The published configurations of SiamRPN++ (the `config.yaml` of pysot's experiments), without what they share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alpharefine.trackers.siamrpnpp.backbones import BackboneName

TEMPLATE_SIZE = 127
STRIDE = 8


@dataclass(frozen=True)
class LostSearch:
    """How the long-term tracker looks for a target that it has lost.

    Attributes:
        search_size: pixels of the search crop, in place of the usual one.
        window_influence: in place of the usual one.
        low_score: below it the target is lost and its box stays.
        high_score: above it the target is found again.
    """

    search_size: int = 831
    window_influence: float = 0.001
    low_score: float = 0.8
    high_score: float = 0.998


@dataclass(frozen=True)
class Variant:
    """A network and the constants that it was published with.

    Attributes:
        backbone: its name.
        neck_channels: of each level; none for no neck.
        weighted: whether levels have learned weights.
        penalty: strength of that for changes of size and shape.
        window_influence: weight of the window that prefers the middle, 0..1.
        rate: at which the size follows the candidate's, times its score.
        search_size: pixels of the search crop.
        base_size: positions of the score map beyond those that strides make.
        lost: the long-term tracker's; None for the short-term one.
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
        """Side of the score map of a search crop, both in pixels of their own.

        Args:
            search_size: pixels of the search crop.
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
"""By the name of the tracker."""
