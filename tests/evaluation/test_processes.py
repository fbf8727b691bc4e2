"""Jobs in processes: those of a killed process fail, the others go on, and no process outlives its parent."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from alpharefine.errors import UserError
from alpharefine.evaluation.processes import run_in_processes

ROOT = Path(__file__).parents[2]


class Doubler:
    """Doubles numbers; kills its process at 13, or in an answer at 16, leaves it at 14, raises an exception at 15."""

    def __init__(self, device: str) -> None:
        self.device = device

    def run_all(self, jobs: Iterable[int]) -> Iterator[int | str]:
        for job in jobs:
            if job == 13:
                os.kill(os.getpid(), signal.SIGKILL)
            if job == 14:
                os._exit(5)
            if job == 15:
                raise UserError("fifteen")
            if job == 16:
                connection = sys._getframe(1).f_locals["connection"]
                os.write(connection.fileno(), struct.pack("!i", 1000) + b"the first bytes")
                os.kill(os.getpid(), signal.SIGKILL)
            yield 2 * job


def doomed(device: str) -> Doubler:
    os._exit(3)


def doomed_once(device: str) -> Doubler:
    """End the process that calls this for the first time, before it is ready."""
    place = Path(os.environ["DOOMED_ONCE"])
    if not place.exists():
        place.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Doubler(device)


def failed(job: int, reason: str) -> str:
    return f"{job}: {reason}"


def results(jobs: Iterable[int], make: Callable[[str], Doubler] = Doubler, num_processes: int = 2) -> list[int | str]:
    return sorted(run_in_processes(make, jobs, failed, num_processes), key=str)


def test_one_process_is_this_one() -> None:
    assert results(range(3), num_processes=1) == [0, 2, 4]


@pytest.mark.slow
@pytest.mark.ddp
def test_the_job_of_a_killed_process_fails_alone() -> None:
    found = results([1, 13, 2, 14, 3, 16, 4])
    assert [each for each in found if isinstance(each, int)] == [2, 4, 6, 8]
    assert "13: its process ended with signal 9 (Killed); the machine may be out of memory" in found
    assert "14: its process ended with exit code 5" in found
    assert "16: its process ended with signal 9 (Killed); the machine may be out of memory" in found


@pytest.mark.slow
@pytest.mark.ddp
def test_an_exception_of_the_runner_stops() -> None:
    with pytest.raises(UserError, match="fifteen"):
        results([1, 15, 2])


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.exhaustive
def test_processes_that_always_end_before_their_first_job() -> None:
    with pytest.raises(UserError, match=r"3 processes of `--devices 2` ended before their first job, .* exit code 3"):
        results([1, 2, 3], doomed)


@pytest.mark.slow
@pytest.mark.ddp
def test_a_process_that_is_killed_while_it_loads_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOOMED_ONCE", str(tmp_path / "once"))
    assert results([1, 2, 3], doomed_once) == [2, 4, 6]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


# A command that runs endless jobs in two processes, each of which starts a `cmd:` program, and writes all identifiers.
ENDLESS = """
import os, sys, time
from pathlib import Path
from alpharefine.evaluation.processes import run_in_processes
from alpharefine.trackers.line_process import LineProcess

class Endless:
    def __init__(self, device): pass
    def run_all(self, jobs):
        for job in jobs:
            program = LineProcess(["sh", "-c", "trap '' TERM; sleep 1000 & echo @$!; while :; do sleep 0.2; done"], "@")
            child = program.exchange("", 20.0)[1:]
            text = f"{os.getpid()} {program._process.pid} {program._guard.pid} {child}"
            Path(sys.argv[1], f"{job}.part").write_text(text)
            Path(sys.argv[1], f"{job}.part").rename(Path(sys.argv[1], f"{job}.pids"))
            while True: time.sleep(0.1)

if __name__ == "__main__":
    list(run_in_processes(Endless, range(2), lambda job, reason: reason, 2))
"""


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize(
    "how",
    [signal.SIGKILL, *(pytest.param(each, marks=pytest.mark.exhaustive) for each in (signal.SIGTERM, signal.SIGINT))],
    ids=lambda how: how.name,
)
def test_no_process_outlives_a_killed_command(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    command = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a job in the background
    )
    try:
        assert wait_until(lambda: len(list(tmp_path.glob("*.pids"))) == 2, 60)
        pids = [int(pid) for path in tmp_path.glob("*.pids") for pid in path.read_text().split()]
        assert len(pids) == 8
        assert all(map(is_alive, pids))
        command.send_signal(how)
        command.wait(20)
        assert wait_until(lambda: not any(map(is_alive, pids))), [pid for pid in pids if is_alive(pid)]
    finally:
        command.kill()
