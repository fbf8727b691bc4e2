"""Signals save and end a run, in this process and in others, and one command continues it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from alpharefine.cli.train import main
from alpharefine.data.pairs import EpochSampler, PairDataset
from alpharefine.errors import UserError
from alpharefine.training.last_checkpoint import LastCheckpoint
from alpharefine.training.task import RefineTask
from tests.training_runs import PROJECT, arguments, assert_equal_states, quick_forward, read_checkpoint, read_metrics

LONG = {"data__pairs_per_epoch": 8, "data__val_pairs": 2, "model__heads": "[corner]"}
PROCESS = LONG | {
    "model__backbone": "mobilenet_v3_small",
    "data__batch_size": 1,
    "data__pairs_per_epoch": 20,
    "data__val_pairs": 1,
    "checkpoint__every_n_train_steps": 1,
    "trainer__max_epochs": 1,
    "resume": "auto",
}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


@pytest.fixture
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(RefineTask, "forward", quick_forward)


@pytest.fixture
def signal_before(monkeypatch):
    """Return a function that sends a signal to this process before a batch of a step."""
    start = LastCheckpoint.on_train_batch_start
    monkeypatch.setattr(LastCheckpoint, "on_train_batch_start", start)

    def install(signum: int, step: int) -> None:
        def sent(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.global_step == step:
                os.kill(os.getpid(), signum)
            start(self, trainer, pl_module, batch, batch_idx)

        monkeypatch.setattr(LastCheckpoint, "on_train_batch_start", sent)

    return install


def measured(run_dir: Path, version: int = 0) -> list[dict[str, float]]:
    """Rows of the log with losses or validations. The learning rate is logged before a run stops."""
    return [row for row in read_metrics(run_dir, version) if {"train/loss", "val/iou"} & set(row)]


@pytest.mark.usefixtures("_quick")
class TestSignals:
    @pytest.mark.parametrize(("signum", "step"), [(signal.SIGTERM, 1), (signal.SIGUSR1, 3), (signal.SIGTERM, 4)])
    def test_save_and_continue(self, data_root, tmp_path, signal_before, capsys, signum, step) -> None:
        command = {"resume": "auto", **LONG}
        main(arguments(data_root, tmp_path, name="straight", **command))
        signal_before(signum, step)
        with pytest.raises(SystemExit) as left:
            main(arguments(data_root, tmp_path, **command))
        assert left.value.code == 128 + signum
        last = tmp_path / "small" / "checkpoints" / "last.ckpt"
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"stopped by {signum.name}: step {step} is saved in {last}; continue with `--resume auto`"
        )
        assert read_checkpoint(tmp_path / "small")["global_step"] == step
        signal_before(signum, 99)
        main(arguments(data_root, tmp_path, **command))
        assert_equal_states(
            read_checkpoint(tmp_path / "small")["state_dict"], read_checkpoint(tmp_path / "straight")["state_dict"], 0
        )
        rows = measured(tmp_path / "small") + measured(tmp_path / "small", 1)
        assert rows == measured(tmp_path / "straight")
        main(arguments(data_root, tmp_path, **command))  # nothing is left to do
        assert read_checkpoint(tmp_path / "small")["global_step"] == 8

    def test_before_the_first_step(self, data_root, tmp_path, signal_before, capsys) -> None:
        signal_before(signal.SIGTERM, 0)
        with pytest.raises(SystemExit) as left:
            main(arguments(data_root, tmp_path, **LONG))
        assert left.value.code == 143
        assert "stopped by SIGTERM: no step was made" in capsys.readouterr().err
        assert not (tmp_path / "small" / "checkpoints" / "last.ckpt").exists()

    def test_ctrl_c(self, data_root, tmp_path, signal_before) -> None:
        signal_before(signal.SIGINT, 1)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job in the background
        try:
            with pytest.raises(KeyboardInterrupt):
                main(arguments(data_root, tmp_path, **LONG))
        finally:
            signal.signal(signal.SIGINT, before)

    @pytest.mark.parametrize("num_sanity_steps", [0, 1])
    def test_before_the_training(self, data_root, tmp_path, monkeypatch, num_sanity_steps) -> None:
        """In the sanity check, and without one."""

        def sent(_: object) -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return 1

        monkeypatch.setattr(EpochSampler, "__len__", sent)
        options = {"trainer__num_sanity_val_steps": num_sanity_steps, **LONG, "data__batch_size": 1}
        with pytest.raises(SystemExit) as left:
            main(arguments(data_root, tmp_path, **options))
        assert left.value.code == 143

    def test_not_inside_an_accumulated_step(self, data_root, tmp_path, signal_before) -> None:
        options = LONG | {"trainer__accumulate_grad_batches": 2, "checkpoint__train_time_interval": "0:00:00"}
        main(arguments(data_root, tmp_path, name="straight", **options))
        signal_before(signal.SIGTERM, 1)
        with pytest.raises(SystemExit):
            main(arguments(data_root, tmp_path, **options))
        signal_before(signal.SIGTERM, 99)
        main(arguments(data_root, tmp_path, "--resume", **options))
        assert_equal_states(
            read_checkpoint(tmp_path / "small")["state_dict"], read_checkpoint(tmp_path / "straight")["state_dict"], 0
        )


def start(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"} | environment
    program = [sys.executable, str(PROJECT / "train.py"), *command]
    return subprocess.Popen(
        program, cwd=folder, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
class TestProcesses:
    @pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.exhaustive), 2])
    def test_a_signal_to_all_processes(self, data_root, tmp_path, num_workers) -> None:
        """As `timeout`, container engines and schedulers send it."""
        options = PROCESS | {"data__pairs_per_epoch": 200, "data__num_workers": num_workers}
        process = start(tmp_path, *arguments(data_root, tmp_path, **options))
        wait_for(tmp_path / "small" / "checkpoints" / "last.ckpt", process)
        os.killpg(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 143, err
        assert "Traceback" not in err
        assert "stopped by SIGTERM: step" in err

    @pytest.mark.faults
    def test_a_requeued_job_continues(self, data_root, tmp_path) -> None:
        program = tmp_path / "bin" / "scontrol"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requests\n')
        program.chmod(0o755)
        environment = SLURM | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
        command = arguments(data_root, tmp_path, **(PROCESS | {"data__num_workers": 1}))
        process = start(tmp_path, *command, **environment)
        wait_for(tmp_path / "small" / "checkpoints" / "last.ckpt", process)
        process.send_signal(signal.SIGUSR1)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGUSR1, err
        assert (tmp_path / "requests").read_text() == "requeue 4711\n"
        assert err.splitlines()[-1] == "job 4711 is requeued"
        assert not list((tmp_path / "small").glob("hpc_ckpt*"))
        step = read_checkpoint(tmp_path / "small")["global_step"]
        again = start(tmp_path, *command, **environment, SLURM_RESTART_COUNT="1")
        _, err = again.communicate(timeout=300)
        assert again.returncode == 0, err
        assert min(row["step"] for row in measured(tmp_path / "small", 1)) == step
        assert read_checkpoint(tmp_path / "small")["global_step"] == 20

    @pytest.mark.ddp
    @pytest.mark.faults
    def test_two_processes(self, data_root, tmp_path) -> None:
        options = PROCESS | {"trainer__devices": 2, "trainer__strategy": "ddp"}
        done = start(tmp_path, *arguments(data_root, tmp_path, name="straight", **options))
        assert done.communicate(timeout=300)
        assert done.returncode == 0
        for receiver in ("first", "second"):
            command = arguments(data_root, tmp_path, name=receiver, **options)
            process = start(tmp_path, *command)
            wait_for(tmp_path / receiver / "checkpoints" / "last.ckpt", process)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]) if receiver == "second" else process.pid, signal.SIGTERM)
            _, err = process.communicate(timeout=120)
            assert process.returncode == 143, err
            assert err.count("stopped by SIGTERM") == 1
            assert 0 < read_checkpoint(tmp_path / receiver)["global_step"] < 10
            again = start(tmp_path, *command)
            _, err = again.communicate(timeout=300)
            assert again.returncode == 0, err
            assert_equal_states(
                read_checkpoint(tmp_path / receiver)["state_dict"],
                read_checkpoint(tmp_path / "straight")["state_dict"],
                0,
            )


@pytest.mark.usefixtures("_quick")
class TestDamage:
    @pytest.fixture
    def stopped(self, data_root, tmp_path, signal_before) -> Path:
        """Folder of the checkpoints of a run of eight steps that was stopped after three."""
        signal_before(signal.SIGTERM, 3)
        with pytest.raises(SystemExit):
            main(arguments(data_root, tmp_path, checkpoint__every_n_train_steps=1, **LONG))
        signal_before(signal.SIGTERM, 99)
        return tmp_path / "small" / "checkpoints"

    def test_the_one_before(self, data_root, tmp_path, stopped, capsys) -> None:
        assert torch.load(stopped / "last.previous.ckpt", weights_only=True)["global_step"] == 2
        content = (stopped / "last.ckpt").read_bytes()
        (stopped / "last.ckpt").write_bytes(content[: len(content) // 2])
        main(arguments(data_root, tmp_path, resume="auto", **LONG))
        (line,) = (line for line in capsys.readouterr().err.splitlines() if "continuing" in line)
        assert line.startswith(f"{stopped / 'last.ckpt'}: cannot be read (BadZipFile: ")
        assert line.endswith(f"; continuing from {stopped / 'last.previous.ckpt'}")
        assert min(row["step"] for row in read_metrics(tmp_path / "small", 1)) == 2

    def test_a_damaged_one_does_not_replace_the_one_before(self, data_root, tmp_path, stopped, not_fitted) -> None:
        content = bytearray((stopped / "last.ckpt").read_bytes())
        content[len(content) // 2] ^= 255
        (stopped / "last.ckpt").write_bytes(content)
        main(arguments(data_root, tmp_path, resume="auto", **LONG))
        ((_, _, checkpoint),) = not_fitted
        assert checkpoint == stopped / "last.previous.ckpt"
        assert not (stopped / "last.ckpt").exists()

    @pytest.mark.parametrize("resume", ["auto", "true"])
    def test_none_that_reads(self, data_root, tmp_path, stopped, resume) -> None:
        content = bytearray((stopped / "last.ckpt").read_bytes())
        content[len(content) // 2] ^= 255
        (stopped / "last.ckpt").write_bytes(content)
        (stopped / "last.previous.ckpt").write_bytes(b"")
        with pytest.raises(UserError, match=r"`--resume`: .*last.ckpt: .* is damaged; .*previous.ckpt: cannot"):
            main(arguments(data_root, tmp_path, resume=resume, **LONG))

    @pytest.mark.usefixtures("stopped")
    def test_other_batches_inside_an_epoch(self, data_root, tmp_path) -> None:
        for name, value in (("batch_size", 4), ("pairs_per_epoch", 16), ("seed", 1)):
            with pytest.raises(UserError, match=rf"`data\.{name}` was \d in the epoch .*, got {value}; restore"):
                main(arguments(data_root, tmp_path, "--resume", **(LONG | {f"data__{name}": value})))


def test_a_killed_worker_is_one_line(data_root, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(PairDataset, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match=r"^DataLoader worker \(pid.*; continue with `--resume auto`"):
        main(arguments(data_root, tmp_path, data__num_workers=1, **LONG))


@pytest.mark.usefixtures("_quick")
class TestOptions:
    def test_overfit_batches(self, data_root, tmp_path) -> None:
        """Lightning replaces the samplers."""
        with pytest.warns(UserWarning, match="You requested to overfit"):
            main(arguments(data_root, tmp_path, trainer__overfit_batches=2, **LONG))
        assert read_checkpoint(tmp_path / "small")["global_step"] == 4

    def test_auto_starts_a_run(self, data_root, tmp_path, not_fitted) -> None:
        main(arguments(data_root, tmp_path, "--resume", "auto"))
        ((_, _, checkpoint),) = not_fitted
        assert checkpoint is None

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            (
                {"checkpoint__save_last": "true"},
                r"`--checkpoint\.save_last` has no use, because `last\.ckpt`",
            ),
            ({"checkpoint__save_on_exception": "true"}, r"`--checkpoint\.save_on_exception` has no use"),
            ({"checkpoint__every_n_train_steps": 0}, r"`--checkpoint\.every_n_train_steps` must be at least 1"),
            ({"resume": "maybe"}, "resume"),
        ],
    )
    def test_without_effect(self, data_root, tmp_path, not_fitted, option, message) -> None:
        with pytest.raises(UserError, match=message):
            main(arguments(data_root, tmp_path, **option))
        assert not not_fitted

    def test_time(self, data_root, tmp_path, monkeypatch) -> None:
        saved = []
        monkeypatch.setattr(LastCheckpoint, "_save", lambda _, trainer, **__: saved.append(trainer.global_step))
        main(arguments(data_root, tmp_path, checkpoint__train_time_interval="0:00:00", trainer__max_epochs=1, **LONG))
        assert saved == [1, 2, 3, 4]
