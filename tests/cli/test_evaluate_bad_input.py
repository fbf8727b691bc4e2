"""Wrong input: each error is one line with exit code 2. What is wrong for all sequences leaves nothing behind."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from alpharefine.cli import evaluate
from alpharefine.cli.command import run_command
from tests.cli.results import folder_of, metrics_in, runs_in

Change = Callable[[Path], object]  # of the folder that holds `lasot`, `results` and `ckpt`
REPLAY = ("--tracker", "replay", "--data_root", "lasot")
KNOWN = ("--tracker", "oracle", "--data_root", "lasot")
REFINED = (*KNOWN, "--ckpt", "ckpt")


def first(root: Path, file: str) -> Path:
    """A file of the first sequence."""
    name = (root / "lasot" / "testing_set.txt").read_text().split()[0]
    return folder_of(root / "lasot", name) / file


def row(index: int, text: str) -> Change:
    def change(root: Path) -> None:
        path = first(root, "groundtruth.txt")
        rows = path.read_text().splitlines()
        path.write_text("\n".join([*rows[:index], text, *rows[index + 1 :]]))

    return change


def another_network(root: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "hyper_parameters": {"width": 2}}, root / "ckpt")


def cut_short(root: Path) -> None:
    (root / "ckpt").write_bytes((root / "ckpt").read_bytes()[:-5000])


def nothing(_: Path) -> None:
    """What the user has is in order."""


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        pytest.param(nothing, ("--data_root", "lasot"), ".*`--tracker`", id="no tracker"),
        pytest.param(nothing, (*KNOWN, "--frobnicate"), "--frobnicate", id="unknown argument"),
        pytest.param(nothing, ("--tracker", "oracle"), "`--data_root`.*`--annotations_dir`", id="no data"),
        pytest.param(nothing, ("--tracker", "oracle", "--data_root", "absent"), "`--data_root`: absent", id="no root"),
        pytest.param(nothing, (*KNOWN, "--annotations_dir", "absent"), "`--annotations_dir`: absent", id="no annos"),
        pytest.param(nothing, (*KNOWN, "--split", "absent.txt"), "`--split`.*'absent.txt'", id="no split"),
        pytest.param(
            lambda root: (root / "lasot/testing_set.txt").write_text("\n"), KNOWN, "testing_set.txt", id="empty split"
        ),
        pytest.param(
            nothing, (*KNOWN, "--sequences", "zebra-99"), "sequence zebra-99 is not in lasot", id="no sequence"
        ),
        pytest.param(
            nothing, (*KNOWN, "--sequences", " ,"), "`--sequences` requires at least one value", id="no names"
        ),
        pytest.param(
            lambda root: (root / "ckpt").unlink(),
            REFINED,
            "`--ckpt`: no file ckpt; give a checkpoint",
            id="no checkpoint",
        ),
        pytest.param(
            another_network, REFINED, "`--ckpt`: ckpt is not a checkpoint of a refinement network", id="other network"
        ),
        pytest.param(cut_short, REFINED, "`--ckpt`: ckpt is cut short", id="checkpoint cut short"),
        pytest.param(
            lambda root: (root / "ckpt").write_text("x"), REFINED, "`--ckpt`: ckpt is .*no checkpoint", id="text"
        ),
        pytest.param(nothing, ("--tracker", "nanno", *KNOWN[2:]), "--tracker nanno .*mean nano", id="unknown tracker"),
        pytest.param(nothing, ("--tracker", "self", *KNOWN[2:]), "--tracker self needs --ckpt", id="self alone"),
        pytest.param(nothing, (*KNOWN, "--baseline"), "`--baseline` .*`--ckpt`", id="baseline alone"),
        pytest.param(nothing, (*KNOWN, "--feedback"), "`--feedback` .*`--ckpt`", id="feedback alone"),
        pytest.param(nothing, (*KNOWN, "--min_score", "0"), "`--min_score` .*`--ckpt`", id="least score alone"),
        pytest.param(
            nothing,
            ("--tracker", "self:2", *REFINED[2:], "--baseline"),
            "`--baseline`: self:2 does not run",
            id="base of self",
        ),
        pytest.param(
            nothing, (*REFINED, "--min_score", "0.5"), "`--min_score`: .* gives no scores", id="tracker without score"
        ),
        pytest.param(
            nothing,
            ("--tracker", "self", *REFINED[2:], "--no-feedback"),
            "`--no-feedback`: self moves",
            id="self alone",
        ),
        pytest.param(
            nothing,
            (*REFINED, "--min_score", "nan"),
            "`--min_score` must be a number, got 'nan'",
            id="score not a number",
        ),
        pytest.param(
            nothing,
            (*REFINED, "--min_score", "high"),
            "`--min_score` must be a number, got 'high'",
            id="score in words",
        ),
        pytest.param(nothing, (*KNOWN, "--save_masks"), "`--save_masks` .*`--ckpt`", id="masks of nothing"),
        pytest.param(
            nothing, (*REFINED, "--mask_threshold", "1"), "`--mask_threshold` must be between 0 and 1", id="all"
        ),
        pytest.param(nothing, (*KNOWN, "--devices", "0"), "`--devices` must be .*at least 1, got 0", id="no device"),
        pytest.param(
            nothing, (*KNOWN, "--devices", "-1"), "`--devices` must be .*at least 1, got -1", id="less than none"
        ),
        pytest.param(
            nothing,
            (*KNOWN, "--devices", "two"),
            "`--devices` must be a whole number, got 'two'",
            id="devices in words",
        ),
        pytest.param(
            nothing,
            (*KNOWN, "--protocol", "otb"),
            "`--protocol` must be one of lasot, .*, got 'otb'",
            id="unknown protocol",
        ),
        pytest.param(
            nothing, (*KNOWN, "--output_dir", "ckpt/out"), "`--output_dir`: .*ckpt is not a writable folder", id="file"
        ),
        pytest.param(nothing, (*KNOWN, "--results_dir", "results"), "--results_dir is for", id="results of an oracle"),
        pytest.param(
            nothing,
            (*KNOWN, "--tracker_weights", "a.onnx"),
            "--tracker oracle takes no weights",
            id="weights of an oracle",
        ),
        pytest.param(nothing, REPLAY, "replay needs --results_dir", id="replay of nothing"),
        pytest.param(
            nothing,
            (*REPLAY, "--results_dir", "absent"),
            "--results_dir .*absent is not a folder",
            id="replay of no folder",
        ),
        pytest.param(
            nothing,
            (*REPLAY, "--results_dir", "results"),
            "--results_dir .*results has no ",
            id="replay of another data set",
        ),
        pytest.param(
            nothing,
            (*REPLAY, "--ckpt", "ckpt", "--results_dir", "results", "--feedback"),
            "`--feedback`: replay does not accept the refined box",
            id="replay with feedback",
        ),
        pytest.param(
            nothing,
            (*REPLAY, "--results_dir", "results", "--tracker_weights", "lasot/testing_set.txt"),
            "--tracker replay takes no weights",
            id="replay with weights",
        ),
        pytest.param(
            nothing,
            (*REPLAY, "--ckpt", "ckpt", "--results_dir", "results", "--when_lost", "keep"),
            "`--when_lost keep`: replay does not report lost targets",
            id="replay that is lost",
        ),
        pytest.param(
            nothing,
            (*REFINED, "--no-feedback", "--when_lost", "report"),
            "`--when_lost report` requires feedback",
            id="no feedback when lost",
        ),
        pytest.param(
            nothing,
            (*REFINED, "--no-feedback", "--min_feedback_score", "0.1"),
            "`--min_feedback_score` requires feedback",
            id="no feedback at a score",
        ),
    ],
)
def test_bad_input_is_told_in_one_line_and_leaves_nothing(
    lasot_root: Path,
    tmp_path: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lasot_root, "lasot")
    shutil.copy(checkpoint if "ckpt" in arguments else lasot_root / "testing_set.txt", "ckpt")
    Path("results").mkdir()
    change(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    given = arguments if "--output_dir" in arguments else (*arguments, "--output_dir", "out")
    assert run_command(lambda: evaluate.main(given)) == 2
    captured = capsys.readouterr()
    progress_bar = re.compile(r"\s*$|(base|refined|base \+ refined): ")
    lines = [line for line in re.split(r"[\r\n]+", captured.err) if not progress_bar.match(line)]
    assert len(lines) == 1
    assert re.match(f"error: .*{message}", lines[0]), lines[0]
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        pytest.param(row(3, "1,2,3"), KNOWN, r"groundtruth.txt, row 4: .* 4 numbers, got '1,2,3'", id="three numbers"),
        pytest.param(row(0, "1,2,-3,4"), KNOWN, r"no target .*1,2,-3,4", id="negative size"),
        pytest.param(row(0, "0,0,0,0"), KNOWN, r"no target .*0,0,0,0", id="no target"),
        pytest.param(row(0, "64,9,9,9"), REFINED, r"first box .* outside .* 64x48 px", id="target outside"),
        pytest.param(
            lambda root: first(root, "img/00000002.jpg").unlink(),
            KNOWN,
            "5 frames, 6 groundtruth_rows",
            id="a frame less",
        ),
        pytest.param(
            lambda root: first(root, "img/00000001.jpg").write_text("x"), REFINED, "00000001.jpg", id="no picture"
        ),
    ],
)
def test_a_broken_sequence_is_told_and_the_others_go_on(
    lasot_root: Path,
    tmp_path: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lasot_root, "lasot")
    shutil.copy(checkpoint, "ckpt")
    change(tmp_path)
    name, *others = Path("lasot/testing_set.txt").read_text().split()
    assert run_command(lambda: evaluate.main([*arguments, "--output_dir", "out"])) == 2
    captured = capsys.readouterr()
    assert re.search(rf"Sequence {name} failed: .*{message}", captured.err)
    assert f"error: 1 of 3 sequences failed ({name})." in captured.err
    assert "2 of 3 sequences, 12 frames" in captured.out
    assert re.search(rf"^failed:\n  {name}.*: .*{message}", captured.out, re.MULTILINE)
    metrics = metrics_in(Path("out"))
    assert not metrics["complete"]
    assert [failure["sequence"] for failure in metrics["failures"]] == [name]
    for run in runs_in(Path("out")).values():
        assert list(run["sequences"]) == others

    # Alone, it is one line.
    shutil.rmtree("out")
    given = [*arguments, "--output_dir", "out", "--sequences", name]
    assert run_command(lambda: evaluate.main(given)) == 2
    captured = capsys.readouterr()
    assert re.search(rf"^error: .*{message}", captured.err, re.MULTILINE)
    assert not Path("out").exists()


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((*KNOWN, "--output_dir", LONG), id="output"),
        pytest.param(("--tracker", LONG, *KNOWN[2:]), id="tracker"),
        pytest.param(("--tracker", f"{LONG}:{LONG}", *KNOWN[2:]), id="class"),
        pytest.param(("--tracker", "oracle", "--data_root", LONG), id="root"),
        pytest.param((*KNOWN, "--ckpt", LONG), id="checkpoint"),
        pytest.param((*KNOWN, "--split", LONG), id="split"),
        pytest.param((*KNOWN, "--sequences", LONG), id="sequence"),
        pytest.param((*KNOWN, "--annotations_dir", LONG), id="annotations"),
        pytest.param(("--tracker", "replay", "--data_root", "lasot", "--results_dir", LONG), id="results"),
        pytest.param((*KNOWN, "--config", LONG), id="config"),
        pytest.param(("--tracker", f"cmd:{LONG}", *KNOWN[2:]), id="command"),
    ],
)
def test_a_name_that_is_too_long_is_told_in_one_line(
    lasot_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lasot_root, "lasot")
    assert run_command(lambda: evaluate.main(arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert LONG in error
