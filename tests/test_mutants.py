"""A sample of the mutants of `make mutants`."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NUM_MUTANTS = 60


def mutmut(folder: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def outcomes(folder: Path) -> dict[str, str]:
    """Return the outcome of each mutant by its name."""
    lines = mutmut(folder, "results", "--all", "true").splitlines()
    return dict(line.strip().split(": ") for line in lines)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_nine_of_ten_mutants_are_noticed(tmp_path: Path) -> None:
    pytest.importorskip("mutmut", exc_type=ImportError)
    for name in ("alpharefine", "configs", "datamodules", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "train.py", "evaluate.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    mutmut(tmp_path, "run", "alpharefine.masks.x_mask_to_box__mutmut_1")
    names = sorted(outcomes(tmp_path))
    assert len(names) > 1000
    sample = random.Random(0).sample(names, NUM_MUTANTS)
    mutmut(tmp_path, "run", *sample)
    found = outcomes(tmp_path)
    survived = [name for name in sample if found[name] not in ("killed", "timeout")]
    assert len(survived) <= NUM_MUTANTS // 10, survived
