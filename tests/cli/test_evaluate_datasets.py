"""Every evaluation data set through the command, on generated trees of its official layout."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from alpharefine.cli import evaluate, report, score
from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.registry import DATASETS
from alpharefine.synthetic import write_lasot
from alpharefine.synthetic.benchmarks import (
    write_got10k_benchmark,
    write_nfs30,
    write_otb100,
    write_tnl2k,
    write_trackingnet_benchmark,
    write_uav123,
    write_videos,
)
from tests.cli.results import metrics_in, runs_in, tracker_in

SIZE = (48, 64)
ONE_PASS = {"success_auc", "precision_20", "norm_precision_20"}
GOT10K = {"ao", "sr_50", "sr_75"}

WRITERS: dict[str, Callable[[Path], None]] = {
    "lasot": lambda root: write_lasot(root, num_train=0, num_test=2, num_frames=6, frame_size=SIZE),
    "got10k": lambda root: write_got10k_benchmark(root, num_frames=6, frame_size=SIZE),
    "trackingnet": lambda root: write_trackingnet_benchmark(root, num_frames=6, frame_size=SIZE),
    "otb100": lambda root: write_otb100(root, ("Basketball", "Jogging-1", "Jogging-2"), 6, SIZE),
    "uav123": lambda root: write_uav123(root, {"uav6": ("uav6", 1, 109)}, SIZE),
    "nfs30": lambda root: write_nfs30(root, num_frames=6, frame_size=SIZE),
    "tnl2k": lambda root: write_tnl2k(root, num_frames=6, frame_size=SIZE),
    "folder": lambda root: write_videos(root, num_frames=6, frame_size=SIZE),
}


def run(name: str, root: Path, out: Path, *arguments: object) -> None:
    words = ["--dataset", name, "--data_root", root, "--output_dir", out, *arguments]
    evaluate.main([str(word) for word in words])


SCORED: list[tuple[str, tuple[str, ...], set[str], str | None]] = [
    ("lasot", (), ONE_PASS, "lasot"),
    ("got10k", ("--split", "val"), GOT10K, None),
    ("otb100", ("--sequences", "Basketball,Jogging-1,Jogging-2"), ONE_PASS, "lasot"),
    ("uav123", ("--sequences", "uav6"), ONE_PASS, "pytracking"),
    ("nfs30", (), ONE_PASS, "pytracking"),
    ("tnl2k", (), ONE_PASS, "lasot"),
    ("folder", (), ONE_PASS, "lasot"),
]
SERVERS = [("got10k", ("--split", "test"), "_001.txt"), ("trackingnet", (), ".txt")]


@pytest.mark.parametrize(("name", "arguments", "keys", "protocol"), SCORED)
def test_data_sets_that_are_scored(
    name: str,
    arguments: tuple[str, ...],
    keys: set[str],
    protocol: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    WRITERS[name](root)
    run(name, root, out, "--tracker", "oracle", *arguments)
    metrics, base = metrics_in(out), runs_in(out)["base"]
    assert (metrics["dataset"], metrics["protocol"]) == (name, protocol)
    assert keys <= set(base)
    assert all(0 < base[key] <= 100 for key in keys)
    assert set(base["sequences"]) == set(metrics["sequences"])
    printed = capsys.readouterr().out
    assert f"{len(metrics['sequences'])} sequences, {metrics['num_frames']} frames" in printed

    score.main([str(out)])
    assert runs_in(out)["base"] == base, "the stages give the same apart"
    report.main([str(out)])
    first = sorted(keys)[0]
    assert f"{base[first]:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "arguments", "suffix"), SERVERS)
def test_data_sets_whose_truth_is_kept_by_a_server(
    name: str, arguments: tuple[str, ...], suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    WRITERS[name](root)
    run(name, root, out, "--tracker", "mil", *arguments)
    archive = tracker_in(out) / "base" / "submission.zip"
    assert f"submission archive for the evaluation server: {archive}" in capsys.readouterr().out
    with zipfile.ZipFile(archive) as packed:
        files = [file for file in packed.namelist() if file.endswith(suffix)]
        assert len(files) == 2
        assert all(len(packed.read(file).splitlines()) == 6 for file in files)
    run_metrics = runs_in(out)["base"]
    assert run_metrics["submission"] == str(archive)
    assert "success_auc" not in run_metrics


def test_a_server_gets_no_part_of_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    WRITERS["got10k"](root)
    for number in (1, 2):
        run("got10k", root, out, "--tracker", "mil", "--sequences", f"GOT-10k_Test_{number:06d}")
        assert "no submission archive: it requires all sequences of the split" in capsys.readouterr().out
    assert metrics_in(out)["split"] == "test"
    score.main([str(out)])
    assert (tracker_in(out) / "base" / "submission.zip").is_file()


def test_the_split_of_sequences_given_by_name(tmp_path: Path) -> None:
    WRITERS["got10k"](tmp_path / "data")
    run("got10k", tmp_path / "data", tmp_path / "out", "--tracker", "oracle", "--sequences", "GOT-10k_Val_000001")
    assert (metrics_in(tmp_path / "out")["split"], metrics_in(tmp_path / "out")["scoring"]) == ("val", "got10k")


def test_a_protocol_where_there_are_none(tmp_path: Path) -> None:
    WRITERS["got10k"](tmp_path / "data")
    with pytest.raises(UserError, match="`--protocol`: the scores of got10k have no protocols"):
        run(
            "got10k",
            tmp_path / "data",
            tmp_path / "out",
            "--tracker",
            "oracle",
            "--split",
            "val",
            "--protocol",
            "lasot",
        )


@pytest.mark.parametrize(("first", "other"), [("5,5,20,20", "9,9,20,20")])
def test_another_first_box_is_another_run(tmp_path: Path, first: str, other: str) -> None:
    write_videos(tmp_path / "data", num_sequences=1, num_frames=4, frame_size=SIZE)
    for file in (tmp_path / "data").rglob("groundtruth.txt"):
        file.unlink()
    (video,) = (path for path in (tmp_path / "data").iterdir())
    run("folder", video, tmp_path / "out", "--tracker", "mil", "--first_box", first)
    with pytest.raises(UserError, match=r"other settings \(first_box: "):
        run("folder", video, tmp_path / "out", "--tracker", "mil", "--first_box", other)


def test_a_video_with_its_first_box_alone(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_videos(tmp_path / "data", num_sequences=1, num_frames=6, only_first=True, frame_size=SIZE)
    out = tmp_path / "out"
    run("folder", tmp_path / "data", out, "--tracker", "mil", "--ckpt", checkpoint, "--baseline", "--save_masks")
    assert "no scores: the data set has no ground truth after the first frame" in capsys.readouterr().out
    (boxes,) = (tracker_in(out) / "refined").glob("*.txt")
    assert len(boxes.read_text().splitlines()) == 6
    assert len(list((tracker_in(out) / "refined" / "masks" / boxes.stem).iterdir())) == 5


def test_sequences_without_ground_truth_do_not_stop_the_others(tmp_path: Path) -> None:
    write_videos(tmp_path / "data", num_sequences=4, num_frames=6, frame_size=SIZE)
    one_row, no_file, corners, good = sorted((tmp_path / "data").iterdir())
    (one_row / "groundtruth.txt").write_text("5,5,20,20\n")
    (no_file / "groundtruth.txt").unlink()
    width = SIZE[1]
    (corners / "groundtruth.txt").write_text(f"{width - 30},5,{width - 8},25\n" * 6)
    out = tmp_path / "out"
    with pytest.raises(UserError, match="3 of 4 sequences failed"):
        run("folder", tmp_path / "data", out, "--tracker", "mil")
    metrics = metrics_in(out)
    assert not metrics["complete"]
    assert metrics["num_sequences"] == 1
    reasons = {failure["sequence"]: failure["reason"] for failure in metrics["failures"]}
    assert reasons.keys() == {one_row.name, no_file.name, corners.name}
    assert "has only the box of its first frame, so it is not scored" in reasons[one_row.name]
    assert "groundtruth.txt: write the box of its first frame" in reasons[no_file.name]
    assert "fit it as x1,y1,x2,y2" in reasons[corners.name]
    assert {path.stem for path in (tracker_in(out) / "base").glob("*.txt")} == {one_row.name, good.name}


def test_every_data_set_is_run_here() -> None:
    same_layout = {"lasot_ext", "uav20l"}
    assert {name for name, *_ in SCORED} | {name for name, *_ in SERVERS} | same_layout == set(DATASETS)
