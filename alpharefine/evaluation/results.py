"""Results folder: layout, files, and the recorded settings that determine the boxes.

Layout, version 1; `docs/evaluation.md` describes each file::

    <output_dir>/
      config.yaml                      resolved configuration of the last `evaluate` without failures
      metrics.json                     scores of the trackers of the last command
      <tracker>/<base or refined>/
        settings.json                  settings that determine the boxes
        <sequence>.txt                 x,y,w,h per frame; a file that exists is complete
        times/<sequence>.txt           milliseconds per frame: decoding, base tracker, refinement
        masks/<sequence>/%08d.png      with `--save_masks`, from 00000002.png
        curves.npz                     curves of every sequence
        submission.zip                 for data sets with an evaluation server
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from filelock import FileLock

from alpharefine.data.text import format_rows, read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.config import EvaluationConfig
from alpharefine.evaluation.run import TIME_COLUMNS, SequenceResult
from alpharefine.evaluation.settings import RUNS, RunSettings
from alpharefine.trackers import find_tracker

VERSION = 1
"""Version of the layout and of `metrics.json`."""

CONFIG_FILE, METRICS_FILE, SETTINGS_FILE, CURVES_FILE = "config.yaml", "metrics.json", "settings.json", "curves.npz"
_LOCK_FILE = ".lock"


class RunFolder:
    """Files of one run of one tracker.

    The box file of a sequence is written last and atomically, so a sequence with a box file is done. Nothing is created
    or discarded before `begin` or the first `write`. Several processes and machines may write to one folder. The first
    one creates it, and the others join it if their settings are the same.

    Args:
        path: Folder of the run.
        settings: Settings of the run.
        overwrite: Discard the results of an earlier run.
        results_digest: Digest of the published results, if the run replays some.

    Raises:
        UserError: If the folder holds a run with other settings, holds other files, or is not writable.
    """

    def __init__(
        self, path: Path, settings: RunSettings, overwrite: bool = False, results_digest: str | None = None
    ) -> None:
        self.path, self.settings = path, settings
        self._stamp = _stamp(settings, results_digest)
        self._overwrite = overwrite
        self._id: str | None = None
        _require_writable(path)
        existing = _read_settings(path)
        if existing is not None and not overwrite:
            self._join(existing)

    def boxes_path(self, name: str) -> Path:
        """Return the path of a sequence's boxes.

        Args:
            name: Name of the sequence.
        """
        return self.path / f"{name}.txt"

    def is_done(self, name: str) -> bool:
        """Return True if the boxes of a sequence are complete.

        Args:
            name: Name of the sequence.
        """
        return self._id is not None and self.boxes_path(name).is_file()

    def begin(self) -> None:
        """Create the folder, or join a run that another process has begun there.

        Raises:
            UserError: If the folder holds a run with other settings, or cannot be created.
        """
        if self._id is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                existing = None if self._overwrite else _read_settings(self.path)
                if existing is not None:
                    self._join(existing)
                else:
                    self._create()
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be created ({error.strerror}); give another `--output_dir`."
            ) from error

    def write(self, name: str, result: SequenceResult) -> None:
        """Write the masks, the times and then the boxes of a sequence.

        Args:
            name: Name of the sequence.
            result: Boxes, times and masks.

        Raises:
            UserError: If a file cannot be written, or another command has overwritten the run.
        """
        self.begin()
        with self._lock():  # between the check and the last file, no other command may overwrite the run
            existing = _read_settings(self.path)
            if existing is None or existing["id"] != self._id:
                raise UserError(f"{self.path} was overwritten by another command; give each its own `--output_dir`.")
            if result.masks is not None:
                self._write_masks(self.path / "masks" / name, result.masks)
            write_whole(self.path / "times" / f"{name}.txt", format_rows(result.times_ms.round(3)))
            write_whole(self.boxes_path(name), format_rows(result.boxes_xywh))

    def _lock(self) -> FileLock:
        return FileLock(self.path.parent / _LOCK_FILE)

    def _create(self) -> None:
        """Create the folder beside its place and move it there, so that it is never seen incomplete."""
        run_id = uuid.uuid4().hex
        new, old = (self.path.with_name(f".{self.path.name}-{run_id}-{age}") for age in ("new", "old"))
        (new / "times").mkdir(parents=True)
        settings = _plain(asdict(self.settings))
        content = {"version": VERSION, "id": run_id, "stamp": self._stamp, "settings": settings}
        write_whole(new / SETTINGS_FILE, json.dumps(content, indent=1))
        if self.path.is_dir():
            self.path.rename(old)
        new.rename(self.path)
        shutil.rmtree(old, ignore_errors=True)
        self._id = run_id

    def _join(self, existing: dict[str, Any]) -> None:
        _require_same_settings(self.path, existing["stamp"], self._stamp)
        self._id = str(existing["id"])

    @staticmethod
    def _write_masks(folder: Path, masks: list[bytes]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for frame, png in enumerate(masks, start=2):
                (folder / f"{frame:08d}.png").write_bytes(png)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}); free disk space or move it.") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a failure leaves no partial file.

    Args:
        path: Path of the file.
        content: Text or bytes.

    Raises:
        UserError: If it cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); free disk space, or give another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def run_folders(output_dir: Path) -> dict[str, dict[str, Path]]:
    """Find the runs in a results folder.

    Args:
        output_dir: Results folder.

    Returns:
        Folders of the runs, by name of the tracker and name of the run, in alphabetical order of the trackers.

    Raises:
        UserError: If the folder holds no run.
    """
    found: dict[str, dict[str, Path]] = {}
    for settings in sorted(output_dir.glob(f"*/*/{SETTINGS_FILE}")):
        found.setdefault(settings.parent.parent.name, {})[settings.parent.name] = settings.parent
    runs = {name: {run: folders[run] for run in RUNS if run in folders} for name, folders in found.items()}
    if not any(runs.values()):
        raise UserError(f"{output_dir} holds no run of `evaluate`; give the `--output_dir` of a run.")
    return runs


def read_run_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a run, for `metrics.json`.

    Args:
        folder: Folder of the run.

    Raises:
        UserError: If the folder holds no run of this layout version.
    """
    content = _read_settings(folder)
    if content is None:
        raise UserError(f"{folder} holds no run of `evaluate`; give another results folder.")
    settings: dict[str, Any] = content["settings"]
    return settings


