"""The command: what it runs, what it writes and prints, and how it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from alpharefine import Refiner
from alpharefine.boxes import is_valid
from alpharefine.cli import evaluate, report, score
from alpharefine.data.images import read_image
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.metrics_file import read_metrics
from alpharefine.inference.backend import CropPredictions
from alpharefine.inference.torch_backend import TorchBackend
from alpharefine.metrics import PROTOCOLS
from alpharefine.trackers import Track, TrackState
from tests.cli.results import files_in, metrics_in, runs_in, tracker_in
from tests.trackers.siamrpnpp.random_files import save_random

NUM_FRAMES = 6
COLUMNS = {
    "AUC": "success_auc",
    "P@20": "precision_20",
    "P_norm@0.2": "norm_precision_20",
    "P_norm_mean": "norm_precision_20",
}


class Sure:
    """Stays where it is put; surer in every other frame."""

    def initialize(self, _frame: np.ndarray, box_xywh: np.ndarray) -> None:
        self.box_xywh, self.index = box_xywh, 0

    def track(self, _frame: np.ndarray) -> Track:
        self.index += 1
        return Track(self.box_xywh, 0.9 if self.index % 2 else 0.1, TrackState.NORMAL)

    def set_box(self, box_xywh: np.ndarray) -> None:
        self.box_xywh = box_xywh


SURE = f"{__name__}:Sure"


def folder_of(root: Path, name: str) -> Path:
    return root / name.rpartition("-")[0] / name


def run(*arguments: object) -> None:
    evaluate.main([str(argument) for argument in arguments])


def printed_table(text: str) -> dict[str, dict[str, float]]:
    """The rows of the table by name, columns by the names of their scores."""
    header, *rows = text[text.index(" AUC") :].splitlines()
    columns = [COLUMNS[title] for title in header.split()]
    table = {}
    for row in rows:
        name, *values = row.split()
        if len(values) != len(columns) or not re.fullmatch(r"[+-]?\d+\.\d\d", values[0]):
            break
        table[name] = dict(zip(columns, map(float, values), strict=True))
    return table


# ---- runs ----------------------------------------------------------------------------------------------------------


def test_a_tracker_alone(root: Path, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run("--tracker", "oracle", "--data_root", root, "--output_dir", out)
    runs = ["settings.json", *(f"{folder}{name}.txt" for folder in ("", "times/") for name in names)]
    runs = [*runs, *(f"counts/{name}.json" for name in names), "curves.npz"]
    assert files_in(out) == sorted(["config.yaml", "metrics.json", *(f"oracle/base/{file}" for file in runs)])
    for name in names:
        truth = read_rows(folder_of(root, name) / "groundtruth.txt")
        boxes_xywh, times_ms = (
            read_rows(tracker_in(out) / "base" / f"{name}.txt"),
            read_rows(tracker_in(out) / "base/times" / f"{name}.txt", 3),
        )
        np.testing.assert_array_equal(boxes_xywh[0], truth[0])
        np.testing.assert_allclose(boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2, truth[:, :2] + truth[:, 2:] / 2)
        assert times_ms.shape == (NUM_FRAMES, 3)
    metrics, runs = metrics_in(out), runs_in(out)
    assert (metrics["dataset"], metrics["split"], metrics["protocol"]) == ("lasot", "test", "lasot")
    assert (metrics["sequences"], metrics["num_frames"]) == (names, 18)
    assert set(runs) == {"base"}
    base = runs["base"]
    assert list(base["sequences"]) == names
    assert {*COLUMNS.values(), "sequences"} <= set(base)
    for column in set(COLUMNS.values()):
        assert base[column] == pytest.approx(np.mean([score[column] for score in base["sequences"].values()]))
    times_ms = np.concatenate([read_rows(tracker_in(out) / "base/times" / f"{name}.txt", 3)[1:] for name in names])
    assert list(base["median_ms"]) == ["decode", "base", "refine"]
    assert list(base["median_ms"].values()) == pytest.approx(np.median(times_ms, axis=0).tolist(), abs=1e-3)
    assert metrics["trackers"]["oracle"]["settings"]["base"]["tracker"]["name"] == "oracle"
    captured = capsys.readouterr()
    assert "3 sequences, 18 frames, protocol lasot" in captured.out
    assert re.search(r"base: .*3/3 .*fps=\d", captured.err)


def test_published_results_one_after_the_other(
    root: Path, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for tracker, shift in (("near", 1), ("far", 9)):
        (tmp_path / tracker).mkdir()
        for name in names:
            np.savetxt(tmp_path / tracker / f"{name}.txt", read_rows(folder_of(root, name) / "groundtruth.txt") + shift)
        run("--tracker", "replay", "--results_dir", tracker, "--data_root", root)
    near, far = (runs_in(tmp_path / "results" / name)["base"]["success_auc"] for name in ("near", "far"))
    assert near > far
    assert printed_table(capsys.readouterr().out)["base"]["success_auc"] == pytest.approx(near, abs=0.006)


def test_with_and_without_refinement(
    root: Path, names: list[str], tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, few = tmp_path / "out", ",".join(names[:2])
    both = ("--tracker", "oracle-size", "--data_root", root, "--output_dir", out, "--ckpt", checkpoint, "--baseline")
    run(*both, "--sequences", few)
    table, runs = printed_table(capsys.readouterr().out), runs_in(out)
    assert list(table) == ["base", "refined", "gain"]
    for column in COLUMNS.values():
        for name in ("base", "refined"):
            assert table[name][column] == round(runs[name][column], 2)
        assert table["gain"][column] == round(runs["refined"][column] - runs["base"][column], 2)
    assert list(runs["refined"]["sequences"]) == list(runs["base"]["sequences"]) == names[:2]
    assert runs["base"] != runs["refined"]
    for name in names[:2]:
        x, y, w, h = read_rows(tracker_in(out) / "refined" / f"{name}.txt")[1:].T
        assert (min(x.min(), y.min()) >= 0) & ((x + w).max() <= 64) & ((y + h).max() <= 48)
        assert (x % 1 != 0).any(), "boxes are not rounded"

    # Once more with another protocol and one sequence more: what is done is not done again.
    before = {file: (out / file).stat().st_mtime_ns for file in files_in(out) if file.endswith(".txt")}
    run(*both, "--sequences", ",".join(names), "--protocol", "got10k")
    assert {file: (out / file).stat().st_mtime_ns for file in before} == before
    assert list(runs_in(out)["refined"]["sequences"]) == names
    assert metrics_in(out)["protocol"] == "got10k"


def test_feedback_changes_what_the_tracker_does(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    boxes = {}
    always = ("--min_feedback_score", 0)
    for name, arguments in {"default": always, "on": (*always, "--feedback"), "off": ("--no-feedback",)}.items():
        out = tmp_path / name
        run("--tracker", SURE, "--data_root", root, "--ckpt", checkpoint, "--output_dir", out,
            "--sequences", names[0], *arguments)  # fmt: skip
        boxes[name] = (tracker_in(out) / "refined" / f"{names[0]}.txt").read_text()
    assert boxes["default"] == boxes["on"]
    assert boxes["on"].splitlines()[:2] == boxes["off"].splitlines()[:2]
    assert boxes["on"] != boxes["off"]


def test_the_published_file_of_a_tracker_is_found_in_the_folder_of_weights(
    root: Path, names: list[str], tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights" / "siamrpn_alex_dwxcorr"
    folder.mkdir(parents=True)
    file = save_random(folder)
    tracker = ("--tracker", "siamrpnpp-alex", "--data_root", root, "--sequences", names[0])
    with pytest.raises(UserError, match=r"siamrpnpp-alex needs its authors' file .*set ALPHAREFINE_WEIGHTS"):
        run(*tracker, "--output_dir", tmp_path / "none")
    run(*tracker, "--output_dir", tmp_path / "given", "--tracker_weights", file)
    monkeypatch.setenv("ALPHAREFINE_WEIGHTS", str(tmp_path / "weights"))
    run(*tracker, "--output_dir", tmp_path / "found", "--ckpt", checkpoint, "--baseline")
    alone, base, refined = (
        read_rows(tracker_in(tmp_path / out) / run_name / f"{names[0]}.txt")
        for out, run_name in (("given", "base"), ("found", "base"), ("found", "refined"))
    )
    np.testing.assert_array_equal(alone, base)
    assert len(base) == NUM_FRAMES
    assert (base[2:] != refined[2:]).any()
    assert (
        json.loads((tracker_in(tmp_path / "given") / "base/settings.json").read_text())["stamp"]["device"] is not None
    )


def test_a_least_score(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    run("--tracker", SURE, "--data_root", root, "--ckpt", checkpoint, "--output_dir", tmp_path / "out",
        "--sequences", names[0], "--min_score", 0.5, "--no-feedback")  # fmt: skip
    boxes_xywh = read_rows(tracker_in(tmp_path / "out") / "refined" / f"{names[0]}.txt")
    stayed = (boxes_xywh == boxes_xywh[0]).all(1)
    assert stayed.tolist() == [True, False, True, False, True, False]


def test_the_folder_is_named_after_the_tracker(
    root: Path, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("--tracker", SURE, "--data_root", "lasot", "--sequences", names[0])
    name = SURE.replace(":", "_")
    assert (tmp_path / "results" / name / name / "base" / f"{names[0]}.txt").is_file()


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.exhaustive  # torchrun, SLURM and replays in two processes are in every run
def test_two_processes_write_the_same_boxes(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    for devices in (1, 2):
        run("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--output_dir", tmp_path / str(devices),
            "--devices", devices)  # fmt: skip
    for name in names:
        one, two = (
            (tracker_in(tmp_path / str(devices)) / "refined" / f"{name}.txt").read_bytes() for devices in (1, 2)
        )
        assert one == two
        assert len(one.splitlines()) == NUM_FRAMES


# ---- scores --------------------------------------------------------------------------------------------------------

HIT, FAR, EMPTY = (11, 21, 10, 10), (300, 300, 10, 10), (11, 21, 0, 0)


@pytest.fixture
def toolkit(tmp_path: Path) -> Path:
    """Annotations of one sequence whose target stands still and is absent in the last two of six frames."""
    annos = tmp_path / "annos"
    for folder in ("absent", "att"):
        (annos / folder).mkdir(parents=True)
    (annos / "cat-1.txt").write_text("\n".join([",".join(map(str, HIT))] * 6))
    (annos / "absent" / "cat-1.txt").write_text("0,0,0,0,1,1")
    (annos / "att" / "cat-1.txt").write_text("0,1,0,0,0,0,0,0,0,0,0,0,0,1")
    return annos


# Frames that are hits, and those that they are counted among. Every protocol but `pysot` takes the first box for right;
# `lasot` and `pytracking` repair the empty third one; `got10k` does not care that the target is absent in the last two.
@pytest.mark.parametrize(
    ("protocol", "hits", "frames"),
    [("lasot", 4, 6), ("pysot", 2, 6), ("pytracking", 4, 6), ("pytracking_valid", 4, 4), ("got10k", 5, 6)],
)
def test_published_boxes_under_each_protocol(
    toolkit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: str, hits: int, frames: int
) -> None:
    results, out = tmp_path / "results", tmp_path / "out"
    results.mkdir()
    rows = [FAR, HIT, EMPTY, HIT, HIT, HIT]
    (results / "cat-1.txt").write_text("\n".join("\t".join(map(str, row)) for row in rows))
    run("--tracker", "replay", "--results_dir", results, "--annotations_dir", toolkit, "--sequences", "cat-1",
        "--output_dir", out, "--protocol", protocol)  # fmt: skip
    base = runs_in(out)["base"]
    assert base["success_auc"] == pytest.approx(100 * hits / frames * 20 / 21)  # an overlap of 1 is not above 1
    assert base["attributes"].keys() == {"POC", "ARC"}
    assert base["attributes"]["POC"]["success_auc"] == base["success_auc"]
    assert printed_table(capsys.readouterr().out)["base"]["success_auc"] == round(base["success_auc"], 2)
    np.testing.assert_array_equal(read_rows(tracker_in(out) / "base" / "cat-1.txt"), rows)


@pytest.mark.parity
@pytest.mark.parametrize("tracker", ["ATOM", "SiamRPN++"])
def test_published_boxes_of_lasot(shared: Path, tmp_path: Path, tracker: str) -> None:
    # monkey-17 has more rows than frames, basketball-1 a first row that is not the ground truth's.
    chosen = ["airplane-1", "basketball-1", "bird-17", "cat-18", "dog-1", "fox-5", "monkey-17", "tank-14", "yoyo-7"]
    for archive in ("annos_test280", f"results_{tracker}"):
        with tarfile.open(shared / "lasot" / f"{archive}.tar.xz") as files:
            wanted = [member for member in files if Path(member.name).stem in chosen]
            files.extractall(tmp_path, wanted, filter="data")
    with np.load(shared / "golden" / f"metrics_{tracker}.npz") as golden:
        places = [golden["seqs"].tolist().index(name) for name in chosen]
        for protocol in PROTOCOLS:
            run("--tracker", "replay", "--results_dir", tmp_path / tracker, "--output_dir", tmp_path / "out",
                "--annotations_dir", tmp_path / "lasot_toolkit", "--sequences", ",".join(chosen),
                "--protocol", protocol)  # fmt: skip
            base = runs_in(tmp_path / "out")["base"]
            aucs = 100 * golden[f"{protocol}_success"][places].astype(np.float64).mean(1)
            hits = 100 * golden[f"{protocol}_precision"][places, 20].astype(np.float64)
            tolerance = 1e-3 if protocol.startswith("pytracking") else 1e-4  # percent; its golden values are float32
            for found, expected in (("success_auc", aucs), ("precision_20", hits)):
                scores = [base["sequences"][name][found] for name in chosen]
                np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance)
                assert base[found] == pytest.approx(expected.mean(), abs=tolerance)


# ---- going on ------------------------------------------------------------------------------------------------------


def test_a_failure_keeps_what_is_done_and_a_second_run_goes_on(root: Path, names: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--tracker", SURE, "--data_root", root, "--output_dir", out)
    frame = folder_of(root, names[1]) / "img" / "00000004.jpg"
    picture = frame.read_bytes()
    frame.write_bytes(picture[:20])
    with pytest.raises(UserError, match=rf"1 of 3 sequences failed \({names[1]}\)\. .* Run the same command again"):
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


def test_other_settings_need_another_folder_or_overwriting(root: Path, names: list[str], tmp_path: Path) -> None:
    out, other = tmp_path / "out", shutil.copytree(root, tmp_path / "other")
    truth = folder_of(other, names[0]) / "groundtruth.txt"
    truth.write_text("".join(f"{x + 1},{y},{w},{h}\n" for x, y, w, h in read_rows(truth).tolist()))
    arguments = ("--tracker", "oracle", "--output_dir", out, "--sequences", names[0])
    run(*arguments, "--data_root", root)
    boxes = out / "oracle" / "base" / f"{names[0]}.txt"
    before = boxes.read_bytes()
    with pytest.raises(
        UserError, match=r"oracle/base holds a run with other settings \(data_root: .*lasot there, .*oth"
    ):
        run(*arguments, "--data_root", other)
    with pytest.raises(UserError, match="zebra-99"):
        run(*arguments, "--data_root", other, "--sequences", "zebra-99", "--overwrite")
    assert boxes.read_bytes() == before
    run(*arguments, "--data_root", other, "--overwrite")
    assert boxes.read_bytes() != before
    assert metrics_in(out)["trackers"]["oracle"]["settings"]["base"]["dataset"]["root"] == str(other)


def test_trackers_share_a_results_folder(
    root: Path, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--data_root", root, "--output_dir", tmp_path / "out", "--sequences", ",".join(names[:2]))
    for tracker in ("oracle", "oracle-size"):
        run("--tracker", tracker, *arguments)
    capsys.readouterr()
    score.main([str(tmp_path / "out")])
    assert list(metrics_in(tmp_path / "out")["trackers"]) == ["oracle", "oracle-size"]
    report.main([str(tmp_path / "out"), "--per_sequence"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("oracle ", "oracle-size ")) for line in lines) == 4, "score and report agree"
    assert sum(line.startswith(names[0]) for line in lines) == 2


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


def test_a_refined_run_with_other_settings_is_refused_before_the_base_run(
    root: Path, names: list[str], tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--tracker", SURE, "--data_root", root, "--output_dir", out, "--ckpt", checkpoint,
                 "--sequences", names[0])  # fmt: skip
    run(*arguments)
    with pytest.raises(UserError, match=r"refined holds .* settings \(.*min_score: None there, 0.5 now"):
        run(*arguments, "--baseline", "--min_score", 0.5)
    assert not (tracker_in(out) / "base").exists()


# ---- the real thing ------------------------------------------------------------------------------------------------


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parents[2] / "evaluate.py"
    words = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


STILL = """
class Still:
    def initialize(self, frame, box_xywh):
        self.box_xywh = box_xywh

    set_box = lambda self, box_xywh: self.initialize(None, box_xywh)

    def track(self, frame):
        return self.box_xywh, 1.0, "normal"
