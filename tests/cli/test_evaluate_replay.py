"""`--tracker replay` over many trackers: one call, one table, a folder each."""

from __future__ import annotations

import re
import shutil
import tarfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.lasot import LaSOTDataset
from alpharefine.evaluation.published import LASOT, PublishedScores
from tests.cli.results import folder_of, metrics_in, run

NUM_FRAMES = 6


@pytest.fixture
def published(root: Path, names: list[str], tmp_path: Path) -> Path:
    """Two trackers in folders, one of them without the last sequence, and one in an archive."""
    folder = tmp_path / "published"
    for tracker, shift, covered in (("near", 1, names), ("far", 5, names[:2]), ("packed", 3, names)):
        (folder / tracker).mkdir(parents=True)
        for name in covered:
            truth = read_rows(folder_of(root, name) / "groundtruth.txt")
            rows = np.concatenate([truth[:1], truth[1:] + np.array([shift, shift, 0, 0])])
            np.savetxt(folder / tracker / f"{name}.txt", rows, fmt="%.3f", delimiter=",")
    with tarfile.open(folder / "packed.tar.xz", "w:xz") as archive:
        archive.add(folder / "packed", "packed")
    shutil.rmtree(folder / "packed")
    return folder


def rows_of(text: str) -> dict[str, list[float]]:
    """The lines of the table by the name of the tracker: how many sequences, then the scores."""
    found = re.findall(r"^(\S+) +(\d+(?: +[+-]?\d+\.\d\d)+)$", text, flags=re.MULTILINE)
    return {name: [float(value) for value in values.split()] for name, values in found}


