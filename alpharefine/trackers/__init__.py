"""Base trackers: the boxes that are refined come from here."""

from alpharefine.trackers.base import BoxRefiner, Track, Tracker, TrackerSource, TrackState
from alpharefine.trackers.registry import SELF_TRACKERS, TRACKER_NAMES, load_tracker

__all__ = [
    "SELF_TRACKERS",
    "TRACKER_NAMES",
    "BoxRefiner",
    "Track",
    "TrackState",
    "Tracker",
    "TrackerSource",
    "load_tracker",
]