"""


@pytest.mark.slow
def test_the_command_itself(root: Path, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "still.py").write_text(STILL)
    done = command("--tracker", "still:Still", "--data_root", root, "--output_dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table, runs = printed_table(done.stdout), runs_in(tmp_path / "out")
    assert table == {"base": {column: round(runs["base"][column], 2) for column in COLUMNS.values()}}
    assert list(runs["base"]["sequences"]) == names

    refused = command("--tracker", "oracle", "--data_root", root, "--devices", 0, cwd=tmp_path)
    assert refused.returncode == 2
    assert re.fullmatch(r"error: `--devices` must be .*got 0\.\n", refused.stderr)
    assert refused.stdout == ""


# ---- masks and geometries ------------------------------------------------------------------------------------------


def test_boxes_of_masks_and_masks_as_pictures(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    command = ("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0])
    out = tmp_path / "out"
    run(*command, "--output_dir", out, "--box_from", "mask", "--mask_threshold", "0.4", "--save_masks")
    masks = [
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        for path in sorted((tracker_in(out) / f"refined/masks/{names[0]}").iterdir())
    ]
    boxes_xywh = read_rows(tracker_in(out) / "refined" / f"{names[0]}.txt")
    assert len(masks) == NUM_FRAMES - 1 == len(boxes_xywh) - 1
    frame = cv2.imread(str(folder_of(root, names[0]) / "img/00000001.jpg"))
    assert all(mask.shape == frame.shape[:2] and set(np.unique(mask)) <= {0, 255} for mask in masks)
    refiner = Refiner.from_checkpoint(checkpoint, device="cpu", box_from="mask", mask_threshold=0.4)
    truth = read_rows(folder_of(root, names[0]) / "groundtruth.txt")
    refiner.initialize(read_image(folder_of(root, names[0]) / "img/00000001.jpg"), truth[0])
    centre = truth[1][:2] + truth[1][2:] / 2
    base_xywh = np.concatenate([centre - truth[0][2:] / 2, truth[0][2:]])
    found = refiner.refine(read_image(folder_of(root, names[0]) / "img/00000002.jpg"), base_xywh, mask=True)
    np.testing.assert_array_equal(masks[0] > 0, found.mask > 0.4)
    np.testing.assert_allclose(boxes_xywh[1], found.box_xywh if found.refined else base_xywh)


def test_masks_are_those_of_the_refined_box(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    out, folder = tmp_path / "out", folder_of(root, names[0])
    run("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0],
        "--output_dir", out, "--save_masks", "--mask_threshold", "0.4")  # fmt: skip
    refiner = Refiner.from_checkpoint(checkpoint, device="cpu")
    truth = read_rows(folder / "groundtruth.txt")
    refiner.initialize(read_image(folder / "img/00000001.jpg"), truth[0])
    frame = read_image(folder / "img/00000002.jpg")
    base_xywh = np.concatenate([truth[1][:2] + truth[1][2:] / 2 - truth[0][2:] / 2, truth[0][2:]])
    found = refiner.refine(frame, base_xywh, mask=True)
    assert found.refined
    mask = cv2.imread(str(tracker_in(out) / f"refined/masks/{names[0]}/00000002.png"), cv2.IMREAD_GRAYSCALE) > 0
    around_xywh = found.raw_box_xywh if is_valid(found.raw_box_xywh) else found.box_xywh
    np.testing.assert_array_equal(mask, refiner.segment(frame, around_xywh) > 0.4)
    assert (mask != (found.mask > 0.4)).any(), "not that of the window about the rough box"


def test_settings_that_come_to_the_same_are_the_same(
    root: Path, names: list[str], tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0])
    out = tmp_path / "out"
    run(*command, "--output_dir", out)
    assert (
        f"{checkpoint}: checkpoint of train.py, epoch None; backbone resnet18, heads corner+mask"
        in capsys.readouterr().out
    )
    written = (tracker_in(out) / "refined" / f"{names[0]}.txt").stat().st_mtime_ns
    said = ("--geometry", "exact", "--box_from", "corner", "--precision", "auto", "--min_feedback_score", "0.2")
    run(*command, "--output_dir", out, *said)
    assert (tracker_in(out) / "refined" / f"{names[0]}.txt").stat().st_mtime_ns == written
    with pytest.raises(UserError, match=r"holds a run with other settings \(precision: (16|32) there, bf16 now\)"):
        run(*command, "--output_dir", out, "--precision", "bf16")
    with pytest.raises(UserError, match=r"`--precision` applies only to refinement, which requires `--ckpt`"):
        run("--tracker", "oracle", "--data_root", root, "--precision", "32", "--output_dir", tmp_path / "base")


def test_a_geometry_in_place_of_the_checkpoints(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    command = ("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0])
    for geometry in ("exact", "original"):
        run(*command, "--output_dir", tmp_path / geometry, "--geometry", geometry)
    run(*command, "--output_dir", tmp_path / "own")
    boxes = {
        name: read_rows(tracker_in(tmp_path / name) / "refined" / f"{names[0]}.txt")
        for name in ("exact", "original", "own")
    }
    np.testing.assert_array_equal(boxes["own"], boxes["exact"])
    assert np.abs(boxes["original"] - boxes["exact"]).max() > 0.1


def test_a_second_look_by_a_switch(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    command = ("--tracker", "oracle", "--no-feedback", "--data_root", root, "--ckpt", checkpoint)
    command = (*command, "--sequences", names[0], "--output_dir", tmp_path / "out")
    run(*command)
    once = read_rows(tracker_in(tmp_path / "out") / "refined" / f"{names[0]}.txt")
    with pytest.raises(UserError, match=r"other settings \(flip_test: False there, True now\)"):
        run(*command, "--flip_test")
    run(*command, "--flip_test", "--overwrite")
    twice = read_rows(tracker_in(tmp_path / "out") / "refined" / f"{names[0]}.txt")
    assert np.abs(twice - once).max() > 0.1
