"""TraX client: a base tracker in a process of its own, ``cmd:"program --with arguments"``.

The protocol is described in Cehovin, "TraX: The visual Tracking eXchange Protocol and Library", Neurocomputing 2017.
Each sequence starts a new process, so that its boxes do not depend on other sequences. The protocol has no message that
replaces a box without a new initialization, so these trackers do not accept feedback.
"""

from __future__ import annotations

import shlex
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import numpy as np

from alpharefine.data.images import read_image
from alpharefine.errors import SequenceError, UserError
from alpharefine.trackers.base import Track, Tracker, TrackState
from alpharefine.trackers.entry import LoadedTracker, TimeLimits, TrackedSequence, TrackerRequest
from alpharefine.trackers.line_process import LineProcess, ProgramEndedError, TooMuchOutputError
from alpharefine.trackers.trax_messages import (
    PREFIX,
    Message,
    format_message,
    format_polygon,
    format_rectangle,
    image_of_file,
    image_of_path,
    image_of_pixels,
    parse_message,
    parse_region,
)

_SCHEME = "cmd:"
_SEPARATE_FRAME_VERSION = 4  # from this version on, `initialize` has the region only and a `frame` message follows
_QUIT_GRACE_S = 5.0
_MAX_QUOTED = 120  # characters of the program's text in a message
_CRASH_GRACE_S = 2.0  # between the end of the program's output and the end of the program


class TraxTracker(Tracker):
    """Client of one program in one sequence.

    Args:
        name: Name of the tracker, for messages.
        command: Words of the command line of the program.
        limits: Time limits of the program.
        frame_paths: Paths of the frames. The program gets the paths, or the pixels if it asks for them. None if the
            sequence has no files.
    """

    def __init__(
        self, name: str, command: Sequence[str], limits: TimeLimits, frame_paths: Sequence[Path] | None = None
    ) -> None:
        self._name = name
        self._command = command
        self._limits = limits
        self._frame_paths = frame_paths
        self._process: LineProcess | None = None

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Start the program and send it the target.

        Args:
            frame: First frame, ``(H, W, 3)`` RGB uint8; empty if the sequence has files.
            box_xywh: Box of the target, ``(4,)`` in image pixels.

        Raises:
            SequenceError: If the program cannot be started, crashes, exceeds a time limit, or sends or accepts no
                message that is supported here.
        """
        self.close()
        self._index, self._last_xywh = 0, np.array(box_xywh, dtype=np.float64)
        try:
            self._process = LineProcess(self._command, PREFIX)
        except OSError as error:
            raise SequenceError(f"--tracker {self._name} cannot be started ({error.strerror}).") from error
        started = monotonic()
        hello = self._ask("", "hello", self._limits.startup_s)
        self._formats = _list_of(hello.properties.get("trax.image", "path"))
        region, image = self._region(hello, box_xywh), self._image(frame)
        if _version(hello) >= _SEPARATE_FRAME_VERSION:
            request = format_message("initialize", region) + format_message("frame", image)
        else:
            request = format_message("initialize", image, region)
        self._ask(request, "state", self._limits.startup_s - (monotonic() - started))

    def track(self, frame: np.ndarray) -> Track:
        """Return the program's box in the next frame; the score is the ``confidence`` in its answer, or NaN.

        Raises:
            SequenceError: If the program crashes, exceeds a time limit, or answers with something that is not a box.
        """
        self._index += 1
        state = self._ask(format_message("frame", self._image(frame)), "state", self._limits.frame_s)
        try:
            box_xywh = parse_region(state.arguments[0])
        except (ValueError, IndexError) as error:
            fault = f"answered {_short(state.arguments)} ({_short(error)})"
            raise self._failure(f"{fault}; it must send rectangles or polygons") from error
        found = box_xywh is not None
        if box_xywh is not None:
            self._last_xywh = box_xywh
        return Track(self._last_xywh.copy(), _confidence(state), TrackState.NORMAL if found else TrackState.NOT_FOUND)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Do nothing: the protocol has no message for feedback."""

    def close(self) -> None:
        """Ask the program to quit, and kill it if it does not."""
        if self._process is not None:
            self._process.end(format_message("quit"), _QUIT_GRACE_S)
            self._process = None

    def _region(self, hello: Message, box_xywh: np.ndarray) -> str:
        regions = _list_of(hello.properties.get("trax.region", "rectangle"))
        if "rectangle" in regions:
            return format_rectangle(box_xywh)
        if "polygon" in regions:
            return format_polygon(box_xywh)
        raise self._failure(
            f"takes the target as {_short(' or '.join(regions))} only; it must take rectangles or polygons"
        )

    def _image(self, frame: np.ndarray) -> str:
        path = None if self._frame_paths is None else self._frame_paths[self._index]
        if path is not None and "path" in self._formats:
            return image_of_path(path)
        if "memory" in self._formats:
            return image_of_pixels(read_image(path) if path is not None and not frame.size else frame)
        if path is not None and {"data", "buffer"} & set(self._formats):
            return image_of_file(path)
        offered = _short(" or ".join(self._formats))
        raise self._failure(
            f"takes images as {offered} only; it must take paths, or memory if the sequence has no files"
        )

    def _ask(self, request: str, expected: str, limit_s: float) -> Message:
        assert self._process is not None, "the evaluation calls `initialize` first"
        try:
            answer = parse_message(self._process.exchange(request, limit_s))
        except ProgramEndedError:
            raise self._failure("ended", ended=True) from None
        except TooMuchOutputError:
            raise self._failure("sent messages without an end; it must send one answer to each request") from None
        except TimeoutError:
            limit = f"`--frame_limit {self._limits.frame_s:g}`"
            if self._index == 0:
                limit = f"`--startup_limit {self._limits.startup_s:g}`"
            raise self._failure(f"did not answer in time ({limit}, seconds)") from None
        if answer.name == "quit":
            raise self._failure(
                f"gave up ({_short(answer.properties.get('trax.reason') or 'without a reason')})", ended=True
            )
        if answer.name != expected:
            raise self._failure(f"sent {_short(answer.name)!r} in place of {expected!r}")
        return answer

    def _failure(self, event: str, ended: bool = False) -> SequenceError:
        """End the program and return an error with the event and the program's last output."""
        assert self._process is not None
        status = self._process.end(grace_s=_CRASH_GRACE_S if ended else 0.0)
        output, self._process = self._process.last_output, None
        with_status = f" with {_described(status)}" if ended else ""
        said = "\n".join(["its last output:", *(f"    {line}" for line in output)]) if output else "it wrote nothing"
        return SequenceError(
            f"The program of --tracker {self._name} {event}{with_status} at frame {self._index + 1}; {said}"
        )


