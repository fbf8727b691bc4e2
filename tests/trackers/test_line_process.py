"""Programs that never stop talking: time limits hold, and memory is bounded."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alpharefine.errors import SequenceError
from alpharefine.trackers import TimeLimits, load_tracker
from alpharefine.trackers.line_process import LineProcess, TooMuchOutputError

FRAME = np.zeros((4, 6, 3), np.uint8)
BOX = np.array([1.0, 1, 2, 2])


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


TALKERS = {
    "lines": ["yes"],
    "lines on stderr": ["sh", "-c", "yes >&2"],
    "no line break": ["sh", "-c", "exec cat /dev/zero"],
    "no line break on stderr": ["sh", "-c", "cat /dev/zero >&2"],
    "empty lines": ["yes", ""],
}


@pytest.mark.parametrize("command", TALKERS.values(), ids=TALKERS.keys())
def test_the_limit_holds_for_a_program_that_always_talks(command: list[str]) -> None:
    before = peak_mib()
    process = LineProcess(command, "@@")
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        process.exchange("hello\n", 0.5)
    assert process.end("quit\n", 0.5) == -9
    assert time.monotonic() - start < 10
    assert peak_mib() - before < 64
    assert sum(map(len, process.last_output)) < 10_000


@pytest.mark.parametrize("program", ["print('@@' + 'x' * 5_000_000)", "for _ in range(10**6): print('@@x')"])
def test_messages_without_an_end_are_refused(program: str) -> None:
    before = peak_mib()
    process = LineProcess(python(f"import sys, time\n{program}\ntime.sleep(60)"), "@@")
    with pytest.raises(TooMuchOutputError):
        process.exchange("x\n" * 500_000, 20.0)  # more than the program takes
    process.end()
    assert peak_mib() - before < 64


def test_a_long_line_before_a_message_is_cut_and_not_the_message() -> None:
    process = LineProcess(python("print('n' * 3_000_000); print('@@here', flush=True); input()"), "@@")
    assert process.exchange("", 20.0) == "@@here"
    assert process.last_output == ["n" * 300]
    process.end("\n", 5.0)


def test_a_program_of_the_command_line_that_always_talks(tmp_path: Path) -> None:
    for command in ("yes", "cat /dev/zero"):
        tracker = load_tracker(f"cmd:{command}", limits=TimeLimits(0.5, 0.5)).open("a", np.zeros((3, 4)))
        with pytest.raises(SequenceError, match=r"did not answer in time \(`--startup_limit 0.5`, seconds\)"):
            tracker.initialize(FRAME, BOX)


def test_a_long_answer_is_not_repeated_in_the_message(tmp_path: Path) -> None:
    program = tmp_path / "long.py"
    program.write_text(
        "print('@@TRAX:hello \"trax.image=memory\"', flush=True)\n"
        "input(); print('@@TRAX:state \"1,2,3,4\"', flush=True)\n"
        "input(); print('@@TRAX:state \"' + 'x' * 500_000 + '\"', flush=True); input()\n"
    )
    tracker = load_tracker(f"cmd:{sys.executable} {program}", limits=TimeLimits(20, 20)).open("a", np.zeros((3, 4)))
    tracker.initialize(FRAME, BOX)
    with pytest.raises(SequenceError, match=r"answered .*must send rectangles or polygons") as error:
        tracker.track(FRAME)
    assert len(str(error.value)) < 2000
