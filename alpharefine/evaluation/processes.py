"""Execution of jobs in one process or in several, each with a GPU where there is one."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import cv2
import torch

from alpharefine.cores import available_cores, remark_shared_cores
from alpharefine.errors import UserError, describe_exception

Job = TypeVar("Job")
JobIn = TypeVar("JobIn", contravariant=True)
Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)

_PARENT_INTERVAL_S = 0.5
_END_GRACE_S = 5.0


class Runner(Protocol[JobIn, ResultOut]):
    """Executes jobs with networks that are loaded once."""

    def run_all(self, jobs: Iterable[JobIn]) -> Iterator[ResultOut]:
        """Execute jobs and yield the result of each, in any order."""


def run_in_processes(
    make_runner: Callable[[str], Runner[Job, Result]],
    jobs: Iterable[Job],
    failed: Callable[[Job, str], Result],
    num_processes: int = 1,
    device: str = "auto",
) -> Generator[Result]:
    """Execute jobs and yield the result of each as it completes.

    If a process ends during a job, such as by the kernel's out-of-memory killer, that job fails, and a new process
    executes the remaining ones. Processes end when this process ends, however that happens. More computing threads than
    cores are reported on stderr.

    Args:
        make_runner: Function from the name of a device to a runner; it is pickled if there are several processes.
        jobs: Jobs in the order in which they start.
        failed: Function from a job and the reason of its failure to its result.
        num_processes: Number of processes; 1 executes all jobs in this one. Process i uses GPU i modulo their number.
        device: Device of a single process.

    Raises:
        Exception: If a runner cannot be made, or raises an exception.
        UserError: If processes end again and again before their runner is made.
    """
    remark_shared_cores(num_processes, torch.get_num_threads() if num_processes == 1 else _threads(num_processes))
    if num_processes == 1:
        yield from make_runner(device).run_all(jobs)
        return
    pool = _Pool(make_runner, deque(jobs), failed, num_processes)
    try:
        yield from pool.results()
    finally:
        pool.close()


class _Answer(NamedTuple):
    """Message of a worker: its runner is made, the results of its job, or an exception."""

    results: list[Any]
    error: Exception | None = None


class _Worker(Generic[Job]):
    """One process and the job that it executes."""

    def __init__(self, context: SpawnContext, rank: int, num_processes: int, make_runner: Any) -> None:
        self.rank = rank
        self.job: Job | None = None
        self.is_ready = False
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(make_runner, theirs, rank, num_processes))
        self.process.start()
        theirs.close()

    def end(self) -> str:
        """Wait for the process, which has closed its connection, and describe how it ended."""
        self.process.join(_END_GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        killed = "; the machine may be out of memory" if -code == signal.SIGKILL else ""
        return f"signal {-code} ({signal.strsignal(-code)}){killed}"


class _Pool(Generic[Job, Result]):
    """Processes that execute jobs one by one. A process that ended is replaced while jobs are left."""

    def __init__(
        self,
        make_runner: Callable[[str], Runner[Job, Result]],
        jobs: deque[Job],
        failed: Callable[[Job, str], Result],
        num_processes: int,
    ) -> None:
        self._make_runner, self._jobs, self._failed = make_runner, jobs, failed
        self._num_processes = num_processes
        self._num_lost_starts = 0
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[Connection, _Worker[Job]] = {}
        self._finished: list[_Worker[Job]] = []

    def results(self) -> Iterator[Result]:
        """Yield the results of all jobs."""
        for rank in range(min(self._num_processes, len(self._jobs))):
            self._start(rank)
        while self._workers:
            for connection in wait(list(self._workers)):
                assert isinstance(connection, Connection)
                yield from self._receive(self._workers[connection])

    def close(self) -> None:
        """Kill the processes that are left: the caller has all results, or does not want them."""
        for worker in self._workers.values():
            worker.process.kill()
        for worker in [*self._workers.values(), *self._finished]:
            worker.end()
        self._workers.clear()

    def _start(self, rank: int) -> None:
        worker: _Worker[Job] = _Worker(self._context, rank, self._num_processes, self._make_runner)
        self._workers[worker.connection] = worker

    def _receive(self, worker: _Worker[Job]) -> Iterator[Result]:
        """Take the message of a worker, give it its next job, and yield its results."""
        try:
            answer: _Answer = worker.connection.recv()
        except (EOFError, OSError):  # OSError: the process ended within a message
            yield from self._replace(worker)
            return
        if answer.error is not None:
            raise answer.error
        worker.is_ready, worker.job = True, None
        if self._jobs:
            self._send(worker)
        else:
            self._finished.append(self._workers.pop(worker.connection))
            worker.connection.close()  # the worker ends
        yield from answer.results

    def _send(self, worker: _Worker[Job]) -> None:
        """Give a worker its next job. If it has just ended, the job stays in the queue and `_receive` finds the end."""
        try:
            worker.connection.send(self._jobs[0])
        except OSError:
            return
        worker.job = self._jobs.popleft()

    def _replace(self, worker: _Worker[Job]) -> Iterator[Result]:
        """Start a process in place of one that ended, and yield the failure of its job."""
        del self._workers[worker.connection]
        ending = worker.end()
        if not worker.is_ready:
            self._num_lost_starts += 1
        if self._num_lost_starts > self._num_processes:
            raise UserError(
                f"{self._num_lost_starts} processes of `--devices {self._num_processes}` ended before their first job, "
                f"the last one with {ending}; use fewer processes."
            )
        if self._jobs:
            self._start(worker.rank)
        if worker.job is not None:
            yield self._failed(worker.job, f"its process ended with {ending}")


def _work(
    make_runner: Callable[[str], Runner[Any, Any]], connection: Connection, rank: int, num_processes: int
) -> None:
    """Execute the jobs that arrive, until the connection is closed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_with_parent(parent.pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    threads = _threads(num_processes)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    num_cards = torch.cuda.device_count()
    try:
        runner = make_runner(f"cuda:{rank % num_cards}" if num_cards else "cpu")
        connection.send(_Answer([]))
        while True:
            connection.send(_Answer(list(runner.run_all([connection.recv()]))))
    except (EOFError, ConnectionError):  # no job is left
        return
    except Exception as error:
        connection.send(_Answer([], _portable(error)))


def _threads(num_processes: int) -> int:
    """Return the number of computing threads of each process."""
    return max(1, available_cores() // num_processes)


def _portable(error: Exception) -> Exception:
    """Return an exception that can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(describe_exception(error))
    return error


def end_with_parent(parent: int | None = None) -> None:
    """Let this process end when its parent has ended, also by a kill.

    Args:
        parent: Identifier of the parent process. None selects the current one.
    """
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(_PARENT_INTERVAL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
