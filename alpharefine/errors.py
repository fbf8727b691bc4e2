"""The errors that a user can cause and mend."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the message names the file or argument, the rule, the value received and the remedy.

    The commands print it as one line and end with exit code 2; no traceback is shown.
    """


class SequenceError(UserError):
    """What went wrong in one sequence says nothing of the others, which are run all the same."""
