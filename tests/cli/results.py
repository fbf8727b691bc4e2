"""Reading results folders in tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


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
