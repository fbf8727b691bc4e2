"""The example of a sweep, whose trials are started as the agent of wandb does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from wandb import wandb_agent

from alpharefine.cli import train
from tests.training_runs import PROJECT, SMALL
from tests.wandb_files import read_run

SWEEP = yaml.safe_load((PROJECT / "examples" / "sweep.yaml").read_text())
EXTREMES = ("lowest", "highest")


def trial(extreme: str) -> dict[str, Any]:
    """One value of each parameter."""
    place = EXTREMES.index(extreme)
    return {
        name: parameter["values"][-place] if "values" in parameter else parameter[("min", "max")[place]]
        for name, parameter in SWEEP["parameters"].items()
    }


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return a function that starts a trial with further options, and returns its process."""
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # set by the agent, and restored after the test
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(PROJECT)

    def call(values: dict[str, Any], *options: str) -> Any:
        agent = SimpleNamespace(
            _in_jupyter=False,
            _function=None,
            _forward_signals=False,
            _run_processes={},
            _sweep_command=[*SWEEP["command"], *options],
        )
        arguments = {name: {"value": value} for name, value in values.items()}
        command = {"run_id": "trial1", "program": SWEEP["program"], "args": arguments}
        wandb_agent.Agent._command_run(agent, command)
        return agent._run_processes["trial1"]

    return call


@pytest.mark.parametrize("extreme", EXTREMES)
def test_the_parameters_are_options_of_the_command(start, monkeypatch, not_fitted, tmp_path, extreme) -> None:
    monkeypatch.setattr(wandb_agent, "AgentProcess", lambda command, **_: SimpleNamespace(command=command))
    values = trial(extreme)
    env, interpreter, program, *arguments = start(values, f"--output_dir={tmp_path}", "--wandb=off").command
    assert (env, interpreter, program) == ("/usr/bin/env", "python", "train.py")
    train.main(arguments)
    ((task, data, _),) = not_fitted
    for name, value in values.items():
        group, *rest = name.split(".")
        found = dict(task.hparams) if group == "model" else data
        for part in rest:
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert found == pytest.approx(value), name


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_trial_is_a_run_with_a_folder_of_its_own(start, data_root: Path, tmp_path: Path) -> None:
    small = {"limit_train_batches": 1, "limit_val_batches": 1, "max_epochs": 1}
    options = [f"--trainer.{name}={value}" for name, value in small.items()]
    options += [f"--config={SMALL}", f"--data.root={data_root}", f"--output_dir={tmp_path}", "--wandb=offline"]
    process = start(trial("lowest"), *options)
    assert process.wait() == 0
    folder = tmp_path / "sweep-trial1"
    read = read_run(folder)
    assert SWEEP["metric"]["name"] in read.summary
    assert read.config["model"]["lr"] == SWEEP["parameters"]["model.lr"]["min"]
    saved = yaml.safe_load((folder / "logs" / "version_0" / "config.yaml").read_text())
    assert saved["data"]["init_args"]["max_gap"] == SWEEP["parameters"]["data.max_gap"]["values"][0]
