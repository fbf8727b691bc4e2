"""Base trackers: the sources of the boxes that are refined.

Importing this package loads no implementation of a tracker.
"""

from alpharefine.trackers.base import BoxRefiner, Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TimeLimits, TrackedSequence, TrackerEntry, TrackerRequest
from alpharefine.trackers.loading import check_arguments, load_tracker
from alpharefine.trackers.registry import find_tracker, tracker_entries, tracker_names

__all__ = [
    "BoxRefiner",
    "LoadedTracker",
    "TimeLimits",
    "Track",
    "TrackState",
    "TrackedSequence",
    "Tracker",
    "TrackerEntry",
    "TrackerRequest",
    "check_arguments",
    "find_tracker",
    "load_tracker",
    "tracker_entries",
    "tracker_names",
]
