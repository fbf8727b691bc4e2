"""Execution of jobs in one process or in several, each with a GPU where there is one."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple, Protocol, TypeVar

import cv2
import torch

Job = TypeVar("Job")
JobIn = TypeVar("JobIn", contravariant=True)
Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)


class Runner(Protocol[JobIn, ResultOut]):
    """Executes jobs with networks that are loaded once."""

    def run_all(self, jobs: Iterable[JobIn]) -> Iterator[ResultOut]:
        """Execute jobs and yield the result of each, in any order."""


def run_in_processes(
    make_runner: Callable[[str], Runner[Job, Result]], jobs: Iterable[Job], num_processes: int = 1, device: str = "auto"
) -> Iterator[Result]:
    """Execute jobs and yield the result of each as it completes.

    Args:
        make_runner: Function from the name of a device to a runner; it is pickled if there are several processes.
        jobs: Jobs in the order in which they start.
        num_processes: Number of processes; 1 executes all jobs in this one. Process i uses GPU i modulo their number.
        device: Device of a single process.

    Raises:
        Exception: The first exception of a job, after the results of the jobs in progress have been yielded.
    """
    if num_processes == 1:
        yield from make_runner(device).run_all(jobs)
        return
    context = multiprocessing.get_context("spawn")
    ranks = context.Queue()
    for rank in range(num_processes):
        ranks.put(rank)
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    with ProcessPoolExecutor(num_processes, context, _start_worker, (make_runner, ranks, threads)) as pool:
        try:
            yield from _completed({pool.submit(_run_in_worker, job) for job in jobs})
        finally:
            pool.shutdown(cancel_futures=True)


def _completed(futures: set[Future[list[Result]]]) -> Iterator[Result]:
    failure: BaseException | None = None
    for future in as_completed(futures):
        futures.discard(future)  # masks of many sequences are large
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            yield from future.result()
        elif failure is None:
            failure = error
            for other in futures:
                other.cancel()
    if failure is not None:
        raise failure


class _Worker(NamedTuple):
    make_runner: Callable[[str], Runner[Any, Any]]
    device: str


_worker: list[_Worker] = []
"""Arguments of this worker process."""


def _start_worker(
    make_runner: Callable[[str], Runner[Any, Any]], ranks: multiprocessing.Queue[int], threads: int
) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    num_cards = torch.cuda.device_count()
    _worker.append(_Worker(make_runner, f"cuda:{ranks.get() % num_cards}" if num_cards else "cpu"))


@functools.cache
def _worker_runner() -> Runner[Any, Any]:
    return _worker[0].make_runner(_worker[0].device)


def _run_in_worker(job: Any) -> list[Any]:
    return list(_worker_runner().run_all([job]))
