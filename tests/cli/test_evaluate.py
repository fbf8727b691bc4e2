"""The command: what it runs, what it writes and prints, and how it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from alpharefine.cli import report, score
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.metrics import PROTOCOLS
from tests.cli.results import SURE, files_in, folder_of, metrics_in, run, runs_in, tracker_in
from tests.trackers.siamrpnpp.random_files import save_random

NUM_FRAMES = 6
COLUMNS = {
    "AUC": "success_auc",
    "P@20": "precision_20",
    "P_norm@0.2": "norm_precision_20",
    "P_norm_mean": "norm_precision_20",
}


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
