"""Names of the modes and variables that configurations and the library share. This module imports nothing."""

from typing import Literal

WEIGHTS_VARIABLE = "ALPHAREFINE_WEIGHTS"
"""Environment variable with the path of a folder of official files."""

GeometryName = Literal["exact", "original", "original_window"]
ComputePrecision = Literal["auto", "32", "16", "bf16", "8"]
BoxSource = Literal["auto", "corner", "mask"]
WhenLost = Literal["refine", "report", "keep"]
WandbMode = Literal["auto", "online", "offline", "off"]
Protocol = Literal["lasot", "pysot", "pytracking", "pytracking_valid", "got10k"]
"""Scoring conventions: the official LaSOT toolkit, pysot-toolkit, pytracking, pytracking with its option
`exclude_invalid_frames`, or the LaSOT experiment of got10k-toolkit."""
