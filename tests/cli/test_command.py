from __future__ import annotations

import errno
import os

import pytest

from alpharefine.cli.command import THREAD_WAITING, run_command
from alpharefine.errors import UserError


def failing(error: BaseException):
    def main() -> None:
        raise error

    return main


class TestRunCommand:
    def test_success(self, capsys) -> None:
        assert run_command(lambda: None) == 0
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(
        ("error", "code", "line"),
        [
            (UserError("`x` must be 1, got 2."), 2, "error: `x` must be 1, got 2.\n"),
            (
                UserError("Caught UserError in worker.\nTraceback:\nalpharefine.errors.UserError: a.jpg is bad.\n"),
                2,
                "error: a.jpg is bad.\n",
            ),
            (
                OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/last.ckpt"),
                2,
                "error: [Errno 28] No space left on device: 'runs/last.ckpt'; free some space.\n",
            ),
            (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.yaml/run"), 2, None),
            (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, None),
            (KeyboardInterrupt(), 130, "interrupted\n"),
        ],
        ids=["user", "worker", "disk full", "a file for a folder", "rights", "Ctrl-C"],
    )
    def test_one_line(self, error, code, line, capsys) -> None:
        assert run_command(failing(error)) == code
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert line is None or printed == line

    @pytest.mark.parametrize("error", [ValueError("a fault of ours"), OSError(errno.EBADF, "a fault of ours")])
    def test_our_own_faults_are_not_hidden(self, error) -> None:
        with pytest.raises(type(error)):
            run_command(failing(error))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, THREAD_WAITING),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}),
    ],
    ids=str,
)
def test_threads_spin_briefly_unless_the_user_says_otherwise(monkeypatch, given, expected) -> None:
    for name in THREAD_WAITING:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen: dict[str, str] = {}
    assert run_command(lambda: seen.update(os.environ)) == 0
    assert {name: seen[name] for name in THREAD_WAITING if name in seen} == expected
