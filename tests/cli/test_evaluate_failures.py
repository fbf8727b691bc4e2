"""Evaluations in which a sequence, a result or a prediction fails."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alpharefine.cli import report, score
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.metrics_file import read_metrics
from alpharefine.inference.backend import CropPredictions
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.trackers import Track
from tests.cli.results import SURE, Sure, folder_of, metrics_in, run, runs_in, tracker_in

NUM_FRAMES = 6


def test_a_failure_keeps_what_is_done_and_a_second_run_goes_on(root: Path, names: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--tracker", SURE, "--data_root", root, "--output_dir", out)
    frame = folder_of(root, names[1]) / "img" / "00000004.jpg"
    picture = frame.read_bytes()
    frame.write_bytes(picture[:20])
    with pytest.raises(UserError, match=rf"1 of 3 sequences failed \({names[1]}\)\. .* and run the same command again"):
        run(*arguments)
    assert [path.stem for path in sorted((tracker_in(out) / "base").glob("*.txt"))] == sorted([names[0], names[2]])
    first = (tracker_in(out) / "base" / f"{names[0]}.txt").stat()

    frame.write_bytes(picture)
    run(*arguments)
    assert (tracker_in(out) / "base" / f"{names[0]}.txt").stat().st_mtime_ns == first.st_mtime_ns
    assert list(runs_in(out)["base"]["sequences"]) == names


def test_a_shorter_annotation_is_noted(root: Path, names: list[str], tmp_path: Path) -> None:
    other, out = shutil.copytree(root, tmp_path / "other"), tmp_path / "out"
    truth = folder_of(other, names[0]) / "groundtruth.txt"
    truth.write_text("".join(truth.read_text().splitlines(keepends=True)[:4]))
    for flags in ("full_occlusion.txt", "out_of_view.txt"):
        (truth.parent / flags).unlink()
    run("--tracker", SURE, "--data_root", other, "--output_dir", out)
    metrics = metrics_in(out)
    assert metrics["complete"]
    assert list(metrics["notes"]) == [names[0]]
    assert metrics["notes"][names[0]].endswith("has 4 rows for 6 frames, so the sequence ends at frame 4")
    assert read_metrics(out).notes == metrics["notes"]


def test_scoring_a_folder_after_a_failure(
    root: Path, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (folder_of(root, names[1]) / "img" / "00000004.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=f"1 of 3 sequences failed .{names[1]}"):
        run("--tracker", SURE, "--data_root", root, "--output_dir", out)
    capsys.readouterr()
    with pytest.raises(UserError, match=f"1 of 3 sequences failed .{names[1]}"):
        score.main([str(out)])
    printed = capsys.readouterr().out
    assert "2 of 3 sequences, 12 frames" in printed
    assert re.search(rf"has no results of 1 of the 3 sequences: {names[1]}$", printed, re.MULTILINE)
    assert list(runs_in(out)["base"]["sequences"]) == [names[0], names[2]]
    with pytest.raises(UserError, match=f"`--sequences`: {names[1]} is not complete"):
        score.main([str(out), "--sequences", f"{names[0]},{names[1]}"])
    with pytest.raises(UserError, match="`--ckpt` has no effect in this command"):
        score.main([str(out), "--ckpt", "a"])
    before = metrics_in(out)
    score.main([str(out), "--protocol", "pysot", "--sequences", names[0]])
    assert (before["protocol"], metrics_in(out)["protocol"]) == ("lasot", "pysot")


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        pytest.param("{name}.txt", "1,2,3,4\n", "has 1 rows, the sequence has 6 frames", id="short"),
        pytest.param("times/{name}.txt", "1,2,nan\n" * 6, "must hold milliseconds", id="times"),
        pytest.param("{name}.txt", "0.1,0.1,0.2,0.2\n" * 5 + "x\n", "row 6", id="word"),
    ],
)
def test_a_damaged_result_is_left_out_of_the_table(
    root: Path,
    names: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    content: str,
    reason: str,
) -> None:
    out = tmp_path / "out"
    for tracker in ("oracle", "oracle-size"):
        run("--tracker", tracker, "--data_root", root, "--output_dir", out)
    (out / "oracle" / "base" / file.format(name=names[1])).write_text(content)
    capsys.readouterr()
    with pytest.raises(UserError, match=f"1 of 3 sequences failed .{names[1]}"):
        score.main([str(out)])
    printed = capsys.readouterr().out
    assert re.search(r"^oracle +2 +\d", printed, re.MULTILINE)
    assert re.search(r"^oracle-size +3 +\d", printed, re.MULTILINE)
    assert f"oracle has no results of 1 of the 3 sequences: {names[1]}" in printed
    assert re.search(rf"^  {names[1]} \(oracle, base\): .*{reason}", printed, re.MULTILINE)
    metrics = metrics_in(out)
    assert not metrics["complete"]
    assert [failure["tracker"] for failure in metrics["failures"]] == ["oracle"]
    report.main([str(out)])
    assert capsys.readouterr().out.splitlines()[1:] == printed.splitlines()[:-1]


class Stubborn(Sure):
    """Fails in every sequence."""

    def track(self, _frame: np.ndarray) -> Track:
        raise ValueError("always the same")


def test_a_tracker_that_fails_everywhere(
    root: Path, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^All 3 sequences failed in the same way: ValueError: always the same \("):
        run("--tracker", f"{__name__}:Stubborn", "--data_root", root, "--output_dir", tmp_path / "out")
    captured = capsys.readouterr()
    assert re.search(r"^failed:\n  all 3 sequences \(.*, base\): ValueError: always the same", captured.out)
    assert captured.err.count("failed: ValueError") == 3
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_predictions_that_are_not_finite_are_no_gain_of_zero(
    root: Path,
    names: list[str],
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predict = TorchBackend.predict

    def broken(self: TorchBackend, *arguments: Any) -> CropPredictions:
        return CropPredictions(*(None if x is None else np.full_like(x, np.nan) for x in predict(self, *arguments)))

    monkeypatch.setattr(TorchBackend, "predict", broken)
    for box_from in ("corner", "mask"):
        out = tmp_path / box_from
        with pytest.raises(UserError, match=r"oracle: no frame was refined, because the predictions .* not finite"):
            run("--tracker", "oracle", "--baseline", "--data_root", root, "--ckpt", checkpoint, "--output_dir", out,
                "--box_from", box_from)  # fmt: skip
        assert "oracle, refined: 0 of 15 frames refined; 15 predictions not finite" in capsys.readouterr().out
        assert runs_in(out)["refined"]["counts"] == {"frames": 15, "not_finite": 15}
        assert np.isfinite(read_rows(tracker_in(out) / "refined" / f"{names[0]}.txt")).all()


class Lost(Sure):
    """Has no box in its second frame."""

    def track(self, frame: np.ndarray) -> Track:
        track = super().track(frame)
        return track._replace(box_xywh=np.full(4, np.nan)) if self.index == 2 else track


def test_boxes_that_are_not_finite_are_counted(
    root: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run("--tracker", f"{__name__}:Lost", "--baseline", "--data_root", root, "--ckpt", checkpoint, "--output_dir", out)
    printed = capsys.readouterr().out
    assert re.search(r", base: 3 tracker boxes not finite or not positive$", printed, re.MULTILINE)
    assert re.search(r", refined: \d+ of 15 frames refined; 3 tracker boxes not finite", printed)
    assert runs_in(out)["base"]["counts"] == {"frames": 15, "invalid_box": 3}
    # The counts are those of the files, also if nothing is left to run.
    run("--tracker", f"{__name__}:Lost", "--baseline", "--data_root", root, "--ckpt", checkpoint, "--output_dir", out)
    assert "base: 3 tracker boxes not finite" in capsys.readouterr().out