def times_of(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*.txt")}


def test_all_trackers_in_one_call(
    root: Path, names: list[str], published: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("--tracker", "replay", "--results_dir", published, "--data_root", root, "--output_dir", out)
    with pytest.raises(UserError, match=rf"1 of 3 sequences failed \({names[2]}\)"):
        run(*command, "--ckpt", checkpoint)
    captured = capsys.readouterr()
    rows, metrics = rows_of(captured.out), metrics_in(out)
    assert "3 sequences, 18 frames, protocol lasot" in captured.out
    assert list(rows) == list(metrics["trackers"]) == ["far", "near", "packed"]
    for tracker, values in rows.items():
        runs = metrics["trackers"][tracker]["runs"]
        covered = names[:2] if tracker == "far" else names
        assert values[0] == len(covered)
        for field, (base, refined, gain) in zip(
            ("success_auc", "precision_20", "norm_precision_20"), np.reshape(values[1:], (3, 3)), strict=True
        ):
            assert base == round(runs["base"][field], 2)
            assert refined == round(runs["refined"][field], 2)
            assert gain == round(runs["refined"][field] - runs["base"][field], 2)
        for run_name in ("base", "refined"):
            assert list(runs[run_name]["sequences"]) == covered
            assert sorted(path.stem for path in (out / tracker / run_name).glob("*.txt")) == sorted(covered)
        boxes_xywh = read_rows(out / tracker / "refined" / f"{names[0]}.txt")
        assert (boxes_xywh[1:] != read_rows(out / tracker / "base" / f"{names[0]}.txt")[1:]).any()
    assert f"far has no results of 1 of the 3 sequences: {names[2]}" in captured.out
    assert "Rows over different sequences are not comparable" in captured.out
    assert (metrics["protocol"], metrics["sequences"]) == ("lasot", names)
    assert re.search(r"refined: .*3/3 .*fps=\d", captured.err)

    # Once more: what is done is not done again. One more tracker: that one alone is run.
    before = times_of(out)
    shutil.copytree(published / "near", published / "another")
    with pytest.raises(UserError, match="1 of 3 sequences failed"):
        run(*command, "--ckpt", checkpoint)
    assert {path: time for path, time in times_of(out).items() if path in before} == before
    assert list(rows_of(capsys.readouterr().out)) == ["another", "far", "near", "packed"]
    np.testing.assert_allclose(
        read_rows(out / "another" / "refined" / f"{names[0]}.txt"),
        read_rows(out / "near" / "refined" / f"{names[0]}.txt"),
        atol=2e-3,
    )

    # Other boxes, other settings: refused, all of it, until overwritten.
    shutil.copy(published / "far" / f"{names[0]}.txt", published / "near" / f"{names[0]}.txt")
    with pytest.raises(UserError, match=r"out/near/base holds a run with other settings \(results: "):
        run(*command, "--ckpt", checkpoint)
    with pytest.raises(UserError, match=r"other settings .*box_from: corner there, mask now"):
        run(*command, "--ckpt", checkpoint, "--box_from", "mask")
    assert {path: time for path, time in times_of(out).items() if path in before} == before
    run(*command, "--ckpt", checkpoint, "--overwrite", "--sequences", names[0])
    assert sorted(path.name for path in (out / "near" / "refined").glob("*.txt")) == [f"{names[0]}.txt"]


def test_an_output_among_the_results_is_refused(
    root: Path, published: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("--tracker", "replay", "--data_root", root, "--ckpt", checkpoint)
    before = sorted(published.rglob("*"))
    for out in (published, published / "mine"):
        with pytest.raises(UserError, match=r"`--output_dir`: .* lies in --results_dir"):
            run(*command, "--results_dir", published, "--output_dir", out)
    published.rename(tmp_path / "results")
    with pytest.raises(UserError, match=r"`--output_dir`: results/results lies in --results_dir"):
        run(*command, "--results_dir", "results")
    published = tmp_path / "results"
    assert len(list(published.rglob("*"))) == len(before)


def test_trackers_with_fewer_sequences_do_not_stand_beside_published_scores(
    root: Path, names: list[str], published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = PublishedScores(LASOT.rows, lambda: names, NUM_FRAMES * len(names), "lasot")
    monkeypatch.setattr(LaSOTDataset, "published", scores)
    command = ("--tracker", "replay", "--results_dir", published, "--data_root", root, "--compare")
    for tracker, comparable in (("far", False), ("near", True)):
        with nullcontext() if comparable else pytest.raises(UserError, match="1 of 3 sequences failed"):
            run(*command, "--output_dir", tmp_path / tracker)
        assert (metrics_in(tmp_path / tracker)["published"]["why_incomparable"] is None) is comparable
        shutil.rmtree(published / "far", ignore_errors=True)


def test_one_folder_gives_what_it_gave_and_what_it_gives_among_others(
    root: Path, names: list[str], published: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--tracker", "replay", "--data_root", root, "--ckpt", checkpoint, "--baseline")
    run(*command, "--results_dir", published / "near", "--output_dir", tmp_path / "alone")
    assert re.search(r"^gain +[+-]", capsys.readouterr().out, flags=re.MULTILINE)
    assert set(metrics_in(tmp_path / "alone")["trackers"]["near"]["runs"]) == {"base", "refined"}
    with pytest.raises(UserError, match="1 of 3 sequences failed"):
        run(*command, "--results_dir", published, "--output_dir", tmp_path / "many")
    for name in names:
        for run_name in ("base", "refined"):
            alone, many = (tmp_path / path / run_name / f"{name}.txt" for path in ("alone/near", "many/near"))
            np.testing.assert_allclose(read_rows(alone), read_rows(many), atol=2e-3)


def test_an_archive_alone_and_published_scores(
    root: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("--tracker", "replay", "--results_dir", published / "packed.tar.xz", "--data_root", root, "--compare")
    text, metrics = capsys.readouterr().out, metrics_in(tmp_path / "results" / "packed")
    assert list(metrics["trackers"]) == ["packed"]
    assert re.search(r"^base +\d", text, flags=re.MULTILINE)
    assert set(metrics["trackers"]["packed"]["runs"]) == {"base"}
    assert re.search(r"published, not measured here.*\nARDiMP +65\.4 ", text)
    assert re.search(r"Not comparable: \d of the 280 official test sequences are scored", text)
    assert "of the 280 official" in metrics["published"]["why_incomparable"]
    assert [row["success_auc"] for row in metrics["published"]["scores"]][:2] == [65.4, 64.8]


def test_the_folder_of_one_tracker_that_lacks_a_sequence(
    root: Path, names: list[str], published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=rf"1 of 3 sequences failed \({names[2]}\)"):
        run("--tracker", "replay", "--results_dir", published / "far", "--data_root", root, "--output_dir", tmp_path)
    printed = capsys.readouterr().out
    assert "2 of 3 sequences, 12 frames" in printed
    assert f"far has no results of 1 of the 3 sequences: {names[2]}" in printed
    assert list(metrics_in(tmp_path)["trackers"]["far"]["runs"]["base"]["sequences"]) == names[:2]


def converted(rows: np.ndarray, convention: str) -> np.ndarray:
    x, y, w, h = rows.T
    columns = {
        "xyxy": (x, y, x + w, y + h),
        "inclusive": (x, y, x + w - 1, y + h - 1),
        "center": (x + w / 2, y + h / 2, w, h),
        "normalized": (x / 64, y / 48, w / 64, h / 48),
        "short": (x, y, w, h),
        "text": (x, y, w, h),
    }
    return np.stack(columns[convention], axis=1)


@pytest.mark.parametrize(
    ("convention", "reason"),
    [
        ("xyxy", "as x1,y1,x2,y2"),
        ("inclusive", "as x1,y1,x2,y2"),
        ("center", "as center x,center y,width,height"),
        ("normalized", "normalized by the image size"),
        ("short", "has 5 rows, the sequence has 6 frames"),
        ("text", "row 7"),
    ],
)
@pytest.mark.parametrize("refined", [False, True])
def test_a_file_of_another_kind_is_lacking_for_its_tracker(
    root: Path,
    names: list[str],
    published: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    convention: str,
    reason: str,
    refined: bool,
) -> None:
    shutil.rmtree(published / "far")
    path = published / "near" / f"{names[1]}.txt"
    rows = converted(read_rows(path), convention)
    np.savetxt(path, rows[:5] if convention == "short" else rows, fmt="%.6f", delimiter=",")
    if convention == "text":
        path.write_text(path.read_text() + "the end\n")
    with pytest.raises(UserError, match=rf"1 of 3 sequences failed \({names[1]}\)"):
        run("--tracker", "replay", "--results_dir", published, "--data_root", root, "--output_dir", tmp_path / "out",
            *(("--ckpt", checkpoint) if refined else ()))  # fmt: skip
    printed = capsys.readouterr().out
    assert re.search(rf"^  {names[1]} \(near\): .*{reason}", printed, re.MULTILINE)
    assert re.search(r"^near +2 +\d", printed, re.MULTILINE)
    assert re.search(r"^packed +3 +\d", printed, re.MULTILINE)
    assert "Rows over different sequences are not comparable" in printed


def test_an_unreadable_frame_does_not_stop_the_others(
    root: Path,
    names: list[str],
    published: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.rmtree(published / "far")
    frame = folder_of(root, names[0]) / "img" / "00000004.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(b"no picture")
    command = ("--tracker", "replay", "--results_dir", published, "--data_root", root, "--ckpt", checkpoint,
               "--output_dir", tmp_path / "out")  # fmt: skip
    with pytest.raises(UserError, match=rf"1 of 3 sequences failed \({names[0]}\)"):
        run(*command)
    printed = capsys.readouterr().out
    assert re.search(rf"^  {names[0]} \(refined\): .*00000004\.jpg", printed, re.MULTILINE)
    assert "2 of 3 sequences, 12 frames" in printed
    frame.write_bytes(whole)
    run(*command)
    assert metrics_in(tmp_path / "out")["complete"]


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.exhaustive
def test_two_processes_write_the_same_boxes(
    root: Path, names: list[str], published: Path, checkpoint: Path, tmp_path: Path
) -> None:
    shutil.rmtree(published / "far")
    (published / "packed.tar.xz").unlink()
    for devices in (1, 2):
        run("--tracker", "replay", "--results_dir", published, "--data_root", root, "--ckpt", checkpoint,
            "--output_dir", tmp_path / str(devices), "--devices", devices)  # fmt: skip
    for name in names:
        one, two = (read_rows(tmp_path / str(devices) / "near" / "refined" / f"{name}.txt") for devices in (1, 2))
        np.testing.assert_allclose(one, two, atol=2e-3)


@pytest.mark.parity
@pytest.mark.exhaustive
def test_the_trackers_of_the_real_results(
    shared: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--tracker", "replay", "--results_dir", shared / "data/lasot_results", "--data_root", shared / "data/lasot",
        "--output_dir", tmp_path, "--ckpt", checkpoint, "--sequences", "mountainbike-1,football1-1")  # fmt: skip
    text = capsys.readouterr().out
    rows = rows_of(text)
    assert list(rows) == ["ATOM", "MDNet", "SiamFC", "SiamRPN++"]
    assert all(row[0] == 2 and len(row) == 10 for row in rows.values())
    with pytest.raises(UserError, match="Sequences without a result, of 9: DiMP50 8, MDNet 1, SiamFC 1"):
        run("--tracker", "replay", "--results_dir", shared / "data/lasot_results",
            "--data_root", shared / "data/lasot", "--output_dir", tmp_path / "base")  # fmt: skip
    text = capsys.readouterr().out
    assert {name: row[0] for name, row in rows_of(text).items()} == {
        **{"ATOM": 9, "DiMP50": 1, "MDNet": 8, "SiamFC": 8, "SiamRPN++": 9}
    }
    assert "MDNet has no results of 1 of the 9 sequences: airplane-1" in text
