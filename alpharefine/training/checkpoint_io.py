"""Writing of checkpoints during training, and the checkpoint that a run continues from."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from alpharefine.errors import UserError

LAST = "last.ckpt"
"""File name of the checkpoint that a run continues from."""

PREVIOUS = "last.previous.ckpt"
"""File name of the last checkpoint but one."""

LIVE_WEIGHTS = "live_state_dict"
"""Key of the trained weights in a checkpoint whose network is an average."""

_WEIGHTS = ("state_dict", LIVE_WEIGHTS)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a file next to the target and renames it once it is complete and on the disk.

    Lightning writes to the folder of temporary files. If that is on another disk, the file is then copied. A copy
    that is interrupted by a full disk or the end of the process would replace the last good checkpoint by a broken one.

    The last checkpoint but one is kept as ``last.previous.ckpt``, in case ``last.ckpt`` is damaged later.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a complete checkpoint, or none.

        Args:
            checkpoint: Content of the checkpoint.
            path: Path of the file.
            storage_options: Options of Lightning's file system.

        Raises:
            UserError: If the checkpoint contains weights that are not finite.
        """
        path = Path(path)
        _require_finite(checkpoint, path)
        part = path.with_name(f".{path.name}.part")
        try:
            super().save_checkpoint(checkpoint, part, storage_options)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            if path.name == LAST:
                _keep_previous(path)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _require_finite(checkpoint: dict[str, Any], path: Path) -> None:
    for group in _WEIGHTS:
        for name, value in checkpoint.get(group, {}).items():
            if value.is_floating_point() and not value.isfinite().all():
                raise UserError(
                    f"{path}: not written, because the weights `{name}` are not finite at step "
                    f"{checkpoint.get('global_step')}; decrease `model.lr`, or use `--trainer.precision 32-true`."
                )


def _keep_previous(path: Path) -> None:
    if not zipfile.is_zipfile(path):  # missing or damaged
        return
    previous = path.with_name(PREVIOUS)
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)  # `path` exists at any time
    except OSError:  # a file system without hard links
        path.replace(previous)


class FoundCheckpoint(NamedTuple):
    """Checkpoint that a run continues from.

    Attributes:
        path: Path of the checkpoint, or None if the run has none.
        fault: Description of the damage to the last checkpoint, if `path` is the one before. Empty otherwise.
    """

    path: Path | None
    fault: str = ""


def has_checkpoint(folder: Path) -> bool:
    """Return True if a folder contains a checkpoint that a run continues from, damaged or not.

    Args:
        folder: Folder of the checkpoints.
    """
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def find_checkpoint(folder: Path) -> FoundCheckpoint:
    """Find the newest checkpoint of a run that can be read.

    Args:
        folder: Folder of the checkpoints.

    Raises:
        UserError: If there are checkpoints, but none can be read.
    """
    faults: list[str] = []
    for name in (LAST, PREVIOUS):
        fault = _fault(folder / name)
        if not fault:
            return FoundCheckpoint(folder / name, "; ".join(faults))
        faults.append(f"{folder / name}: {fault}")
    if has_checkpoint(folder):
        raise UserError(f"`--resume`: {'; '.join(faults)}; restore one of them, or start a run with another `--name`.")
    return FoundCheckpoint(None)


def _fault(path: Path) -> str:
    if not path.is_file():
        return "no such file"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            return f"the part {damaged} is damaged"
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        missing = {"state_dict", "loops", "optimizer_states"} - set(checkpoint)
    except Exception as error:  # the unpickler raises many kinds for a damaged file
        return f"cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})"
    return f"lacks {', '.join(sorted(missing))}" if missing else ""
