"""Real processes killed at random moments: nothing is lost, done twice or different.

``make faults`` kills at least 30 times in each case and prints the number of kills. ``make exhaustive`` kills once in a
few cases.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from alpharefine.synthetic import write_lasot
from alpharefine.training.checkpoint_io import LAST, WholeCheckpointIO, find_checkpoint
from tests.cli.test_evaluate_launch import boxes_in
from tests.faults.processes import Interrupted, one_worker, run_undisturbed, whole_command
from tests.training_runs import PROJECT, arguments, read_checkpoint, read_metrics

NUM_KILLS = [1, 30]


def cases(*values: tuple[Any, ...], quick: Sequence[str]) -> list[Any]:
    """Return each case with each number of kills; only quick cases are killed once."""
    marks = {1: pytest.mark.exhaustive, 30: pytest.mark.faults}
    return [
        pytest.param(*case, num_kills, id=f"{name}-{num_kills}", marks=marks[num_kills])
        for name, *case in values
        for num_kills in NUM_KILLS
        if num_kills > 1 or name in quick
    ]


def modified(folder: Path, pattern: str) -> Callable[[], object]:
    """Return a function that gives the files of a folder with their times of modification."""

    def state() -> object:
        found = []
        for path in sorted(folder.glob(pattern)):
            try:
                found.append((path.name, path.stat().st_mtime_ns))
            except FileNotFoundError:  # renamed meanwhile
                continue
        return found

    return state


# ---- training ------------------------------------------------------------------------------------------------------


def command(data_root: Path, out: Path, name: str, num_workers: int, num_processes: int) -> list[str]:
    options: dict[str, Any] = {
        "name": name,
        "model__backbone": "mobilenet_v3_small",
        "data__pairs_per_epoch": 8 * num_processes,
        "data__num_workers": num_workers,
        "checkpoint__every_n_train_steps": 1,
    }
    if num_processes > 1:
        options |= {"trainer__devices": num_processes, "trainer__strategy": "ddp"}
    return [str(PROJECT / "train.py"), *arguments(data_root, out, "--resume", "auto", **options)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_workers", "num_processes", "victims", "num_kills"),
    cases(
        ("0 workers", 0, 1, whole_command),
        ("1 worker", 1, 1, whole_command),
        ("2 workers", 2, 1, whole_command),
        ("2 processes", 0, 2, whole_command),
        ("a worker alone", 2, 1, one_worker),
        quick=["0 workers"],
    ),
)
def test_a_killed_training_ends_like_an_undisturbed_one(
    data_root: Path, tmp_path: Path, num_workers: int, num_processes: int, victims: Any, num_kills: int
) -> None:
    run_undisturbed(command(data_root, tmp_path, "straight", num_workers, num_processes), tmp_path)
    expected = read_checkpoint(tmp_path / "straight")
    losses = {row["step"]: row["train/loss"] for row in read_metrics(tmp_path / "straight") if "train/loss" in row}
    assert len(losses) == 8
    total = 0
    for attempt in itertools.count():
        name = f"killed{attempt}"
        checkpoints = tmp_path / name / "checkpoints"
        interrupted = Interrupted(
            command(data_root, tmp_path, name, num_workers, num_processes),
            tmp_path,
            modified(checkpoints, LAST),
            most_s=2.0,
            victims=victims,
            seed=attempt,
        )
        interrupted.run(max_kills=num_kills - total)
        total += interrupted.num_kills
        found = read_checkpoint(tmp_path / name)
        assert found["global_step"] == expected["global_step"] == 8
        assert_equal(found["state_dict"], expected["state_dict"])
        assert_equal(found["optimizer_states"], expected["optimizer_states"])
        logged: set[float] = set()
        for version in range(len(list((tmp_path / name / "logs").iterdir()))):
            if not (tmp_path / name / "logs" / f"version_{version}" / "metrics.csv").exists():
                continue  # killed before its first step, or all steps were done
            for row in read_metrics(tmp_path / name, version):
                if "train/loss" in row:
                    assert row["train/loss"] == losses[row["step"]], (version, row["step"])
                    logged.add(row["step"])
        assert logged == set(losses), "a step is missing in the logs"
        assert not list(checkpoints.glob(".*.part")), "a part of a checkpoint is left"
        if total >= num_kills:
            break
    print(f"\n{total} kills of a training with {num_workers} workers and {num_processes} processes: same weights")  # noqa: T201


def assert_equal(found: Any, expected: Any) -> None:
    """Compare nested states bit for bit."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        assert found == expected


# ---- checkpoints ---------------------------------------------------------------------------------------------------


def write_checkpoints(folder: Path, first: int, written: Any) -> None:
    """Write checkpoints of rising steps without end, and report each step once it is written."""
    writer = WholeCheckpointIO()
    weights = {"w": torch.zeros(1_000_000)}
    for step in itertools.count(first):
        content = {"state_dict": weights, "loops": {}, "optimizer_states": [], "global_step": step}
        writer.save_checkpoint(content, folder / LAST)
        written.value = step


@pytest.mark.parametrize("num_kills", [5, pytest.param(100, marks=pytest.mark.faults)])
def test_a_checkpoint_is_whole_whenever_its_writing_is_killed(tmp_path: Path, num_kills: int) -> None:
    context = multiprocessing.get_context("fork")  # the interpreter and torch are loaded already
    rng = random.Random(0)
    written = context.Value("q", 0)
    for _ in range(num_kills):
        before = written.value
        process = context.Process(target=write_checkpoints, args=(tmp_path, before + 1, written))
        process.start()
        while written.value == before:
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        path, fault = find_checkpoint(tmp_path)
        assert path is not None
        assert not fault
        step = torch.load(path, weights_only=True)["global_step"]
        assert step in (written.value, written.value + 1), "the last checkpoint is lost"
        written.value = step
    print(f"\n{num_kills} kills during the writing of checkpoints: each file is whole")  # noqa: T201


# ---- evaluation ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "lasot"
    write_lasot(root, num_train=1, num_test=8, num_frames=8, frame_size=(48, 64), seed=2)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_processes", "victims", "num_kills"),
    cases(
        ("1 process", 1, whole_command),
        ("2 processes", 2, whole_command),
        ("a worker alone", 2, one_worker),
        quick=["1 process"],
    ),
)
def test_a_killed_evaluation_ends_like_an_undisturbed_one(
    videos: Path, checkpoint: Path, tmp_path: Path, num_processes: int, victims: Any, num_kills: int
) -> None:
    def evaluation(out: Path) -> list[str]:
        options = {"tracker": "oracle", "data_root": videos, "ckpt": checkpoint, "output_dir": out}
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [str(PROJECT / "evaluate.py"), *flags, "--baseline", "--devices", str(num_processes)]

    run_undisturbed(evaluation(tmp_path / "straight"), tmp_path)
    expected = boxes_in(tmp_path / "straight")
    assert len(expected) == 16
    total = 0
    for attempt in itertools.count():
        out = tmp_path / f"killed{attempt}"
        interrupted = Interrupted(
            evaluation(out), tmp_path, modified(out, "oracle/*/*.txt"), most_s=0.5, victims=victims, seed=attempt
        )
        interrupted.run(max_kills=num_kills - total)
        total += interrupted.num_kills
        assert boxes_in(out) == expected
        assert (out / "metrics.json").is_file()
        if total >= num_kills:
            break
    print(f"\n{total} kills of an evaluation with {num_processes} processes: same boxes")  # noqa: T201
