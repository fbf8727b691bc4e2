"""One evaluation over several processes: torchrun, SLURM, and commands of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alpharefine.cli import evaluate, score
from alpharefine.errors import UserError
from alpharefine.evaluation.failures import Failure
from alpharefine.evaluation.launch import Launch, Plan, is_launched, remove_killed_launches, share_out
from tests.cli.results import files_in, metrics_in, runs_in

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "evaluate.py")


def boxes_in(out: Path) -> dict[str, bytes]:
    """Content of the box files."""
    return {name: (out / name).read_bytes() for name in files_in(out) if name.endswith(".txt") and "times/" not in name}


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC_"))}
    return {**kept, "OMP_NUM_THREADS": "1", **variables}


def arguments(root: Path, checkpoint: Path, out: Path) -> list[str]:
    return ["--tracker", "oracle", "--baseline", "--data_root", str(root), "--ckpt", str(checkpoint),
            "--output_dir", str(out)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.ddp
def test_torchrun_gives_the_files_of_one_process(root: Path, tmp_path: Path, checkpoint: Path) -> None:
    evaluate.main(arguments(root, checkpoint, tmp_path / "one"))
    evaluate.main([*arguments(root, checkpoint, tmp_path / "two"), "--flip_test"])
    assert boxes_in(tmp_path / "two") != boxes_in(tmp_path / "one")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, SCRIPT, *arguments(root, checkpoint, tmp_path / "two"), "--overwrite"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("gain") == 1, "the last process alone prints the table"
    assert boxes_in(tmp_path / "two") == boxes_in(tmp_path / "one")
    assert runs_in(tmp_path / "two").keys() == {"base", "refined"}
    for run, scores in runs_in(tmp_path / "one").items():
        assert runs_in(tmp_path / "two")[run]["success_auc"] == scores["success_auc"]
    assert not list((tmp_path / "two").glob(".launch-*"))


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.exhaustive  # torchrun does in every run
def test_slurm_gives_the_files_of_one_process(root: Path, tmp_path: Path, checkpoint: Path) -> None:
    evaluate.main(arguments(root, checkpoint, tmp_path / "one"))
    tasks = [
        subprocess.Popen(
            [sys.executable, SCRIPT, *arguments(root, checkpoint, tmp_path / "two")],
            cwd=ROOT,
            env=environment(
                SLURM_JOB_ID="4711",
                SLURM_JOB_NAME="evaluation",
                SLURM_NTASKS="2",
                SLURM_NTASKS_PER_NODE="2",
                SLURM_NNODES="1",
                SLURM_JOB_NODELIST="localhost",
                SLURM_NODELIST="localhost",
                SLURM_NODEID="0",
                SLURM_PROCID=str(rank),
                SLURM_LOCALID=str(rank),
                SLURM_STEP_ID="0",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(20000 + os.getpid() % 20000),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [task.communicate(timeout=300) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    assert sum(out.count("gain") for out, _ in outputs) == 1
    assert boxes_in(tmp_path / "two") == boxes_in(tmp_path / "one")


def test_two_commands_with_half_of_the_sequences_each(
    root: Path, names: list[str], tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.main(arguments(root, checkpoint, tmp_path / "one"))
    for chosen in (names[:1], names[1:]):
        evaluate.main([*arguments(root, checkpoint, tmp_path / "two"), "--sequences", ",".join(chosen)])
    assert boxes_in(tmp_path / "two") == boxes_in(tmp_path / "one")
    capsys.readouterr()
    score.main([str(tmp_path / "two")])
    assert "3 sequences, 18 frames, protocol lasot" in capsys.readouterr().out
    for run, scores in runs_in(tmp_path / "one").items():
        assert runs_in(tmp_path / "two")[run]["success_auc"] == scores["success_auc"]
    assert metrics_in(tmp_path / "two")["sequences"] == names


def test_devices_are_the_launchers_to_choose(
    root: Path, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="`--devices` is not possible under torchrun or SLURM"):
        evaluate.main([*arguments(root, checkpoint, tmp_path / "out"), "--devices", "2"])


def test_one_of_the_processes_that_finish_at_once_is_the_last(tmp_path: Path) -> None:
    num_processes = 8
    for attempt in range(20):
        plan = Plan(f"launch{attempt}", [[] for _ in range(num_processes)])
        barrier = threading.Barrier(num_processes)

        def finish(rank: int, plan: Plan = plan, barrier: threading.Barrier = barrier) -> list[Failure] | None:
            barrier.wait()
            return Launch(rank, num_processes, "cpu", plan).finish(
                tmp_path, [Failure(f"s-{rank}", "broken", "mil", "base"), Failure("shared", "unreadable")]
            )

        with ThreadPoolExecutor(num_processes) as pool:
            merged = [found for found in pool.map(finish, range(num_processes)) if found is not None]
        assert len(merged) == 1
        expected = ["shared", *(f"s-{rank}" for rank in range(num_processes))]
        assert sorted(failure.sequence for failure in merged[0]) == sorted(expected)
    assert not list(tmp_path.iterdir())


def test_folders_of_killed_launches_are_removed(tmp_path: Path) -> None:
    for name in (".launch-killed", ".launch-killed-finished", ".launch-alive", ".launch-just-begun", "mil"):
        (tmp_path / name).mkdir()
    for folder, ranks in ((".launch-killed", 2), (".launch-killed-finished", 2), (".launch-alive", 2), ("mil", 1)):
        for rank in range(ranks):
            (tmp_path / folder / f"{rank}.lock").touch()
    (tmp_path / ".launch-killed" / "0.json").write_text("[]")
    program = f"""
import time
from filelock import FileLock
lock = FileLock({str(tmp_path / ".launch-alive" / "1.lock")!r})
lock.acquire()
print(flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as living:
        assert living.stdout is not None
        living.stdout.readline()
        remove_killed_launches(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".launch-alive", ".launch-just-begun", "mil"]
        living.kill()
    remove_killed_launches(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".launch-just-begun", "mil"]


def test_sequences_are_shared_out_evenly() -> None:
    costs = {f"s-{i}": float(i * 37 % 101 + 1) for i in range(50)}
    shares = share_out(costs, 4)
    assert sorted(name for share in shares for name in share) == sorted(costs)
    totals = [sum(costs[name] for name in share) for share in shares]
    assert max(totals) - min(totals) <= max(costs.values()) / 4
    assert share_out({}, 2) == [[], []]
    assert share_out({"only": 1.0}, 2) == [["only"], []]


@pytest.mark.parametrize(
    ("variables", "launched"),
    [
        ({}, False),
        ({"TORCHELASTIC_RUN_ID": "none"}, True),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "evaluation"}, True),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "evaluation"}, False),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "evaluation"}, False),
    ],
)
def test_a_launcher_is_recognized(variables: dict[str, str], launched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_launched() is launched