def load(request: TrackerRequest) -> LoadedTracker:
    """Check the command of a program.

    Args:
        request: Request with the name ``cmd:`` and the command line, and with time limits.

    Raises:
        UserError: If the program does not exist.
    """
    name, command = request.name, command_words(request.name)
    if shutil.which(command[0]) is None:
        raise UserError(f"--tracker {name}: no program {command[0]}; give a program in PATH, or its path.")

    def make(sequence: TrackedSequence) -> Tracker:
        return TraxTracker(name, command, request.limits, sequence.frame_paths)

    return LoadedTracker(make)


def command_words(name: str) -> list[str]:
    """Return the words of the command line in a tracker's name.

    Args:
        name: ``cmd:`` and the command line, quoted as in a shell.

    Raises:
        UserError: If the command line is empty or has an open quote.

    >>> command_words('cmd:python "my tracker.py" --fast')
    ['python', 'my tracker.py', '--fast']
    """
    try:
        words = shlex.split(name.removeprefix(_SCHEME))
    except ValueError as error:
        raise UserError(f"--tracker {name}: {error}; write the command as in a shell.") from error
    if not words:
        raise UserError(f'--tracker {name} names no program; give `--tracker cmd:"program arguments"`.')
    return words


def command_files(name: str) -> list[Path]:
    """Return the words of a command line that are paths of files, such as a script.

    Args:
        name: ``cmd:`` and the command line, quoted as in a shell.

    Raises:
        UserError: If the command line is empty or has an open quote.
    """
    return [path for path in map(Path, command_words(name)) if path.is_file()]


def _list_of(text: str) -> list[str]:
    return [word.strip() for word in text.replace(",", ";").split(";") if word.strip()]


def _version(hello: Message) -> int:
    version = hello.properties.get("trax.version", "1")
    return int(version) if version.isdecimal() else 1


def _confidence(state: Message) -> float:
    try:
        return float(state.properties.get("confidence", "nan"))
    except ValueError:
        return float("nan")


def _short(value: object) -> str:
    """Return a text of the program in a length that fits into a message."""
    text = str(value)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."


def _described(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    return f"signal {-status} ({signal.strsignal(-status)})"
