"""Samples that cannot be read: refused, or replaced, counted and limited."""

from __future__ import annotations

import sys
from typing import Literal

from alpharefine.errors import UserError

OnBadSample = Literal["error", "skip"]

MAX_BAD_SHARE = 0.001
"""Largest share of bad samples among the samples read."""

TOLERATED_FILES = 3
"""Number of bad files that are skipped whatever their share is, so that one bad file does not stop a small run."""


class BadSamples:
    """Count of the samples of one process that could not be read.

    With ``skip``, reading stops once more than `TOLERATED_FILES` files are bad and the bad samples exceed the share
    `MAX_BAD_SHARE` of all samples read.

    Args:
        on_bad_sample: ``error`` stops at the first bad sample, ``skip`` replaces bad samples.
    """

    def __init__(self, on_bad_sample: OnBadSample = "error") -> None:
        self.skips = on_bad_sample == "skip"
        self.num_read = 0
        self.num_bad = 0
        self._faults: set[str] = set()

    def add(self, num_read: int, faults: list[str]) -> None:
        """Count samples, and report each new fault on one line.

        Args:
            num_read: Number of further samples that were read, bad ones included.
            faults: Message of each bad sample, which begins with the file.

        Raises:
            UserError: If too many samples are bad.
        """
        self.num_read += num_read
        self.num_bad += len(faults)
        for fault in faults:
            if fault not in self._faults:
                self._faults.add(fault)
                sys.stderr.write(f"skipped: {fault}\n")
        if len(self._faults) > TOLERATED_FILES and self.num_bad > MAX_BAD_SHARE * self.num_read:
            raise UserError(
                f"`data.on_bad_sample`: {self.num_bad} of {self.num_read} samples, from {len(self._faults)} files, "
                f"could not be read; at most {MAX_BAD_SHARE:.1%} are skipped. Restore the files. The first: "
                f"{min(self._faults)}"
            )
