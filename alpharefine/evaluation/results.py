"""Results folder: layout, files, and the recorded settings that determine the boxes.

Layout, version 1; `docs/evaluation.md` describes each file::

    <output_dir>/
      config.yaml                      resolved configuration of the last `evaluate` that wrote a result
      metrics.json                     scores of the trackers of the last command
      videos/<tracker>/<sequence>.mp4  with `--save_video`
      <tracker>/<base or refined>/
        settings.json                  settings that determine the boxes
        <sequence>.txt                 x,y,w,h per frame; a file that exists is complete
        times/<sequence>.txt           milliseconds per frame: decoding, base tracker, refinement
        counts/<sequence>.json         number of frames: refined, and not refined by reason
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from filelock import FileLock

from alpharefine import __version__
from alpharefine.data.archives import MAX_FILE_SIZE
from alpharefine.data.text import format_rows, read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.config import EvaluationConfig
from alpharefine.evaluation.failures import FrameCounts
from alpharefine.evaluation.run import TIME_COLUMNS, SequenceResult
from alpharefine.evaluation.settings import RUNS, RunSettings
from alpharefine.trackers import find_tracker
from alpharefine.trackers.result_files import require_rows, require_xywh

VERSION = 1
"""Version of the layout and of `metrics.json`."""

CONFIG_FILE, METRICS_FILE, SETTINGS_FILE, CURVES_FILE = "config.yaml", "metrics.json", "settings.json", "curves.npz"
_LOCK_FILE = ".lock"
_MAX_TIME_MS = 1e9


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
        """Write the masks, the times, the counts and then the boxes of a sequence.

        Args:
            name: Name of the sequence.
            result: Boxes, times, counts and masks. The folder of the masks is moved, or removed after an error.

        Raises:
            UserError: If a file cannot be written, or another command has overwritten the run.
        """
        try:
            self.begin()
            with self._lock():  # between the check and the last file, no other command may overwrite the run
                self._write(name, result)
        finally:
            if result.mask_folder is not None:
                shutil.rmtree(result.mask_folder, ignore_errors=True)

    def _write(self, name: str, result: SequenceResult) -> None:
        existing = _read_settings(self.path)
        if existing is None or existing["id"] != self._id:
            raise UserError(f"{self.path} was overwritten by another command; give each its own `--output_dir`.")
        if result.mask_folder is not None and result.mask_folder.is_dir():
            self._take_masks(result.mask_folder, self.path / "masks" / name)
        write_whole(self.path / "times" / f"{name}.txt", format_rows(result.times_ms.round(3)))
        write_whole(self.path / "counts" / f"{name}.json", json.dumps(result.counts))
        write_whole(self.boxes_path(name), format_rows(result.boxes_xywh))

    def _lock(self) -> FileLock:
        return FileLock(self.path.parent / _LOCK_FILE)

    def _create(self) -> None:
        """Create the folder beside its place and move it there, so that it is never seen incomplete."""
        run_id = uuid.uuid4().hex
        new, old = (self.path.with_name(f".{self.path.name}-{run_id}-{age}") for age in ("new", "old"))
        for folder in ("times", "counts"):
            (new / folder).mkdir(parents=True)
        settings = _plain(asdict(self.settings))
        created = {"alpharefine": __version__, "date": datetime.now(UTC).date().isoformat()}
        content = {
            "version": VERSION,
            "id": run_id,
            "created": created,
            "stamp": self._stamp,
            "settings": settings,
        }
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
    def _take_masks(source: Path, folder: Path) -> None:
        try:
            shutil.rmtree(folder, ignore_errors=True)  # of a command that was killed before it wrote the boxes
            folder.parent.mkdir(exist_ok=True)
            shutil.move(source, folder)
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
    part = path.with_name(f".{uuid.uuid4().hex}")  # shorter than any name that a disk accepts
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
    runs = {name: folders for name, folders in runs.items() if folders}
    if not runs:
        raise UserError(f"{output_dir} holds no run of `evaluate`; give the `--output_dir` of a run.")
    return runs


def read_run_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a run, and `created`: version and date of its begin, for `metrics.json`.

    Args:
        folder: Folder of the run.

    Raises:
        UserError: If the folder holds no run of this layout version.
    """
    content = _read_settings(folder)
    if content is None:
        raise UserError(f"{folder} holds no run of `evaluate`; give another results folder.")
    created = content.get("created")
    return {**content["settings"], **({"created": created} if isinstance(created, dict) else {})}


def save_config(output_dir: Path, config: EvaluationConfig) -> None:
    """Save the configuration of a command with its results.

    Args:
        output_dir: Results folder.
        config: Configuration of the evaluation.
    """
    write_whole(output_dir / CONFIG_FILE, yaml.safe_dump(config_to_dict(config), sort_keys=False))


