"""Any program that speaks TraX as a base tracker: ``cmd:"program --with arguments"``.

The protocol is that of Cehovin, "TraX: The visual Tracking eXchange Protocol and Library", Neurocomputing 2017. Every
sequence has a program of its own, so that no box depends on what was run before. The protocol has no message to replace
a box without learning the target anew, so nothing can be fed back.
"""

from __future__ import annotations

import shlex
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np

from alpharefine.data.images import read_image
from alpharefine.errors import SequenceError, UserError
from alpharefine.trackers.base import Track, TrackerSource, TrackState
from alpharefine.trackers.line_process import LineProcess, ProgramEndedError
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

SCHEME = "cmd:"
"""What the name of such a tracker begins with."""

_REGION_APART = 4  # the version from which `initialize` has the region alone and a `frame` brings the picture
_QUIT_GRACE_S = 5.0
_CRASH_GRACE_S = 2.0  # between the end of its output and its own


@dataclass(frozen=True)
class TimeLimits:
    """How long a program may take.

    Attributes:
        startup_s: from its start to its answer to the first frame.
        frame_s: for each frame after that.
    """

    startup_s: float = 120.0
    frame_s: float = 30.0


class TraxTracker:
    """The client of one program in one sequence.

    Args:
        name: of the tracker, for messages.
        command: the program and its arguments.
        limits: how long it may take.

    Attributes:
        frame_paths: the files of the frames, where there are any: the program is then shown the files, and the pixels
            only if it asks for those.
    """

    def __init__(self, name: str, command: Sequence[str], limits: TimeLimits) -> None:
        self._name = name
        self._command = command
        self._limits = limits
        self._process: LineProcess | None = None
        self.frame_paths: Sequence[Path] | None = None

    def initialize(self, frame: np.ndarray, box_xywh: np.ndarray) -> None:
        """Start the program and show it the target.

        Raises:
            SequenceError: if it cannot be started, crashes, hangs, or says or takes nothing that is understood here.
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
        if _version(hello) >= _REGION_APART:
            request = format_message("initialize", region) + format_message("frame", image)
        else:
            request = format_message("initialize", image, region)
        self._ask(request, "state", self._limits.startup_s - (monotonic() - started))

    def track(self, frame: np.ndarray) -> Track:
        """The program's box in the next frame; its score is the ``confidence`` that it gives, if it does.

        Raises:
            SequenceError: if it crashes, hangs, or answers with something that is no box.
        """
        self._index += 1
        state = self._ask(format_message("frame", self._image(frame)), "state", self._limits.frame_s)
        try:
            box_xywh = parse_region(state.arguments[0])
        except (ValueError, IndexError) as error:
            raise self._failure(f"answered {state.arguments} ({error}); it must send rectangles or polygons") from error
        found = box_xywh is not None
        if box_xywh is not None:
            self._last_xywh = box_xywh
        return Track(self._last_xywh.copy(), _confidence(state), TrackState.NORMAL if found else TrackState.NOT_FOUND)

    def set_box(self, box_xywh: np.ndarray) -> None:
        """Nothing changes: the protocol has no message for it."""

    def close(self) -> None:
        """Let the program end, or end it."""
        if self._process is not None:
            self._process.end(format_message("quit"), _QUIT_GRACE_S)
            self._process = None

    def _region(self, hello: Message, box_xywh: np.ndarray) -> str:
        regions = _list_of(hello.properties.get("trax.region", "rectangle"))
        if "rectangle" in regions:
            return format_rectangle(box_xywh)
        if "polygon" in regions:
            return format_polygon(box_xywh)
        raise self._failure(f"takes the target as {' or '.join(regions)} only; it must take rectangles or polygons")

    def _image(self, frame: np.ndarray) -> str:
        path = None if self.frame_paths is None else self.frame_paths[self._index]
        if path is not None and "path" in self._formats:
            return image_of_path(path)
        if "memory" in self._formats:
            return image_of_pixels(read_image(path) if path is not None and not frame.size else frame)
        if path is not None and {"data", "buffer"} & set(self._formats):
            return image_of_file(path)
        raise self._failure(
            f"takes pictures as {' or '.join(self._formats)} only; it must take paths, or memory where "
            "there are no files"
        )

    def _ask(self, request: str, expected: str, limit_s: float) -> Message:
        assert self._process is not None, "the evaluation initialises a tracker first"
        try:
            answer = parse_message(self._process.exchange(request, limit_s))
        except ProgramEndedError:
            raise self._failure("ended", ended=True) from None
        except TimeoutError:
            limit = f"`--frame_limit {self._limits.frame_s:g}`"
            if self._index == 0:
                limit = f"`--startup_limit {self._limits.startup_s:g}`"
            raise self._failure(f"did not answer in time ({limit}, seconds)") from None
        if answer.name == "quit":
            raise self._failure(f"gave up ({answer.properties.get('trax.reason') or 'without a reason'})", ended=True)
        if answer.name != expected:
            raise self._failure(f"sent {answer.name!r} where {expected!r} is due")
        return answer

    def _failure(self, what: str, ended: bool = False) -> SequenceError:
        """End the program and tell what it did."""
        assert self._process is not None
        status = self._process.end(grace_s=_CRASH_GRACE_S if ended else 0.0)
        output, self._process = self._process.last_output, None
        with_status = f" with {_described(status)}" if ended else ""
        said = "\n".join(["its last output:", *(f"    {line}" for line in output)]) if output else "it wrote nothing"
        return SequenceError(
            f"The program of --tracker {self._name} {what}{with_status} at frame {self._index + 1}; {said}"
        )


def trax_source(name: str, limits: TimeLimits) -> TrackerSource:
    """Check a command.

    Args:
        name: ``cmd:`` and the command's words, as a shell would part them.
        limits: how long the program may take.

    Raises:
        UserError: if there is no such program.
    """
    command = command_words(name)
    if shutil.which(command[0]) is None:
        raise UserError(f"--tracker {name}: there is no program {command[0]}; give one in PATH, or its path.")
    return TrackerSource(
        name,
        accepts_feedback=False,
        needs_frames=True,
        gives_score=True,
        open=lambda *_: TraxTracker(name, command, limits),
        opens_files=True,
    )


def command_words(name: str) -> list[str]:
    """The words of the command in a tracker's name.

    Raises:
        UserError: if there is none, or a quote is left open.

    >>> command_words('cmd:python "my tracker.py" --fast')
    ['python', 'my tracker.py', '--fast']
    """
    try:
        words = shlex.split(name.removeprefix(SCHEME))
    except ValueError as error:
        raise UserError(f"--tracker {name}: {error}; write the command as in a shell.") from error
    if not words:
        raise UserError(f'--tracker {name} names no program; give `--tracker cmd:"program arguments"`.')
    return words


def command_files(name: str) -> list[Path]:
    """The files that the words of a command name, which decide what it does."""
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


def _described(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    return f"signal {-status} ({signal.strsignal(-status)})"
