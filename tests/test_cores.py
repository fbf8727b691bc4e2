"""Number of cores that a process may use, and the remark on more threads than cores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from alpharefine import cores
from alpharefine.cores import available_cores, remark_shared_cores
from alpharefine.evaluation.processes import run_in_processes


@pytest.fixture
def quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "cpu.max"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setattr(cores, "QUOTA_FILE", file)
    return file


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("max 100000", 8),
        ("400000 100000", 4),
        ("150000 100000", 2),
        ("20000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
        (None, 8),
    ],
)
def test_a_quota_limits_the_cores(quota: Path, content: str | None, expected: int) -> None:
    if content is not None:
        quota.write_text(content)
    assert available_cores() == expected


@pytest.mark.parametrize(
    ("num_processes", "num_threads", "expected"),
    [
        (1, 2, ""),
        (2, 1, ""),
        (1, 5, "5 computing threads share 2 cores and slow each other down; use a lower `OMP_NUM_THREADS`."),
        (7, 1, "7 computing threads share 2 cores and slow each other down; use fewer processes."),
    ],
)
def test_more_threads_than_cores_are_remarked(
    quota: Path, caplog: pytest.LogCaptureFixture, num_processes: int, num_threads: int, expected: str
) -> None:
    quota.write_text("200000 100000")
    remark_shared_cores(num_processes, num_threads)
    assert "".join(caplog.messages) == expected


class Runner:
    def __init__(self, device: str) -> None:
        self.device = device

    def run_all(self, jobs: Iterable[int]) -> Iterator[int]:
        yield from jobs


def test_an_evaluation_remarks_shared_cores(quota: Path, caplog: pytest.LogCaptureFixture) -> None:
    quota.write_text("100000 100000")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert list(run_in_processes(Runner, [1, 2], lambda job, _: job)) == [1, 2]
    finally:
        torch.set_num_threads(threads)
    assert caplog.messages == [
        "3 computing threads share 1 core and slow each other down; use a lower `OMP_NUM_THREADS`."
    ]