def config_to_dict(config: EvaluationConfig) -> dict[str, Any]:
    """Return a configuration as plain values, with absolute paths.

    Args:
        config: Configuration of the evaluation.
    """
    values: dict[str, Any] = _plain(asdict(config))
    return values


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
    return {path.stem for path in folder.glob("*.txt") if path.is_file()}


class StoredResult(NamedTuple):
    """Files of one sequence of one run.

    Attributes:
        boxes_xywh: Boxes, ``(N, 4)`` as written.
        times_ms: Milliseconds per frame, ``(N, 3)`` with the columns `TIME_COLUMNS`.
        counts: Number of frames by key of `alpharefine.evaluation.failures.FRAME_COUNTS`.
    """

    boxes_xywh: np.ndarray
    times_ms: np.ndarray
    counts: FrameCounts


def read_result(folder: Path, name: str, truth_xywh: np.ndarray) -> StoredResult:
    """Read the files of one sequence of one run.

    Args:
        folder: Folder of the run.
        name: Name of the sequence.
        truth_xywh: Ground truth, ``(N, 4)``; its first row is the initial box of the tracker.

    Raises:
        UserError: If a file is missing, malformed, too large or shorter than the sequence, or the boxes have another
            format than x, y, width, height.
    """
    boxes_xywh, times_path = read_boxes(folder, name, truth_xywh), folder / "times" / f"{name}.txt"
    times_ms = require_rows(_read_rows(times_path, len(TIME_COLUMNS)), len(truth_xywh), str(times_path))
    if not ((times_ms >= 0) & (times_ms < _MAX_TIME_MS)).all():
        raise UserError(f"{times_path} must hold milliseconds, finite and not negative; run the sequence again.")
    return StoredResult(boxes_xywh, times_ms, _read_counts(folder / "counts" / f"{name}.json"))


def read_boxes(folder: Path, name: str, truth_xywh: np.ndarray) -> np.ndarray:
    """Read the boxes of one sequence of one run.

    Args:
        folder: Folder of the run.
        name: Name of the sequence.
        truth_xywh: Ground truth, ``(N, 4)``; its first row is the initial box of the tracker.

    Returns:
        ``(N, 4)`` as written.

    Raises:
        UserError: If the file is missing, malformed, too large or shorter than the sequence, or the boxes have another
            format than x, y, width, height.
    """
    path = folder / f"{name}.txt"
    boxes_xywh = require_rows(_read_rows(path, 4), len(truth_xywh), str(path))
    require_xywh(boxes_xywh[0], truth_xywh[0], str(path))
    return boxes_xywh


def _read_rows(path: Path, columns: int) -> np.ndarray:
    _require_small(path)
    return read_rows(path, columns)


def _require_small(path: Path) -> None:
    if path.is_file() and path.stat().st_size > MAX_FILE_SIZE:
        raise UserError(f"{path} is larger than {MAX_FILE_SIZE >> 20} MiB, which no result is; remove it.")


def _read_counts(path: Path) -> FrameCounts:
    """Read the counts of a sequence; none if the file is missing, because boxes may come from elsewhere."""
    _require_small(path)
    if not path.is_file():
        return {}
    try:
        counts = json.loads(path.read_text())
    except (ValueError, RecursionError):
        counts = None
    valid = isinstance(counts, dict) and all(type(number) is int and number >= 0 for number in counts.values())
    if not valid:
        raise UserError(f"{path} must hold numbers of frames; remove it, and run the sequence again.")
    return dict(counts)


def median_times(times_ms: Iterable[np.ndarray]) -> dict[str, float]:
    """Return the median milliseconds per frame by column, without first frames, which include initialization.

    Args:
        times_ms: Milliseconds of each sequence, ``(N, 3)`` with the columns `TIME_COLUMNS`.
    """
    every = [times[1:] for times in times_ms]
    times = np.concatenate([np.zeros((0, len(TIME_COLUMNS))), *every])
    medians = np.median(times, axis=0) if len(times) else np.zeros(len(TIME_COLUMNS))
    return dict(zip(TIME_COLUMNS, medians.round(3).tolist(), strict=True))


def _require_writable(path: Path) -> None:
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"`--output_dir`: {nearest} is not a writable folder; give another one.")


def _read_settings(path: Path) -> dict[str, Any] | None:
    """Read the settings of the run in a folder. Return None if the folder is missing or empty."""
    file = path / SETTINGS_FILE
    settings: Any = None
    try:
        if file.is_file() or not file.exists():
            settings = json.loads(file.read_text())
    except FileNotFoundError:
        if not path.is_dir() or not any(path.iterdir()):
            return None
    except (ValueError, RecursionError):
        pass
    is_ours = isinstance(settings, dict) and settings.get("version") == VERSION and isinstance(settings.get("id"), str)
    if not is_ours or not all(isinstance(settings.get(part), dict) for part in ("stamp", "settings")):
        raise UserError(
            f"{path} is not empty and holds no run of `evaluate` of layout version {VERSION}; give another "
            "`--output_dir`."
        )
    return dict(settings)


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
