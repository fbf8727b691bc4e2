"""Commands that are killed at random moments and started again."""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

PATIENCE_S = 300
"""Seconds after which a command that makes no progress fails the test."""

IMPORTED = [
    "alpharefine.evaluation.stages",
    "alpharefine.training.lightning_cli",
    "alpharefine.training.task",
    "datamodules",
]
"""Modules that the commands import, which takes ten seconds."""

Victims = Callable[[int], list[int]]
"""Function from the process of a command to the processes that are killed."""


def whole_command(pid: int) -> list[int]:
    """Return a command's process and all processes that it started."""
    return [pid, *descendants(pid)]


def one_worker(pid: int) -> list[int]:
    """Return one process at random among those that a command's process started and that run its code."""
    workers = [child for child in descendants(pid) if b"resource_tracker" not in _command_line(child)]
    return random.sample(workers, min(1, len(workers)))


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, directly or not."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # the process has ended
        return []
    return [each for child in children for each in (int(child), *descendants(int(child)))]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _start(command: list[str], cwd: Path, output: Path) -> BaseProcess:
    """Run a script with its arguments in a fork of a process that has imported its modules."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=_run_script, args=(command, cwd, output))
    process.start()
    return process


def _run_script(command: list[str], cwd: Path, output: Path) -> None:
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True)  # it is that of this process otherwise
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


class Interrupted:
    """A command that is started until it succeeds, and killed some time after each sign of progress.

    Args:
        command: Path of a script and its arguments.
        cwd: Working folder.
        progress: Function whose value changes when the command has made progress.
        most_s: Largest delay between a sign of progress and the kill, in seconds.
        victims: Processes that are killed.
        seed: Seed of the delays.
    """

    def __init__(
        self,
        command: list[str],
        cwd: Path,
        progress: Callable[[], object],
        most_s: float,
        victims: Victims = whole_command,
        seed: int = 0,
    ) -> None:
        self.command, self.cwd, self.progress, self.most_s, self.victims = command, cwd, progress, most_s, victims
        self.rng = random.Random(seed)
        self.num_kills = 0
        self.outputs: list[str] = []

    def run(self, max_kills: int) -> None:
        """Start the command until it exits with code 0, with at most this number of kills."""
        while not self._run_once(kill=self.num_kills < max_kills):
            pass

    def _run_once(self, kill: bool) -> bool:
        output = self.cwd / "output.txt"
        process = _start(self.command, self.cwd, output)
        killed = kill and self._kill(process)
        process.join(PATIENCE_S)
        assert process.exitcode is not None, "the command does not end"
        self.outputs.append(output.read_text())
        if killed:
            self.num_kills += 1
            return process.exitcode == 0  # a run can succeed without a worker, or be complete
        assert process.exitcode == 0, self.outputs[-1]
        return True

    def _kill(self, process: BaseProcess) -> bool:
        """Kill the command after its next progress; return False if it ended before."""
        assert process.pid is not None
        before, start = self.progress(), time.monotonic()
        while self.progress() == before:
            if not process.is_alive():
                return False
            assert time.monotonic() - start < PATIENCE_S, "no progress"
            time.sleep(0.01)
        time.sleep(self.rng.uniform(0, self.most_s))
        if not process.is_alive():
            return False
        killed = False
        for pid in self.victims(process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
                killed = True
            except ProcessLookupError:
                continue
        return killed and process.exitcode != 0


def run_undisturbed(command: list[str], cwd: Path) -> None:
    """Run a command that is to succeed.

    Args:
        command: Path of a script and its arguments.
        cwd: Working folder.
    """
    Interrupted(command, cwd, progress=lambda: None, most_s=0).run(max_kills=0)
