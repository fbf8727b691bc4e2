"""Configuration files: the folder of the shipped ones, and files that are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from alpharefine.cli import evaluate, train
from alpharefine.cli.command import run_command
from alpharefine.cli.configs import find_configs
from tests.training_runs import PROJECT, run


def test_those_of_an_installed_package(tmp_path: Path) -> None:
    package = shutil.copytree(PROJECT / "alpharefine", tmp_path / "site" / "alpharefine")
    shutil.copytree(PROJECT / "configs", package / "configs")
    (tmp_path / "site" / "configs").mkdir()  # another package's
    program = "from alpharefine.cli.configs import CONFIGS; print(CONFIGS)"
    done = run("-c", program, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.stdout.strip() == str(package / "configs")


def bomb(levels: int = 9) -> str:
    lists = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lists += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lists)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(bomb(), "more than 100000 values when its aliases are written out", id="aliases"),
        pytest.param("a: &a [1, *a]", "nested too deeply", id="alias of itself"),
        pytest.param("[" * 100_000, "nested too deeply", id="brackets"),
        pytest.param("a: 1\n" * 300_000, "larger than 1 MiB", id="long"),
        pytest.param("a: [1", "is not a YAML file", id="open bracket"),
        pytest.param(b"\xff\xfe\x00", "is not a YAML file", id="no text"),
        pytest.param(":::[", "bomb.yaml must hold options by name; correct it", id="no options"),
    ],
)
@pytest.mark.parametrize("main", [evaluate.main, train.main], ids=["evaluate", "train"])
def test_a_configuration_that_would_fill_the_memory_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | bytes,
    message: str,
    main: Callable[[list[str]], None],
) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    command = ["fit"] if main is train.main else []
    assert run_command(lambda: main([*command, "--config", str(path)])) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_aliases_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(bomb(levels=3))
    assert find_configs(["--config", str(path)]) == [f"--config={path}"]
    path.write_text("")
    assert find_configs(["--config", str(path)]) == [f"--config={path}"]
