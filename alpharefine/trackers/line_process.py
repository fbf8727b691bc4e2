"""Child process that exchanges lines over its standard streams, with a time limit for each exchange."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from time import monotonic

_KEPT_LINES = 12
_KEPT_LENGTH = 300  # characters per line
_CHUNK = 1 << 16
_LAST_WORDS_S = 1.0  # seconds in which the output of a killed program is still read
_MAX_MESSAGE = 1 << 20  # bytes of one message
_DRAIN_S = 0.05  # seconds in which available output is read before a program is killed
_MAX_MESSAGES = 1000  # that wait for a request
_GUARD = ("/bin/sh", "-c", 'read -r line; kill -9 "-$0"')
"""Program that kills a process group when its standard input is closed, such as by a kill of this process."""


class ProgramEndedError(Exception):
    """The program has closed its output."""


class TooMuchOutputError(Exception):
    """The program has sent many messages that nobody asked for, or a message without an end."""


class LineProcess:
    """Running program.

    Lines on the program's standard output that start with the prefix are messages. All other lines, on either stream,
    are kept as its last output, in bounded memory. The program leads a process group of its own, so that its child
    processes end with it. The group is also killed if this process ends without a call of `end`, such as by a kill.

    Args:
        command: Words of the command line.
        prefix: Prefix of the lines that are messages.

    Raises:
        OSError: If the program cannot be started.
    """

    def __init__(self, command: Sequence[str], prefix: str) -> None:
        self._prefix = prefix
        self._output: deque[str] = deque(maxlen=_KEPT_LINES)
        self._messages: deque[str] = deque()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._guard = subprocess.Popen(
            (*_GUARD, str(self._process.pid)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin, self._stdout, self._stderr = (
            pipe.fileno() for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        self._partial = {self._stdout: b"", self._stderr: b""}
        self._selector = selectors.DefaultSelector()
        for pipe in (self._stdin, *self._partial):
            os.set_blocking(pipe, False)
        for pipe in self._partial:
            self._selector.register(pipe, selectors.EVENT_READ)

    @property
    def last_output(self) -> list[str]:
        """Last lines of the program that are not messages."""
        return [*self._output]

    def exchange(self, text: str, limit_s: float) -> str:
        """Send text, if it is not empty, and wait for a message.

        Args:
            text: Complete lines.
            limit_s: Time limit in seconds for sending and waiting together.

        Returns:
            Line of the message.

        Raises:
            ProgramEndedError: If the program ends before it answers.
            TimeoutError: If the program does not answer in time.
            TooMuchOutputError: If the program sends more messages than anybody could have asked for, or one that is
                longer than any message.
        """
        deadline, unsent = monotonic() + limit_s, memoryview(text.encode())
        if unsent:
            self._selector.register(self._stdin, selectors.EVENT_WRITE)
        try:
            while unsent or not self._messages:
                if self._stdout not in self._partial:
                    raise ProgramEndedError
                ready = self._wait(deadline)
                if self._stdin in ready:
                    unsent = self._write(unsent)
                    if not unsent:
                        self._selector.unregister(self._stdin)
        finally:
            if self._stdin in self._selector.get_map():
                self._selector.unregister(self._stdin)
        return self._messages.popleft()

    def end(self, text: str = "", grace_s: float = 0.0) -> int:
        """End the program and its child processes.

        Args:
            text: Last message to the program.
            grace_s: Seconds that the program may take to end by itself before it is killed.

        Returns:
            Exit status; a negative value is the number of the signal that ended the program.
        """
        with contextlib.suppress(OSError):  # the program may have ended already
            os.write(self._stdin, text.encode())
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        assert pipes[0] is not None
        pipes[0].close()
        deadline = monotonic() + grace_s
        self._listen(max(grace_s, _DRAIN_S))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - monotonic()))
        with contextlib.suppress(ProcessLookupError):  # nothing is left of the group
            os.killpg(self._process.pid, signal.SIGKILL)
            self._listen(_LAST_WORDS_S)
        self._end_guard()
        self._selector.close()
        for pipe in pipes:
            assert pipe is not None
            pipe.close()
        return self._process.wait()

    def _end_guard(self) -> None:
        self._guard.kill()
        self._guard.wait()
        assert self._guard.stdin is not None
        self._guard.stdin.close()

    def _listen(self, limit_s: float) -> None:
        """Read until both streams are closed or the time limit is reached."""
        deadline = monotonic() + limit_s
        with contextlib.suppress(TimeoutError, TooMuchOutputError):
            while self._partial:
                self._wait(deadline)

    def _wait(self, deadline: float) -> set[int]:
        """Read available output, and return the streams that were ready.

        The time limit holds for a program that always has output, too.
        """
        left_s = deadline - monotonic()
        ready = {int(key.fd) for key, _ in self._selector.select(max(0.0, left_s))}
        if not ready or left_s <= 0:
            raise TimeoutError
        for pipe in ready & set(self._partial):
            self._read(pipe)
        return ready

    def _read(self, pipe: int) -> None:
        chunk = os.read(pipe, _CHUNK)
        *lines, rest = (self._partial[pipe] + chunk).split(b"\n")
        if chunk:
            is_message = pipe == self._stdout and rest.startswith(self._prefix.encode())
            if is_message and len(rest) > _MAX_MESSAGE:
                raise TooMuchOutputError
            self._partial[pipe] = rest if is_message else rest[: 4 * _KEPT_LENGTH]  # a character has up to 4 bytes
        else:
            del self._partial[pipe]
            self._selector.unregister(pipe)
            lines.append(rest)
        for line in lines:
            self._take(pipe, line.decode(errors="replace").rstrip())

    def _take(self, pipe: int, line: str) -> None:
        if pipe == self._stdout and line.startswith(self._prefix):
            if len(self._messages) == _MAX_MESSAGES:
                raise TooMuchOutputError
            self._messages.append(line)
        elif line:
            self._output.append(line[:_KEPT_LENGTH])

    def _write(self, unsent: memoryview) -> memoryview:
        try:
            return unsent[os.write(self._stdin, unsent) :]
        except BlockingIOError:
            return unsent
        except OSError as error:  # the program no longer reads
            raise ProgramEndedError from error
