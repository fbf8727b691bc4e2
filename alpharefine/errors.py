"""Exceptions for errors that the user can correct, and the description of other exceptions in one line."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_MAX_LENGTH = 400  # characters of the text of an exception


class UserError(Exception):
    """Invalid input. The message names the file or argument, the rule, the received value and the remedy.

    Commands print the message on one line, without a traceback, and exit with code 2.
    """


class SequenceError(UserError):
    """An error that is limited to one sequence. The remaining sequences are still processed."""


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turn an exception of foreign code, such as a tracker's, into a `UserError` that names its place.

    Args:
        place: What was done, at the beginning of the message.

    Raises:
        UserError: If the code in the context raises an exception.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{place}: {describe_exception(error)}.") from error


def describe_exception(error: BaseException) -> str:
    """Return the type, the text and the place of an exception in one line; of a `UserError`, its message.

    The place is the deepest line outside of installed packages, such as a line of the user's tracker.

    Args:
        error: Caught exception.
    """
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split())
    text = text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    foreign = [frame for frame in frames if not Path(frame.filename).resolve().is_relative_to(_PACKAGE)]
    own = [frame for frame in foreign if not frame.filename.startswith(_INSTALLED)]
    place = own[-1] if own else foreign[0] if foreign else frames[-1] if frames else None
    where = "" if place is None else f" ({place.filename}, line {place.lineno})"
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"
