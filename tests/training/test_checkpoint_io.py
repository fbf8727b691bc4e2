from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
import torch

from alpharefine.training.checkpoint_io import WholeCheckpointIO


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "run" / "last.ckpt"
    for epoch in (1, 2):
        WholeCheckpointIO().save_checkpoint({"epoch": epoch}, path)
        assert torch.load(path, weights_only=True) == {"epoch": epoch}
    assert {file.name for file in path.parent.iterdir()} == {"last.ckpt", "last.previous.ckpt"}
    assert torch.load(path.with_name("last.previous.ckpt"), weights_only=True) == {"epoch": 1}


def test_only_the_last_checkpoint_has_a_previous_one(tmp_path: Path) -> None:
    for epoch in (1, 2):
        WholeCheckpointIO().save_checkpoint({"epoch": epoch}, tmp_path / "best.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_damaged_one_does_not_replace_the_previous_one(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for epoch in (1, 2):
        WholeCheckpointIO().save_checkpoint({"epoch": epoch}, path)
    path.write_bytes(path.read_bytes()[:200])
    WholeCheckpointIO().save_checkpoint({"epoch": 3}, path)
    assert torch.load(path.with_name("last.previous.ckpt"), weights_only=True) == {"epoch": 1}


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def cut_short(_: str, target: str, *__: object, **___: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", target)

    monkeypatch.setattr(shutil, "move", cut_short)
    with pytest.raises(OSError, match="No space left on device"):
        WholeCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
