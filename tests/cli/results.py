"""Evaluations in tests, and reading their results folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from alpharefine.cli import evaluate
from alpharefine.trackers import Track, TrackState


def metrics_in(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    assert content["version"] == 1
    return content


def runs_in(out: Path) -> dict[str, Any]:
    """Runs of the only tracker."""
    ((_, tracker),) = metrics_in(out)["trackers"].items()
    assert set(tracker) == {"runs", "settings"}
    runs: dict[str, Any] = tracker["runs"]
    return runs


def tracker_in(out: Path) -> Path:
    """Folder of the only tracker."""
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


def files_in(folder: Path) -> list[str]:
    """Files below a folder, without locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return sorted(str(path.relative_to(folder)) for path in files)


class Sure:
    """Stays where it is put; surer in every other frame."""

    def initialize(self, _frame: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box_xywh, self.index = box_xywh, 0

    def track(self, _frame: np.ndarray) -> Track:
        self.index += 1
        return Track(self.box_xywh, 0.9 if self.index % 2 else 0.1, TrackState.NORMAL)

    def set_box(self, box_xywh: np.ndarray) -> None:
        self.box_xywh = box_xywh


SURE = f"{__name__}:Sure"


def folder_of(root: Path, name: str) -> Path:
    return root / name.rpartition("-")[0] / name


def run(*arguments: object) -> None:
    evaluate.main([str(argument) for argument in arguments])