def save_config(output_dir: Path, config: EvaluationConfig) -> None:
    """Save the configuration of a command with its results.

    Args:
        output_dir: Results folder.
        config: Configuration of the evaluation.
    """
    write_whole(output_dir / CONFIG_FILE, yaml.safe_dump(_plain(asdict(config)), sort_keys=False))


def _plain(value: Any) -> Any:
    """Convert tuples to lists and paths to absolute ones as text, for JSON and YAML."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value.resolve()) if isinstance(value, Path) else value


def done_sequences(folder: Path) -> set[str]:
    """Return the names of the sequences that a run has completed.

    Args:
        folder: Folder of the run.
    """
    return {path.stem for path in folder.glob("*.txt")}


def read_times(folder: Path, name: str) -> np.ndarray:
    """Read the milliseconds per frame of a sequence.

    Args:
        folder: Folder of the run.
        name: Name of the sequence.

    Returns:
        Milliseconds, ``(N, 3)`` with the columns `TIME_COLUMNS`.
    """
    return read_rows(folder / "times" / f"{name}.txt", len(TIME_COLUMNS))


def median_times(folder: Path, names: Iterable[str]) -> dict[str, float]:
    """Return the median milliseconds per frame by column, without first frames, which include initialization.

    Args:
        folder: Folder of the run.
        names: Names of the sequences.
    """
    times = np.concatenate([read_times(folder, name)[1:] for name in names])
    medians = np.median(times, axis=0) if len(times) else np.zeros(len(TIME_COLUMNS))
    return dict(zip(TIME_COLUMNS, medians.round(3).tolist(), strict=True))


def _require_writable(path: Path) -> None:
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"`--output_dir`: {nearest} is not a writable folder; give another one.")


def _read_settings(path: Path) -> dict[str, Any] | None:
    """Read the settings of the run in a folder. Return None if the folder is missing or empty."""
    try:
        settings = json.loads((path / SETTINGS_FILE).read_text())
    except FileNotFoundError:
        if not path.is_dir() or not any(path.iterdir()):
            return None
        settings = None
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or settings.get("version") != VERSION or "stamp" not in settings:
        raise UserError(
            f"{path} is not empty and holds no run of `evaluate` of layout version {VERSION}; give another "
            "`--output_dir`."
        )
    return settings


def _require_same_settings(path: Path, existing: dict[str, object], current: dict[str, object]) -> None:
    changed = [
        f"{key}: {existing.get(key)} there, {value} now" for key, value in current.items() if existing.get(key) != value
    ]
    if changed:
        raise UserError(
            f"{path} holds a run with other settings ({'; '.join(changed)}); give another `--output_dir`, or "
            "`--overwrite`."
        )


def _stamp(settings: RunSettings, results_digest: str | None) -> dict[str, object]:
    """Return the settings that determine the boxes, with files as digests of their content."""
    entry = find_tracker(settings.tracker.name)
    dataset, refinement = settings.dataset, settings.refinement
    code = entry.code_files(settings.tracker.name)
    in_torch = refinement is not None or entry.runs_in_torch
    stamp: dict[str, object] = {
        "dataset": dataset.name,
        "data_root": None if dataset.root is None else str(dataset.root.resolve()),
        "annotations_dir": None if dataset.annotations_dir is None else str(dataset.annotations_dir.resolve()),
        "first_box": None if dataset.first_box is None else list(dataset.first_box),
        "tracker": settings.tracker.name,
        "tracker_weights": [file_digest(path) for path in settings.tracker.weights],
        "tracker_code": file_digest(*code) if code else None,
        "results": results_digest,
        "device": None if not in_torch else "cuda" if torch.cuda.is_available() else "cpu",
    }
    if refinement is None:
        return {**stamp, "ckpt": None}
    return {**stamp, **asdict(refinement), "ckpt": file_digest(Path(refinement.ckpt))}


def file_digest(*paths: Path) -> str:
    """Return the SHA-256 digest of the content of files, and of their names if there are several.

    Args:
        paths: Paths of the files.

    Raises:
        UserError: If a file is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            raise UserError(f"No file {path}; check `--ckpt` and `--tracker_weights`.")
        stat = path.stat()
        name = f"{path.name}|" if len(paths) > 1 else ""
        digest.update(name.encode() + _content_digest(path.resolve(), stat.st_mtime_ns, stat.st_size))
    return digest.hexdigest()


@functools.cache
def _content_digest(path: Path, mtime_ns: int, size: int) -> bytes:  # noqa: ARG001 - a changed file is another key
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()
