"""Evaluations that are tracked in wandb, read back from the files of their runs."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from alpharefine.cli import score
from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.evaluation.metrics_file import read_metrics
from alpharefine.metrics.functional import SUCCESS_THRESHOLDS
from alpharefine.report.plots import figure_bytes, plot_all
from alpharefine.report.scores import score_table, sequence_table
from tests.cli.results import files_in, metrics_in, run
from tests.wandb_files import WandbRun, read_run


@pytest.fixture(scope="module", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory):
    """Keep the files of wandb out of the user's folders, and a key out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("wandb")))
        patch.delenv("WANDB_API_KEY", raising=False)
        yield


@pytest.fixture(scope="module")
def annotated(lasot_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data root, and annotations of it with attributes."""
    annos = tmp_path_factory.mktemp("annos")
    for folder in ("absent", "att"):
        (annos / folder).mkdir()
    for number, name in enumerate((lasot_root / "testing_set.txt").read_text().split()):
        truth = lasot_root / name.rpartition("-")[0] / name / "groundtruth.txt"
        (annos / f"{name}.txt").write_text(truth.read_text())
        (annos / "absent" / f"{name}.txt").write_text("0,0,0,0,0,0")
        (annos / "att" / f"{name}.txt").write_text(",".join("01"[column == number] for column in range(14)))
    return lasot_root, annos


@pytest.fixture(scope="module")
def tracked(annotated, tmp_path_factory, checkpoint) -> Path:
    """Results folder of an evaluation with both runs, a video and attributes."""
    out = tmp_path_factory.mktemp("tracked") / "out"
    data_root, annos = annotated
    run("--tracker", "mil", "--data_root", data_root, "--annotations_dir", annos, "--ckpt", checkpoint, "--baseline",
        "--output_dir", out, "--save_video", "best", "--wandb", "auto")  # fmt: skip
    return out


@pytest.fixture(scope="module")
def read(tracked) -> WandbRun:
    return read_run(tracked)


def test_the_configuration_and_the_resolved_settings(read: WandbRun, tracked: Path) -> None:
    assert read.name == "out"
    assert read.config["tracker"]["name"] == "mil"
    assert read.config["run"]["baseline"] is True
    assert read.config["refiner"]["min_feedback_score"] is None
    refined = read.config["settings"]["mil"]["refined"]
    assert refined == metrics_in(tracked)["trackers"]["mil"]["settings"]["refined"]
    assert refined["refinement"]["min_feedback_score"] == 0.2


def test_all_scores_are_in_the_summary(read: WandbRun, tracked: Path) -> None:
    runs = metrics_in(tracked)["trackers"]["mil"]["runs"]
    for key in ("success_auc", "precision_20", "norm_precision_20"):
        for name in ("base", "refined"):
            assert read.summary[f"mil/{name}/{key}"] == pytest.approx(runs[name][key])
        assert read.summary[f"mil/gain/{key}"] == pytest.approx(runs["refined"][key] - runs["base"][key])
    assert read.summary["mil/refined/refine_ms"] == pytest.approx(runs["refined"]["median_ms"]["refine"])
    assert (read.summary["num_sequences"], read.summary["num_failures"]) == (3, 0)


def test_curves(read: WandbRun, tracked: Path) -> None:
    runs = metrics_in(tracked)["trackers"]["mil"]["runs"]
    for name in ("success", "precision", "norm_precision"):
        table = read.table(f"curves/{name}_table")
        lines: dict[str, list[tuple[float, float]]] = {}
        for x, label, y in table["data"]:
            lines.setdefault(label, []).append((x, y))
        assert {label.rpartition(" [")[0] for label in lines} == {"mil + refinement", "mil (base)"}
        for label, points in lines.items():
            curve = runs["refined" if "refinement" in label else "base"]["curves"][name]
            np.testing.assert_allclose([y for _, y in points], 100 * np.array(curve))
            if name == "success":
                np.testing.assert_allclose([x for x, _ in points], SUCCESS_THRESHOLDS)


def test_tables(read: WandbRun, tracked: Path) -> None:
    metrics = read_metrics(tracked)
    for name, table in (("scores", score_table(metrics)), ("sequences", sequence_table(metrics))):
        content = read.table(f"tables/{name}")
        assert content["columns"] == [*table.heads, *table.titles]
        assert content["data"] == [[*row.labels, *(cell.value for cell in row.cells)] for row in table.rows]
    assert [row[0] for row in read.table("tables/sequences")["data"]] == metrics.sequences
    assert len(read.table("tables/attributes")["data"]) == 3


def test_plots_are_those_of_the_report(read: WandbRun, tracked: Path, tmp_path: Path) -> None:
    figures = plot_all(read_metrics(tracked))
    assert set(figures) == {"success", "precision", "norm_precision", "attributes"}
    for name, figure in figures.items():
        (logged,) = read.logged(f"plots/{name}")
        (tmp_path / "expected.png").write_bytes(figure_bytes(figure, "png"))
        assert np.array_equal(read_image(read.file(logged)), read_image(tmp_path / "expected.png"))


def test_videos(read: WandbRun, tracked: Path) -> None:
    (video,) = files_in(tracked / "videos")
    (logged,) = read.logged(f"videos/{video.removesuffix('.mp4')}")
    assert logged["_type"] == "video-file"
    assert read.file(logged).read_bytes() == (tracked / "videos" / video).read_bytes()


def test_scoring_logs_on_request_only(annotated, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("--tracker", "oracle", "--data_root", annotated[0], "--output_dir", out, "--wandb", "offline")
    first = read_run(out)
    (out / "wandb").rename(tmp_path / "first")
    score.main([str(out)])
    assert not (out / "wandb").exists(), "the saved configuration starts no run"
    score.main([str(out), "--wandb", "offline"])
    again = read_run(out)
    assert again.summary["oracle/base/success_auc"] == first.summary["oracle/base/success_auc"]
    assert again.config["settings"] == first.config["settings"]
    assert not any(key.startswith(("videos", "plots/attributes")) for row in again.history for key in row)


def test_without_scores(annotated, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    sequence = sorted(path for path in annotated[0].glob("*/*") if path.is_dir())[0]
    (clip / "img").mkdir(parents=True)
    for path in (sequence / "img").iterdir():
        (clip / "img" / path.name).write_bytes(path.read_bytes())
    (clip / "groundtruth.txt").write_text((sequence / "groundtruth.txt").read_text().splitlines()[0] + "\n")
    run("--tracker", "mil", "--dataset", "folder", "--data_root", clip, "--output_dir", tmp_path / "out", "--wandb",
        "offline")  # fmt: skip
    read = read_run(tmp_path / "out")
    assert read.config["dataset"]["name"] == "folder"
    assert read.summary["mil/base/base_ms"] > 0
    assert not any(key.startswith(("curves", "plots")) for row in read.history for key in row)


@pytest.mark.exhaustive
def test_two_processes_log_once(annotated, tmp_path: Path) -> None:
    run("--tracker", "oracle", "--data_root", annotated[0], "--output_dir", tmp_path / "out", "--devices", 2,
        "--wandb", "offline")  # fmt: skip
    assert read_run(tmp_path / "out").summary["num_sequences"] == 3


class TestWithoutNetwork:
    @pytest.fixture(autouse=True)
    def url(self, monkeypatch: pytest.MonkeyPatch) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr("wandb.login", lambda **_: True)
        monkeypatch.setattr("wandb.setup", lambda: type("Setup", (), {"settings": type("S", (), {"base_url": url})}))
        return url

    def test_online_is_refused_before_the_run(self, annotated, tmp_path: Path, url: str) -> None:
        with pytest.raises(UserError, match=f"^`--wandb online`: no answer from {url}"):
            run("--tracker", "oracle", "--data_root", annotated[0], "--output_dir", tmp_path / "out", "--wandb",
                "online")  # fmt: skip
        assert not (tmp_path / "out").exists()

    def test_auto_is_offline_with_one_line(
        self, annotated, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("--tracker", "oracle", "--data_root", annotated[0], "--output_dir", tmp_path / "out", "--wandb", "auto")
        assert read_run(tmp_path / "out").summary["num_sequences"] == 3
        (line,) = (line for line in capsys.readouterr().err.splitlines() if url in line)
        assert line.startswith(f"wandb: no answer from {url} (")
        assert line.endswith("); the run is tracked offline")
