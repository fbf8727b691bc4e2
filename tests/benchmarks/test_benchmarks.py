"""The benchmarks run, and the table and the file say what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES, main, table
from benchmarks.rows import Row, alternate, medians

ROOT = Path(__file__).resolve().parents[2]


def test_ratios_say_how_many_times_faster() -> None:
    assert Row("a", "ms", 2.0, 6.0).ratio == 3
    assert Row("a", "pairs/s", 6.0, 2.0).ratio == 3
    assert Row("a", "ms", 2.0).ratio is None


def test_table() -> None:
    lines = table([Row("refine", "ms", 2.0, 6.0, "plain", 1.5), Row("track", "ms", 12345.6)]).splitlines()
    assert lines[2:] == ["| refine | ms | 6 | 2 | 3.00 | 1.5 | plain |", "| track | ms |  | 1.235e+04 |  |  |  |"]


def test_paths_alternate_and_warm_up() -> None:
    calls: list[str] = []
    ticks = iter(range(100))
    paths = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = alternate(paths, rounds=3, warm_up=1, clock=lambda: float(next(ticks)))
    assert calls == ["a", "b"] * 4
    assert medians(times) == {"a": 1.0, "b": 1.0}
    assert len(times["a"]) == 3


def test_no_benchmark_is_started_after_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "track", "--quick", "--limit_s", "0", "--output", str(tmp_path / "found.json")]) == 0
    printed = capsys.readouterr().out
    for name in ("score", "track"):
        assert f"{name}: not measured, because 0 s are over" in printed
    assert "written" not in printed
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_every_benchmark_runs_in_the_dry_mode_of_the_check_on_a_gpu() -> None:
    """`benchmarks/gpu.sh --dry`: its tests are collected and skipped, its file holds a row of each benchmark."""
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["bash", "benchmarks/gpu.sh", "--dry"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = [line for line in done.stdout.splitlines() if line.startswith("written: ")]
    content = json.loads(Path(written.removeprefix("written: ")).read_text())
    assert list(content["rows"]) == list(NAMES)
    assert content["quick"] is True
    assert content["machine"]["gpu"] == "none"
    for rows in content["rows"].values():
        assert rows
        assert all(row["value"] > 0 for row in rows)
        assert all(row["name"] in done.stdout for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("memory_train.py --steps 10 --workers 1 --batch_size 1", "step     10: process"),
        ("memory_evaluate.py --num_frames 20", "published boxes: MiB after every 2 frames"),
        ("memory_track.py --minutes 0.01", "MiB after every 1 frames"),
        ("index.py --sequences 5 --frames 3", "4 workers with a copy each"),
        ("decoders.py alpharefine/synthetic/photos 64 kept", "simplejpeg, upper 70 %"),
        ("tracker_errors.py --help", "Folder of the data sets."),
    ],
)
def test_the_scripts_run(command: str, printed: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    script, *options = command.split()
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *options],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert printed in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [("refin", "no benchmark refin; there are train_step, refine"), ("--limit_s -1", "--limit_s must be")],
)
def test_an_impossible_option_is_refused(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(options.split())
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_the_check_on_a_gpu_needs_one() -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["bash", "benchmarks/gpu.sh"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no GPU: give --dry to run on the CPU" in done.stderr
