"""The report page, and the tables and plots for papers."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.cli import evaluate, report
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationSequence, GroundTruth
from alpharefine.evaluation.metrics_file import Metrics, join_metrics, read_metrics
from alpharefine.report import page
from alpharefine.report.page import write_report
from alpharefine.report.series import SequenceBoxes, TrackerBoxes, frame_overlaps
from alpharefine.synthetic.benchmarks import write_videos

pytestmark = pytest.mark.page

CHROMIUM = shutil.which("chromium")


class Page(HTMLParser):
    """Tags of a page with their attributes, the text of its tables and its data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.in_table = False
        self.feed(self.source)
        self.data = json.loads(self.source.partition('id="data">')[2].partition("</script>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.in_table = tag == "table" or (self.in_table and tag not in ("section", "h2"))
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        if self.in_table and self.rows and self.lasttag in ("th", "td", "button") and data.strip():
            self.rows[-1].append(data.strip())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]


@pytest.fixture(scope="module")
def results(lasot_root: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one tracker with and without refinement; not to be changed."""
    out = tmp_path_factory.mktemp("report") / "out"
    evaluate.main(["--tracker", "mil", "--data_root", str(lasot_root), "--ckpt", str(checkpoint), "--baseline",
                   "--save_masks", "--output_dir", str(out)])  # fmt: skip
    return out


def test_an_evaluation_writes_a_page_of_its_own(results: Path) -> None:
    found, metrics = Page(results / "report.html"), read_metrics(results)
    sources = [attributes.get(name) or "" for _, attributes in found.tags for name in ("src", "href", "data")]
    assert all(source.startswith("data:") for source in sources if source), "nothing is loaded from elsewhere"
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", found.source)
    assert all(image.get("alt") is not None for image in found.all("img"))
    scores = {run: score.scores for run, score in metrics.trackers["mil"].scores.items()}
    rows = {row[0]: row[1:] for row in found.rows}
    for run, label in (("base", "mil (base)"), ("refined", "mil + refinement")):
        assert rows[label][:3] == [f"{value:.2f}" for value in scores[run].values()]
        assert float(rows[label][3]) > 0
    assert rows["gain"] == [f"{scores['refined'][key] - value:+.2f}" for key, value in scores["base"].items()]
    for name in metrics.sequences:
        base, refined = (metrics.trackers["mil"].scores[run].sequences[name] for run in ("base", "refined"))
        gain = refined["success_auc"] - base["success_auc"]
        assert rows[name] == [f"{base['success_auc']:.2f}", f"{refined['success_auc']:.2f}", f"{gain:+.2f}"]


def test_the_overlaps_and_pictures_of_the_page(results: Path, lasot_root: Path) -> None:
    found = Page(results / "report.html")
    names = read_metrics(results).sequences
    assert sorted(found.data["sequences"]) == sorted(names)
    for name, entry in found.data["sequences"].items():
        truth_xywh = read_rows(lasot_root / name.rpartition("-")[0] / name / "groundtruth.txt")
        for run in entry["runs"]:
            boxes_xywh = read_rows(results / "mil" / run["run"] / f"{name}.txt")
            expected = paired_iou(*(torch.from_numpy(xywh_to_xyxy(boxes)) for boxes in (boxes_xywh, truth_xywh)))
            codes = np.frombuffer(base64.b64decode(run["overlaps"]), np.uint8)
            visible = codes != 255
            assert visible.any()
            np.testing.assert_allclose(codes[visible] / 254, expected.numpy()[visible], atol=0.5 / 254 + 1e-9)
        assert len(found.all("img", data_frame="3", alt=f"{name}, frame 4 with boxes")) == 1
    assert len(found.all("img", **{"class": "plot"})) == 3


def test_overlaps_of_special_frames() -> None:
    truth_xywh = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4, [0, 0, 10, 10], [0, 0, 10, 10]])
    absent = np.array([False, True, False, False, False])
    sequence = EvaluationSequence("a", GroundTruth(truth_xywh, absent))
    boxes_xywh = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4, [5, 0, 10, 10], [9.0] * 4])
    np.testing.assert_allclose(frame_overlaps(boxes_xywh, sequence), [1, np.nan, np.nan, 0, 1 / 3])


def test_names_cannot_inject_code(results: Path, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>\"'"
    metrics = read_metrics(results)
    renamed = replace(
        metrics, dataset=evil, notes={metrics.sequences[0]: evil}, trackers={evil: metrics.trackers["mil"]}
    )
    truth = GroundTruth(np.ones((3, 4)), np.zeros(3, bool))
    boxes = SequenceBoxes(EvaluationSequence(evil, truth), {"base": np.ones((3, 4))}, None)
    write_report(renamed, [TrackerBoxes(evil, {evil: boxes})], tmp_path / "report.html")
    found = Page(tmp_path / "report.html")
    assert "<script>alert" not in found.source
    assert list(found.data["sequences"]) == [evil]
    assert len(found.all("script")) == 2


def test_frames_that_are_missing_or_damaged(results: Path, lasot_root: Path, tmp_path: Path, checkpoint: Path) -> None:
    root, out = shutil.copytree(lasot_root, tmp_path / "lasot"), shutil.copytree(results, tmp_path / "out")
    (out / "config.yaml").write_text((out / "config.yaml").read_text().replace(str(lasot_root), str(root)))
    name = read_metrics(out).sequences[0]
    (root / name.rpartition("-")[0] / name / "img" / "00000003.jpg").write_bytes(b"no picture")
    report.main([str(out), "--format", "html"])
    found = Page(out / "report.html")
    assert "00000003.jpg: cannot decode this image" in found.source
    assert len(found.all("img", alt=f"{name}, frame 2 with boxes")) == 1
    assert len(found.data["sequences"]) == 3


def test_a_run_of_an_earlier_command_is_not_shown(results: Path, lasot_root: Path, tmp_path: Path) -> None:
    out = shutil.copytree(results, tmp_path / "out")
    evaluate.main(["--tracker", "mil", "--data_root", str(lasot_root), "--output_dir", str(out)])
    entries = Page(out / "report.html").data["sequences"].values()
    assert [[run["run"] for run in entry["runs"]] for entry in entries] == [["base"]] * 3


def test_data_sets_without_scores(tmp_path: Path) -> None:
    write_videos(tmp_path / "clips", num_sequences=1, num_frames=5, only_first=True, frame_size=(48, 64))
    evaluate.main(["--tracker", "mil", "--dataset", "folder", "--data_root", str(tmp_path / "clips"),
                   "--output_dir", str(tmp_path / "out")])  # fmt: skip
    found = Page(tmp_path / "out" / "report.html")
    assert found.data["sequences"] == {}
    assert found.all("img", **{"class": "plot"}) == []
    assert found.rows[1][0] == "mil"


def test_a_large_evaluation_stays_small(results: Path, tmp_path: Path) -> None:
    """280 sequences of LaSOT's length, two trackers with two runs."""
    metrics, rng = read_metrics(results), np.random.default_rng(0)
    trackers = []
    for tracker in ("a", "b"):
        sequences = {}
        for index in range(280):
            boxes_xywh = rng.uniform(1, 100, (2448, 4))
            sequence = EvaluationSequence(f"s-{index}", GroundTruth(boxes_xywh, np.zeros(2448, bool)))
            shifted = boxes_xywh + rng.normal(0, 3, (2448, 4))
            sequences[sequence.name] = SequenceBoxes(sequence, {"base": shifted, "refined": shifted}, None)
        trackers.append(TrackerBoxes(tracker, sequences))
    both = replace(metrics, trackers=dict.fromkeys(("a", "b"), metrics.trackers["mil"]))
    write_report(both, trackers, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 15e6 - 12 * 24 * 25e3, "the rest is left for pictures"


def test_long_sequences_keep_every_nth_frame(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_MAX_OVERLAPS", 10)
    report.main([str(results), "--format", "html", "--output", str(tmp_path)])
    data = Page(tmp_path / "report.html").data
    assert data["step"] == 4  # 36 overlaps
    assert {
        len(base64.b64decode(run["overlaps"])) for entry in data["sequences"].values() for run in entry["runs"]
    } == {2}


# ---- files for papers ----------------------------------------------------------------------------------------------


def test_tables_and_plots(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main([str(results), "--format", "csv,latex,markdown,pdf,png,svg", "--output", str(tmp_path)])
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(str(path) for path in tmp_path.iterdir())
    curves = ("success", "precision", "norm_precision")
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{table}.{suffix}" for table in ("scores", "sequences") for suffix in ("csv", "tex", "md")),
        *(f"{curve}.{suffix}" for curve in curves for suffix in ("pdf", "png", "svg")),
    }
    scores = read_metrics(results).trackers["mil"].scores
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["mil (base)", "mil + refinement", "gain"]
    assert float(rows[0]["AUC"]) == pytest.approx(scores["base"].scores["success_auc"], abs=0.005)
    latex = (tmp_path / "scores.tex").read_text()
    assert latex.startswith("\\begin{tabular}{lrrrr}\n\\toprule\nrun & AUC & P@20 & P\\_norm@0.2 & ms a frame \\\\\n")
    assert latex.count("&") == 16
    markdown = (tmp_path / "sequences.md").read_text().splitlines()
    assert len(markdown) == 2 + 3
    assert {line.count("|") for line in markdown} == {5}
    for suffix, start in (("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<?xml")):
        assert (tmp_path / f"success.{suffix}").read_bytes().startswith(start)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    report.main([str(results), "--format", "csv,latex,markdown,pdf,png,svg", "--output", str(tmp_path)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before, "equal scores give equal files"


def test_several_folders_are_one_report(
    results: Path, lasot_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = shutil.copytree(results, tmp_path / "again")
    other = tmp_path / "other"
    evaluate.main(["--tracker", "oracle", "--data_root", str(lasot_root), "--output_dir", str(other)])
    report.main([str(results), str(again), str(other), "--format", "html,csv", "--output", str(tmp_path / "all")])
    with (tmp_path / "all" / "scores.csv").open() as file:
        labels = [row["run"] for row in csv.DictReader(file)]
    assert labels[0] == "mil (out) (base)"
    assert labels[4] == "mil (again) + refinement"
    assert labels[-1] == "oracle"
    runs = next(iter(Page(tmp_path / "all" / "report.html").data["sequences"].values()))["runs"]
    assert [run["run"] for run in runs] == ["base", "refined", "base", "refined", "base"]


def test_folders_of_different_evaluations_are_not_joined(results: Path) -> None:
    metrics = read_metrics(results)
    others: dict[str, Any] = {"protocol": "pysot", "dataset": "otb100"}
    for key, value in others.items():
        changed: Metrics = replace(metrics, **{key: value})
        with pytest.raises(UserError, match=rf"b: the {key} is {value}, that of a is .*; report on them apart"):
            join_metrics({Path("a"): metrics, Path("b"): changed})


def test_bad_options(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`--format` must be among html, csv, .*, got gif"):
        report.main([str(results), "--format", "csv,gif"])
    with pytest.raises(UserError, match="`--output` is the folder of the files of `--format`"):
        report.main([str(results), "--output", str(tmp_path)])


# ---- in a browser --------------------------------------------------------------------------------------------------

SCRIPT = """
<script>
const column = index => [...document.querySelectorAll("#table tbody tr")].map(row => row.cells[index].textContent);
const heads = document.querySelectorAll("#table th button"), seen = {};
heads[3].click(); seen.down = column(3);
heads[3].click(); seen.up = column(3);
heads[0].click(); seen.names = column(0);
const slider = document.getElementById("time");
const line = () => document.querySelector("#overlap .cursor").getAttribute("x1");
seen.start = line();
slider.value = slider.max; slider.dispatchEvent(new Event("input")); seen.end = line();
seen.text = slider.getAttribute("aria-valuetext");
seen.paths = document.querySelectorAll("#overlap path").length;
seen.picture = document.getElementById("picture").alt;
document.getElementById("play").click();
seen.playing = document.getElementById("play").textContent;
seen.wide = document.documentElement.scrollWidth > innerWidth;
setTimeout(() => {
  seen.played = slider.value === slider.max; seen.stopped = document.getElementById("play").textContent;
  const result = document.createElement("output");
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
}, 2000);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_in_a_browser(results: Path, tmp_path: Path, width: int) -> None:
    source = (results / "report.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(source.replace("</body>", f"{SCRIPT}</body>"), encoding="utf-8")
    assert CHROMIUM is not None
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    done = subprocess.run(
        [CHROMIUM, *options.split(), "--disable-component-update", f"--user-data-dir={tmp_path / 'user'}",
         f"--window-size={width},900", "--virtual-time-budget=8000", "--enable-logging=stderr", "--dump-dom",
         (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    seen = json.loads(re.findall(r"<output>(.*)</output>", done.stdout)[0])
    gains = [float(value) for value in seen["up"]]
    assert gains == sorted(gains)
    assert [float(value) for value in seen["down"]] == sorted(gains, reverse=True)
    assert seen["names"] == sorted(seen["names"], key=lambda name: (name.rpartition("-")[0], int(name.split("-")[-1])))
    assert (seen["start"], seen["end"], seen["paths"]) == ("0", "100", 2)
    assert re.fullmatch(r"frame 6; mil \(base\): 0\.\d\d; mil \+ refinement: 0\.\d\d", seen["text"])
    assert seen["picture"].endswith("frame 6 with boxes")
    assert (seen["playing"], seen["played"], seen["stopped"]) == ("Pause", True, "Play")
    assert not seen["wide"], "the page does not scroll sideways"
