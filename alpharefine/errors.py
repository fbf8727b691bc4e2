"""Exceptions for errors that the user can correct."""

from __future__ import annotations


class UserError(Exception):
    """Invalid input. The message names the file or argument, the rule, the received value and the remedy.

    Commands print the message on one line, without a traceback, and exit with code 2.
    """


class SequenceError(UserError):
    """An error that is limited to one sequence. The remaining sequences are still processed."""
