"""The package: what it imports, and its version."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import alpharefine
from tests.training_runs import PROJECT, run


def imported_by(program: str) -> set[str]:
    """Names of the top-level modules that a program imports."""
    program += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = run("-c", program, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_package_imports_no_framework() -> None:
    found = imported_by("import alpharefine; alpharefine.UserError, alpharefine.__version__")
    assert "alpharefine" in found
    assert not found & {"torch", "numpy", "cv2", "pytorch_lightning", "lightning_fabric", "wandb", "albumentations"}


def test_the_refiner_imports_no_training_library(checkpoint: Path) -> None:
    found = imported_by(
        f"from alpharefine import Refiner, Refinement, Template; Refiner.from_checkpoint({str(checkpoint)!r}, 'cpu')"
    )
    assert {"torch", "torchvision"} <= found
    assert not found & {"pytorch_lightning", "lightning_fabric", "torchmetrics", "wandb", "albumentations"}


def test_an_evaluation_imports_no_training_library(lasot_root: Path, tmp_path: Path, checkpoint: Path) -> None:
    arguments = ["--tracker", "oracle", "--data_root", str(lasot_root), "--ckpt", str(checkpoint)]
    arguments += ["--output_dir", str(tmp_path / "out")]
    found = imported_by(f"from alpharefine.cli import evaluate; evaluate.main({arguments})")
    assert "torchmetrics" in found
    assert not found & {"pytorch_lightning", "lightning_fabric", "wandb", "albumentations"}


def test_help_imports_no_framework() -> None:
    program = "from alpharefine.cli.main import main\ntry: main(['evaluate', '--help'])\nexcept SystemExit: pass\npass"
    found = imported_by(program)
    assert not found & {"torch", "cv2", "torchmetrics", "pytorch_lightning"}


def test_the_options_import_no_framework() -> None:
    found = imported_by("import alpharefine.inference.options")
    assert not found & {"torch", "numpy", "cv2"}


def test_an_unknown_name_of_the_package() -> None:
    with pytest.raises(AttributeError, match="module 'alpharefine' has no attribute 'Refinner'"):
        _ = alpharefine.Refinner  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_project_file() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert alpharefine.__version__ == project["version"]
