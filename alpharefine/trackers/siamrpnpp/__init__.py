"""SiamRPN++ with its authors' published weights."""

from alpharefine.trackers.siamrpnpp.tracker import SiamRPNppTracker
from alpharefine.trackers.siamrpnpp.variants import VARIANTS, LostSearch, Variant

__all__ = ["VARIANTS", "LostSearch", "SiamRPNppTracker", "Variant"]
