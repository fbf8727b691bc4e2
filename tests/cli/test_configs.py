"""Folder of the shipped configurations."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.training_runs import PROJECT, run


def test_those_of_an_installed_package(tmp_path: Path) -> None:
    package = shutil.copytree(PROJECT / "alpharefine", tmp_path / "site" / "alpharefine")
    shutil.copytree(PROJECT / "configs", package / "configs")
    (tmp_path / "site" / "configs").mkdir()  # another package's
    program = "from alpharefine.cli.configs import CONFIGS; print(CONFIGS)"
    done = run("-c", program, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.stdout.strip() == str(package / "configs")
