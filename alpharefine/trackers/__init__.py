"""Base trackers: the boxes that are refined come from here."""

from alpharefine.trackers.base import BoxRefiner, Track, Tracker, TrackerSource, TrackState
from alpharefine.trackers.registry import TRACKER_NAMES, load_tracker

__all__ = ["TRACKER_NAMES", "BoxRefiner", "Track", "TrackState", "Tracker", "TrackerSource", "load_tracker"]
