"""Imports point one way; see the table of layers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each module may import from its own component and from components in earlier lines, nothing else of the project.
LAYERS = [
    ["alpharefine.errors", "alpharefine.notes", "alpharefine.options"],
    ["alpharefine.boxes", "alpharefine.cores", "alpharefine.tracking"],
    ["alpharefine.crops", "alpharefine.masks"],
    ["alpharefine.models", "alpharefine.data", "alpharefine.metrics"],
    ["alpharefine.checkpoints", "alpharefine.synthetic", "alpharefine.video"],
    ["alpharefine.inference", "alpharefine.training", "alpharefine.trackers"],
    ["alpharefine"],  # the package's own __init__, which offers the refiner
    ["alpharefine.evaluation", "alpharefine.export"],
    ["alpharefine.report"],
    ["datamodules"],
    ["alpharefine.cli", "alpharefine.integrations"],
    ["train", "evaluate", "alpharefine.synthetic.__main__"],
]
RANKS = {component: rank for rank, components in enumerate(LAYERS) for component in components}

# Third-party packages of a component. A component that is not listed may use any dependency.
LIBRARIES = {
    "alpharefine.errors": set(),
    "alpharefine.boxes": {"numpy", "torch"},
    "alpharefine.tracking": {"wandb"},
    "alpharefine.models": {"torch", "torchvision"},
    "alpharefine.inference": {"numpy", "torch", "onnx", "onnxruntime", "google"},
    "alpharefine.training.losses": {"torch", "torchvision"},
    "alpharefine.integrations": {"cv2", "numpy", "supervision"},
    "alpharefine.trackers": {"cv2", "numpy", "torch", "torchvision", "jsonargparse"},
}

WANDB = ("alpharefine.tracking", "alpharefine.training.wandb", "alpharefine.report.wandb")
"""Modules that load wandb when they are imported."""


def modules() -> dict[str, Path]:
    """Every module of the project by its name."""
    files = [ROOT / "train.py", ROOT / "evaluate.py"]
    files += [path for package in ("alpharefine", "datamodules") for path in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported(path: Path) -> Iterator[str]:
    """The names of the modules, and of what is taken from them, that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def component_of(name: str) -> str | None:
    """The component that a module, or a name in it, belongs to; None for other people's."""
    top = name.partition(".")[0]
    if top not in ("alpharefine", "datamodules", "train", "evaluate"):
        return None
    return max((component for component in RANKS if f"{name}.".startswith(f"{component}.")), key=len)


def test_every_module_has_its_component() -> None:
    names = set(modules())
    assert {"alpharefine.models.network", "alpharefine", "datamodules.pairs", "train", "evaluate"} <= names
    outside = {name for name in names if component_of(name) == "alpharefine"} - {"alpharefine"}
    assert not outside, "a new component needs a line in the table of layers"
    assert {component_of(name) for name in names} == set(RANKS), (
        "the table of layers names components that are not there"
    )


@pytest.mark.parametrize("name", modules())
def test_imports_point_one_way(name: str) -> None:
    component = component_of(name)
    assert component is not None
    for target in imported(modules()[name]):
        other = component_of(target)
        if other is not None and other != component:
            assert RANKS[other] < RANKS[component], f"{name} imports {target}, which is not below it"


@pytest.mark.parametrize("name", modules())
def test_wandb_is_imported_in_its_own_modules(name: str) -> None:
    tops = {target.partition(".")[0] for target in imported(modules()[name])}
    assert name in WANDB or "wandb" not in tops


@pytest.mark.parametrize("name", [name for name in modules() if name not in WANDB])
def test_wandb_is_imported_lazily(name: str) -> None:
    for node in ast.parse(modules()[name].read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            taken = [f"{module}.{alias.name}" if module else alias.name for alias in node.names]
            assert not any(f"{part}.".startswith(f"{each}.") for part in taken for each in WANDB)


@pytest.mark.parametrize("component", LIBRARIES)
def test_a_component_is_built_with_its_own_libraries_alone(component: str) -> None:
    for name, path in modules().items():
        if component_of(name) == component:
            tops = {target.partition(".")[0] for target in imported(path)}
            foreign = tops - set(sys.stdlib_module_names) - {"alpharefine"}
            assert foreign <= LIBRARIES[component], f"{name} imports {sorted(foreign - LIBRARIES[component])}"
