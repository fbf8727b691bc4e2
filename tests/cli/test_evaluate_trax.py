"""`--tracker cmd:`: programs that crash or hang in one sequence, and the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.cli import evaluate
from alpharefine.cli.command import run_command
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from tests.cli.results import tracker_in
from tests.trackers.trax_programs import MIL, scripted, write_program


@pytest.fixture
def names(lasot_root: Path) -> list[str]:
    return (lasot_root / "testing_set.txt").read_text().split()


def run(root: Path, out: Path, tracker: str, *arguments: object) -> int:
    words = ["--tracker", tracker, "--data_root", root, "--output_dir", out, *arguments]
    return run_command(lambda: evaluate.main([str(word) for word in words]))


CRASH = "if {name!r} in line and index == 2: raise RuntimeError('out of memory')"
HANG = "if {name!r} in line and index == 2: print('still thinking', flush=True); time.sleep(60)"


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=[pytest.mark.exhaustive, pytest.mark.ddp])])
@pytest.mark.parametrize(
    ("body", "said"),
    [(CRASH, ["ended with exit code 1 at frame 3", "    RuntimeError: out of memory"]),
     (HANG, ["did not answer in time (`--frame_limit 2`, seconds) at frame 3", "    still thinking"])],
    ids=["crash", "hang"],
)  # fmt: skip
def test_a_failed_sequence_and_the_others(
    lasot_root: Path,
    names: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    body: str,
    said: list[str],
    devices: int,
) -> None:
    mended = tmp_path / "mended"
    body = f"if not os.path.exists({str(mended)!r}):\n    {body.format(name=names[1])}"
    out, tracker = tmp_path / "out", scripted(tmp_path / "program.py", body)
    assert run(lasot_root, out, tracker, "--frame_limit", 2, "--devices", devices) == 2
    captured = capsys.readouterr()
    assert "2 of 3 sequences, 12 frames" in captured.out
    assert f"Sequence {names[1]} failed: The program of --tracker {tracker} {said[0]}" in captured.err
    assert said[1] in captured.err.splitlines()
    error = captured.err.splitlines()[-1]
    assert error.startswith(f"error: 1 of 3 sequences failed ({names[1]}).")
    done = [names[0], names[2]]
    assert sorted(path.stem for path in (tracker_in(out) / "base").glob("*.txt")) == sorted(done)
    first = (tracker_in(out) / "base" / f"{names[0]}.txt").stat().st_mtime_ns

    mended.touch()
    assert run(lasot_root, out, tracker, "--frame_limit", 5) == 0, "another limit is no other run"
    assert (tracker_in(out) / "base" / f"{names[0]}.txt").stat().st_mtime_ns == first
    assert (out / "metrics.json").is_file()
    assert read_rows(tracker_in(out) / "base" / f"{names[1]}.txt")[1:].tolist() == [
        [1, 2, index, 4] for index in range(1, 6)
    ]


def test_mil_as_a_program_has_the_boxes_of_mil(
    lasot_root: Path, names: list[str], tmp_path: Path, checkpoint: Path
) -> None:
    few = ("--sequences", names[0], "--ckpt", checkpoint, "--baseline", "--no-feedback")
    assert run(lasot_root, tmp_path / "here", "mil", *few) == 0
    assert run(lasot_root, tmp_path / "there", write_program(tmp_path / "mil.py", MIL), *few[:-1]) == 0
    for name in ("base", "refined"):
        here, there = (
            read_rows(tracker_in(tmp_path / place) / name / f"{names[0]}.txt") for place in ("here", "there")
        )
        np.testing.assert_array_equal(here, there)


def test_a_changed_program_is_another_run(lasot_root: Path, names: list[str], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    tracker = scripted(program)
    assert run(lasot_root, tmp_path / "out", tracker, "--sequences", names[0]) == 0
    program.write_text(program.read_text() + "# changed\n")
    with pytest.raises(UserError, match=r"other settings \(tracker_code: "):
        evaluate.main(["--tracker", tracker, "--data_root", str(lasot_root), "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tracker", "mil", "--frame_limit", "3"), "`--frame_limit` are for --tracker cmd:.*, got --tracker mil"),
        (("--tracker", "mil", "--startup_limit", "3"), "`--startup_limit` .*are for --tracker cmd:"),
        (("--tracker", "cmd:true", "--frame_limit", "0"), "`--frame_limit` must be a positive number of seconds"),
        (("--tracker", "cmd:no-such-program"), "no program no-such-program; give a program in PATH"),
        (
            ("--tracker", "cmd:true", "--ckpt", "{ckpt}", "--feedback"),
            "`--feedback`: cmd:true does not accept the refined box",
        ),
    ],
)
def test_bad_input(
    lasot_root: Path, tmp_path: Path, checkpoint: Path, arguments: tuple[str, ...], message: str
) -> None:
    words = [word.format(ckpt=checkpoint) for word in arguments]
    with pytest.raises(UserError, match=message):
        evaluate.main([*words, "--data_root", str(lasot_root), "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
