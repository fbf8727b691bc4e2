"""Print the table of all trackers: ``python -m alpharefine.trackers``."""

import sys

from alpharefine.trackers.table import tracker_table

sys.stdout.write(tracker_table())
