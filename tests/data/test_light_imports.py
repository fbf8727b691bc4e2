"""Readers do not load heavy libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The stand-in for the package skips its own `__init__`, which offers the refiner.
SCRIPT = """
import importlib, sys, types
package = types.ModuleType("alpharefine")
package.__path__ = ["alpharefine"]
sys.modules["alpharefine"] = package
sys.path.insert(0, ".")
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print(sorted({"albumentations", "pycocotools", "pytorch_lightning", "torch"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("modules", "loaded"),
    [
        (["data.lasot", "data.got10k", "data.trackingnet", "data.coco", "data.index", "data.augmentation"], []),
        (["synthetic"], []),
        (["data.pairs"], ["torch"]),
    ],
    ids=["readers", "synthetic", "pairs"],
)
def test_what_a_module_loads(modules: list[str], loaded: list[str]) -> None:
    names = ",".join(f"alpharefine.{name}" for name in modules)
    done = subprocess.run([sys.executable, "-c", SCRIPT, names], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loaded)
