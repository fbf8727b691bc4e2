"""The folder of a run: its files, and what they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from alpharefine.data.archives import TEXT_SUFFIXES
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.run import TIME_COLUMNS, RunSettings, SequenceResult
from alpharefine.trackers.custom import code_file
from alpharefine.trackers.registry import is_import_path
from alpharefine.trackers.trax import SCHEME, command_files
from alpharefine.trackers.weights import official_file


class RunFolder:
    """The files of a run: ``<sequence>.txt``, ``times/<sequence>.txt``, ``masks/<sequence>/``, ``settings.json``.

    A sequence's boxes are written whole or not at all, and stand for the sequence being done. Nothing is made or
    discarded before there is a first result.

    Args:
        path: the folder; made if it is not there.
        settings: what the run's boxes depend on.
        overwrite: whether to discard what a run with other settings, or with the same, has left there.

    Raises:
        UserError: if the folder holds a run with other settings or something else, or cannot be made.
    """

    def __init__(self, path: Path, settings: RunSettings, overwrite: bool = False) -> None:
        self.path = path
        self.settings = settings
        self._stamp = _stamp(settings)
        self._overwrite = overwrite
        theirs = _settings_in(path)
        self._goes_on = theirs is not None and not overwrite
        if theirs is not None and not overwrite:
            _refuse_other_settings(path, theirs, self._stamp)

    def boxes_path(self, name: str) -> Path:
        """Where the boxes of a sequence lie."""
        return self.path / f"{name}.txt"

    def is_done(self, name: str) -> bool:
        """Whether a sequence has its boxes."""
        return self._goes_on and self.boxes_path(name).is_file()

    def read_times(self, name: str) -> np.ndarray:
        """Milliseconds ``(N, 3)`` of a sequence that is done, columns as `TIME_COLUMNS`."""
        return read_rows(self.path / "times" / f"{name}.txt", len(TIME_COLUMNS))

    def write(self, name: str, result: SequenceResult) -> None:
        """Write the masks, the times, then the boxes of a sequence."""
        if not self._goes_on:
            self._begin()
        if result.masks is not None:
            self._write_masks(self.path / "masks" / name, result.masks)
        times = "".join(",".join(f"{ms:.3f}" for ms in row) + "\n" for row in result.times_ms.tolist())
        write_whole(self.path / "times" / f"{name}.txt", times)
        boxes = "".join(",".join(map(repr, row)) + "\n" for row in result.boxes_xywh.tolist())
        write_whole(self.boxes_path(name), boxes)

    @staticmethod
    def _write_masks(folder: Path, masks: list[bytes]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for frame, png in enumerate(masks, start=2):
                (folder / f"{frame:08d}.png").write_bytes(png)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror}); make room, or give another place."
            ) from error

    def _begin(self) -> None:
        theirs = None if self._overwrite else _settings_in(self.path)
        if theirs is not None:  # another command has begun here in the meantime
            _refuse_other_settings(self.path, theirs, self._stamp)
            self._goes_on = True
            return
        try:
            if self.path.is_dir():
                shutil.rmtree(self.path)
            (self.path / "times").mkdir(parents=True)
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be made anew ({error.strerror}); give another `--output_dir`."
            ) from error
        write_whole(self.path / "settings.json", json.dumps(self._stamp, indent=1))
        self._goes_on = True


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: if it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); make room, or give another place.") from error
    finally:
        part.unlink(missing_ok=True)


def _settings_in(path: Path) -> dict[str, object] | None:
    """The settings of the run that a folder holds; None if it is not there or empty."""
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"`--output_dir`: {nearest} is no folder that can be written to; give another one.")
    if nearest != path or not any(path.iterdir()):
        return None
    stamp = path / "settings.json"
    try:
        settings = json.loads(stamp.read_text()) if stamp.is_file() else None
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or "tracker" not in settings:
        raise UserError(f"{path} is not empty and holds no run of evaluate.py; give another `--output_dir`.")
    return settings


def _stamp(settings: RunSettings) -> dict[str, object]:
    """What the boxes depend on, with the content of files in place of their names."""
    weights = [_digest(Path(path)) for path in settings.tracker_weights]
    in_torch = settings.ckpt is not None or official_file(settings.tracker) is not None
    code = _code_of(settings.tracker)
    of_no_weight = ("limits", "results_digest")  # the one decides no box, the other stands for the folder
    stamp = {name: value for name, value in asdict(settings).items() if name not in of_no_weight}
    return stamp | {
        "ckpt": None if settings.ckpt is None else _digest(Path(settings.ckpt)),
        "tracker_weights": weights,
        "results_dir": settings.results_digest or _digest_of_results(settings.results_dir),
        "code": _digest(*code) if code else None,
        "device": None if not in_torch else "cuda" if torch.cuda.is_available() else "cpu",
    }


def _code_of(tracker: str) -> list[Path]:
    """The files of a tracker that is no part of this project, as far as its name tells."""
    if tracker.startswith(SCHEME):
        return command_files(tracker)
    code = code_file(tracker) if is_import_path(tracker) else None
    return [] if code is None else [code]


def _digest_of_results(results_dir: str | None) -> str | None:
    """The digest of the folder of one tracker."""
    if results_dir is None:
        return None
    return _digest(*sorted(path for suffix in TEXT_SUFFIXES for path in Path(results_dir).glob(f"*{suffix}")))


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            raise UserError(f"No file {path}; check `--ckpt` and `--tracker_weights`.")
        digest.update(f"{path.name}|{path.stat().st_size}|".encode() if len(paths) > 1 else b"")
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _refuse_other_settings(path: Path, theirs: dict[str, object], ours: dict[str, object]) -> None:
    changed = [
        f"{key}: {theirs.get(key)} there, {value} now" for key, value in ours.items() if theirs.get(key) != value
    ]
    if changed:
        raise UserError(
            f"{path} holds a run with other settings ({'; '.join(changed)}); give another `--output_dir`, or "
            "`--overwrite`."
        )
