"""The report page, and the tables and plots for papers."""

from __future__ import annotations

import base64
import csv
import html
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import matplotlib.colors
import numpy as np
import pytest
import torch
import yaml

import alpharefine
from alpharefine.boxes import paired_iou, xywh_to_xyxy
from alpharefine.cli import evaluate, report, score
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation import stages
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import EvaluationSequence, GroundTruth
from alpharefine.evaluation.datasets.registry import open_dataset
from alpharefine.evaluation.failures import NO_FILE, Failure
from alpharefine.evaluation.metrics_file import Metrics, RunMetrics, TrackerMetrics, join_metrics, read_metrics
from alpharefine.evaluation.results import read_result
from alpharefine.evaluation.score import score_run
from alpharefine.evaluation.tracker_scores import SequenceBoxes, read_tracker_boxes
from alpharefine.report import page
from alpharefine.report.export import export, latex_text, markdown_text
from alpharefine.report.page import render_report
from alpharefine.report.plots import figure_bytes, plot_all, plot_attributes, plot_curves
from alpharefine.report.scores import Cell, score_table
from alpharefine.report.series import frame_overlaps
from alpharefine.report.settings import settings_table
from alpharefine.report.styles import tracker_color
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
    by_run = {row[1]: row[2:] for row in found.rows if row[0] == "mil"}
    for run in ("base", "refined"):
        assert by_run[run][:4] == ["3", *(f"{value:.2f}" for value in scores[run].values())]
        assert float(by_run[run][4]) > 0
    gains = [f"{scores['refined'][key] - value:+.2f}" for key, value in scores["base"].items()]
    assert by_run["gain"] == [*gains, "-"]
    for name in metrics.sequences:
        base, refined = (metrics.trackers["mil"].scores[run].sequences[name] for run in ("base", "refined"))
        gain = refined["success_auc"] - base["success_auc"]
        assert rows[name] == [f"{base['success_auc']:.2f}", f"{refined['success_auc']:.2f}", f"{gain:+.2f}"]


def test_the_overlaps_and_pictures_of_the_page(results: Path, lasot_root: Path) -> None:
    found = Page(results / "report.html")
    names = read_metrics(results).sequences
    assert [entry["name"] for entry in found.data["sequences"]] == names
    for entry in found.data["sequences"]:
        name = entry["name"]
        truth_xywh = read_rows(lasot_root / name.rpartition("-")[0] / name / "groundtruth.txt")
        for run, folder in zip(entry["runs"], ("base", "refined"), strict=True):
            assert (run["tracker"], run["color"], run["dashed"]) == ("mil", "#0072b2", folder == "base")
            boxes_xywh = read_rows(results / "mil" / folder / f"{name}.txt")
            expected = paired_iou(*(torch.from_numpy(xywh_to_xyxy(boxes)) for boxes in (boxes_xywh, truth_xywh)))
            codes = np.frombuffer(base64.b64decode(run["overlaps"]), np.uint8)
            visible = codes != 255
            assert visible.any()
            np.testing.assert_allclose(codes[visible] / 254, expected.numpy()[visible], atol=0.5 / 254 + 1e-9)
        assert len(found.all("img", data_frame="3", alt=f"{name}, frame 4 with boxes of mil")) == 1
    assert len(found.all("img", **{"class": "plot"})) == 3


def test_overlaps_of_special_frames() -> None:
    truth_xywh = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4, [0, 0, 10, 10], [0, 0, 10, 10]])
    absent = np.array([False, True, False, False, False])
    sequence = EvaluationSequence("a", GroundTruth(truth_xywh, absent))
    boxes_xywh = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4, [5, 0, 10, 10], [9.0] * 4])
    np.testing.assert_allclose(frame_overlaps(boxes_xywh, sequence), [1, np.nan, np.nan, 0, 1 / 3])


EVIL = "</script><script>alert(1)</script>\"'  two  spaces"


def write_evil_page(results: Path, path: Path) -> None:
    """Write a page whose names are code, and differ in spaces only."""
    metrics = read_metrics(results)
    renamed = replace(metrics, dataset=EVIL, notes={EVIL: EVIL}, trackers={EVIL: metrics.trackers["mil"]})
    truth = GroundTruth(np.ones((3, 4)), np.zeros(3, bool))
    boxes = {name: SequenceBoxes(EvaluationSequence(name, truth), {"base": np.ones((3, 4))}) for name in ("a  b", EVIL)}
    path.write_text(render_report(renamed, {EVIL: boxes}), encoding="utf-8")


def test_names_cannot_inject_code(results: Path, tmp_path: Path) -> None:
    write_evil_page(results, tmp_path / "report.html")
    found = Page(tmp_path / "report.html")
    assert "<script>alert" not in found.source
    assert [entry["name"] for entry in found.data["sequences"]] == ["a  b", EVIL]
    assert [option["value"] for option in found.all("option")] == ["0", "1", "0"]
    assert len(found.all("script")) == 2


def test_frames_that_are_missing_or_damaged(results: Path, lasot_root: Path, tmp_path: Path, checkpoint: Path) -> None:
    root, out = shutil.copytree(lasot_root, tmp_path / "lasot"), shutil.copytree(results, tmp_path / "out")
    (out / "config.yaml").write_text((out / "config.yaml").read_text().replace(str(lasot_root), str(root)))
    name = read_metrics(out).sequences[0]
    (root / name.rpartition("-")[0] / name / "img" / "00000003.jpg").write_bytes(b"no picture")
    report.main([str(out), "--format", "html"])
    found = Page(out / "report.html")
    assert "00000003.jpg: cannot decode this image" in found.source
    assert len(found.all("img", alt=f"{name}, frame 2 with boxes of mil")) == 1
    assert len(found.data["sequences"]) == 3


def test_a_run_of_an_earlier_command_is_not_shown(results: Path, lasot_root: Path, tmp_path: Path) -> None:
    out = shutil.copytree(results, tmp_path / "out")
    evaluate.main(["--tracker", "mil", "--data_root", str(lasot_root), "--output_dir", str(out)])
    entries = Page(out / "report.html").data["sequences"]
    assert [[(run["label"], run["dashed"]) for run in entry["runs"]] for entry in entries] == [[("mil", False)]] * 3


def test_data_sets_without_scores(tmp_path: Path) -> None:
    write_videos(tmp_path / "clips", num_sequences=1, num_frames=5, only_first=True, frame_size=(48, 64))
    evaluate.main(["--tracker", "mil", "--dataset", "folder", "--data_root", str(tmp_path / "clips"),
                   "--output_dir", str(tmp_path / "out")])  # fmt: skip
    found = Page(tmp_path / "out" / "report.html")
    assert found.data["sequences"] == []
    assert found.all("img", **{"class": "plot"}) == []
    assert found.rows[1][0] == "mil"


def pictured(
    results: Path, lasot_root: Path, trackers: list[str]
) -> tuple[Metrics, dict[str, dict[str, SequenceBoxes]]]:
    """Scores and boxes of many trackers, which are all those of `results`."""
    metrics = read_metrics(results)
    dataset = open_dataset(DatasetConfig("lasot", lasot_root))
    boxes, failures = read_tracker_boxes(results, "mil", ["base", "refined"], [dataset.load(n) for n in dataset.names])
    assert not failures
    return replace(metrics, trackers=dict.fromkeys(trackers, metrics.trackers["mil"])), dict.fromkeys(trackers, boxes)


def test_a_large_evaluation_stays_small(results: Path, lasot_root: Path, tmp_path: Path) -> None:
    """280 sequences of LaSOT's length, two trackers with two runs, and pictures of 24 noisy frames a strip."""
    metrics, boxes = pictured(results, lasot_root, ["a", "b"])
    rng, frame_paths = np.random.default_rng(0), []
    for index in range(24):
        frame_paths.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(frame_paths[-1]), cv2.resize(rng.integers(0, 256, (45, 80, 3), np.uint8), (320, 180)))
    score = metrics.trackers["a"].scores["base"]
    names = [f"s-{index}" for index in range(280)]
    scores = dict.fromkeys(names, score.scores)
    runs = {run: RunMetrics(replace(score, sequences=scores), {}) for run in ("base", "refined")}
    every = {}
    for name in names:
        boxes_xywh = rng.uniform(1, 100, (2448, 4))
        paths = [frame_paths[index % 24] for index in range(2448)]
        sequence = EvaluationSequence(name, GroundTruth(boxes_xywh, np.zeros(2448, bool)), paths)
        shifted = boxes_xywh + rng.normal(0, 3, (2448, 4))
        every[name] = SequenceBoxes(sequence, {"base": shifted, "refined": shifted})
    large = replace(metrics, trackers=dict.fromkeys(boxes, TrackerMetrics(runs, {})), sequences=names)
    text = render_report(large, dict.fromkeys(boxes, every))
    assert text.count('class="strip"') == 12
    assert text.count("data-frame=") == 12 * 24
    assert len(text) < 15e6


def test_pictures_are_shared_among_many_trackers(results: Path, lasot_root: Path, tmp_path: Path) -> None:
    for num_trackers, shares in ((1, [3]), (4, [3] * 4), (5, [3, 3, 2, 2, 2]), (13, [1] * 12)):
        trackers = [f"t{number}" for number in range(num_trackers)]
        (tmp_path / "report.html").write_text(render_report(*pictured(results, lasot_root, trackers)))
        found = Page(tmp_path / "report.html")
        strips = [strip["data-tracker"] for strip in found.all("div", **{"class": "strip"})]
        assert list(Counter(strips).values()) == shares
        assert len(
            {(strip["data-tracker"], strip["data-sequence"]) for strip in found.all("div", **{"class": "strip"})}
        ) == sum(shares)
        assert ("there are none of t12." in found.source) == (num_trackers == 13)
        options = [option["value"] for option in found.all("option")][-num_trackers:]
        assert options == [str(number) for number in range(num_trackers)]


def test_strips_by_score_without_a_gain(results: Path, lasot_root: Path) -> None:
    metrics, boxes = pictured(results, lasot_root, ["mil"])
    tracker = metrics.trackers["mil"]
    base = replace(metrics, trackers={"mil": replace(tracker, runs={"base": tracker.runs["base"]})})
    scores = {name: each["success_auc"] for name, each in tracker.scores["base"].sequences.items()}
    text = render_report(base, boxes)
    found = re.findall(r'<h3>(.*), mil: <span class="">score (.*)</span></h3>', text)
    assert found == [(name, f"{scores[name]:.2f}") for name in sorted(scores, key=lambda name: -scores[name])]


@pytest.mark.parametrize(("gain", "tone"), [(1.5, "good"), (-1.5, "bad"), (0.004, ""), (-0.004, "")])
def test_the_color_of_a_gain_is_that_of_the_printed_number(gain: float, tone: str) -> None:
    cell = Cell("gain", gain)
    assert cell.sign == {"good": 1, "bad": -1, "": 0}[tone]


def test_a_tracker_has_one_color_and_a_run_one_line_style(results: Path, lasot_root: Path, tmp_path: Path) -> None:
    metrics, boxes = pictured(results, lasot_root, ["a", "b"])
    (tmp_path / "report.html").write_text(render_report(metrics, boxes))
    (runs, *_) = (entry["runs"] for entry in Page(tmp_path / "report.html").data["sequences"])
    lines = plot_curves(metrics)["success"].axes[0].get_lines()
    drawn = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert drawn == {(run["color"], "--" if run["dashed"] else "-") for run in runs}
    assert [(run["color"], run["dashed"]) for run in runs] == [
        (color, dashed) for color in (tracker_color(0), tracker_color(1)) for dashed in (True, False)
    ]


def test_colors_are_distinct_and_dark_enough_on_white() -> None:
    colors = [tracker_color(number) for number in range(21)]
    assert len(set(colors)) == 21
    for color in colors:
        rgb = np.array([int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3, color


def test_bars_of_the_attributes(results: Path) -> None:
    metrics = with_attributes(results)
    figure = plot_attributes(metrics)
    assert figure is not None
    bars = figure.axes[0].containers
    heights = [[patch.get_height() for patch in bar] for bar in bars]
    np.testing.assert_allclose(heights, [[40, np.nan], [55, 30]])
    assert {matplotlib.colors.to_hex(patch.get_edgecolor()) for bar in bars for patch in bar} == {tracker_color(0)}
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["SV", "OV"]
    assert plot_attributes(read_metrics(results)) is None


def with_attributes(results: Path) -> Metrics:
    metrics = read_metrics(results)
    tracker = metrics.trackers["mil"]
    values = {"base": {"SV": 40.0}, "refined": {"SV": 55.0, "OV": 30.0}}
    runs = {}
    for run, numbers in tracker.runs.items():
        assert numbers.score is not None
        attributes = {name: dict.fromkeys(numbers.score.scores, value) for name, value in values[run].items()}
        runs[run] = replace(numbers, score=replace(numbers.score, attributes=attributes))
    return replace(metrics, trackers={"mil": replace(tracker, runs=runs)})


def test_attributes_are_a_table_too(results: Path, tmp_path: Path) -> None:
    metrics = with_attributes(results)
    (tmp_path / "report.html").write_text(render_report(metrics, {}))
    rows = {row[0]: row[1:] for row in Page(tmp_path / "report.html").rows}
    assert rows["SV"] == ["40.00", "55.00", "+15.00"]
    assert rows["OV"] == ["-", "30.00", "-"]
    assert export(metrics, ["csv"])["attributes.csv"] == (
        "attribute,mil (base),mil + refinement,gain\nSV,40.00,55.00,+15.00\nOV,,30.00,\n"
    )


def test_long_sequences_keep_every_nth_frame(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_MAX_OVERLAPS", 10)
    report.main([str(results), "--format", "html", "--output", str(tmp_path)])
    data = Page(tmp_path / "report.html").data
    assert data["step"] == 4  # 36 overlaps
    full = {entry["name"]: entry["runs"] for entry in Page(results / "report.html").data["sequences"]}
    for entry in data["sequences"]:
        for thin, every in zip(entry["runs"], full[entry["name"]], strict=True):
            kept, codes = (base64.b64decode(run["overlaps"]) for run in (thin, every))
            assert list(kept) == [codes[0], codes[4], codes[5]]


def test_the_page_says_how_the_scores_were_obtained(results: Path, lasot_root: Path, checkpoint: Path) -> None:
    metrics, boxes = pictured(results, lasot_root, ["mil"])
    table = settings_table(metrics)
    assert table.names == table.rows == []
    assert table.shared["checkpoint"] == str(checkpoint)
    assert table.shared["feedback"] == "yes, from score 0.2"
    assert table.shared["save_masks"] == "yes"
    assert table.shared["alpharefine"] == alpharefine.__version__
    assert "flip_test" not in table.shared, "a default"
    assert f"<dt>checkpoint</dt><dd>{checkpoint}</dd>" in render_report(metrics, boxes)


def test_settings_that_differ_are_listed_by_tracker(results: Path) -> None:
    metrics = read_metrics(results)
    tracker = metrics.trackers["mil"]
    flipped = {
        **tracker.settings["refined"],
        "refinement": {**tracker.settings["refined"]["refinement"], "flip_test": True},
    }
    other = replace(tracker, settings={**tracker.settings, "refined": flipped})
    table = settings_table(replace(metrics, trackers={"a": tracker, "b": other}))
    assert table.names == ["flip_test"]
    assert table.rows == [("a", [""]), ("b", ["yes"])]
    assert "checkpoint" in table.shared


def test_notes_of_the_data_and_missing_sequences_are_listed(results: Path) -> None:
    metrics = read_metrics(results)
    text = render_report(replace(metrics, sequences=[*metrics.sequences, "zebra-1"], notes={"a": "ends early"}), {})
    assert "mil has no results of 1 of the 4 sequences: zebra-1" in text
    assert "<li>a: ends early</li>" in text


def test_folders_and_files_that_are_gone(results: Path, tmp_path: Path) -> None:
    out = shutil.copytree(results, tmp_path / "out")
    name = read_metrics(out).sequences[0]
    (out / "mil" / "base" / f"{name}.txt").unlink()
    report.main([str(out), "--format", "html"])
    found = Page(out / "report.html")
    assert f"{name} (mil, base): " in found.source
    assert "not readable now" in found.source
    assert name not in [entry["name"] for entry in found.data["sequences"]]
    shutil.rmtree(out / "mil" / "refined")
    with pytest.raises(UserError, match=r"refined holds no run, but the scores in .*; restore the folder"):
        report.main([str(out), "--format", "html"])


def test_sequences_of_the_data_set_that_are_gone(results: Path, lasot_root: Path, tmp_path: Path) -> None:
    root, out = shutil.copytree(lasot_root, tmp_path / "lasot"), shutil.copytree(results, tmp_path / "out")
    (out / "config.yaml").write_text((out / "config.yaml").read_text().replace(str(lasot_root), str(root)))
    name = read_metrics(out).sequences[0]
    (root / name.rpartition("-")[0] / name / "groundtruth.txt").unlink()
    report.main([str(out), "--format", "html"])
    assert re.search(rf"not readable now.*\n  {name}: .*groundtruth.txt", Page(out / "report.html").source)


def test_the_page_of_score_is_that_of_evaluate(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shutil.copytree(results, tmp_path / "out")
    (out / "report.html").unlink()
    read = []
    monkeypatch.setattr(stages, "read_result", lambda *args: read.append(args) or read_result(*args))
    monkeypatch.setattr("alpharefine.evaluation.tracker_scores.read_boxes", None)
    score.main([str(out)])
    assert len(read) == 6, "every file is read once"
    assert (out / "report.html").read_text() == (results / "report.html").read_text()


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
    assert [(row["tracker"], row["run"], row["sequences"]) for row in rows] == [
        ("mil", "base", "3"),
        ("mil", "refined", "3"),
        ("mil", "gain", ""),
    ]
    assert rows[2]["ms a frame"] == "", "nothing is missing in another way"
    assert float(rows[0]["AUC"]) == pytest.approx(scores["base"].scores["success_auc"], abs=0.005)
    latex = (tmp_path / "scores.tex").read_text()
    head = "tracker & run & sequences & AUC & P@20 & P\\_norm@0.2 & ms a frame"
    assert latex.startswith(f"\\begin{{tabular}}{{llrrrrr}}\n\\toprule\n{head} \\\\\n")
    assert latex.count("&") == 4 * 6
    assert re.search(r"mil & gain & - & \$[+-]\d+\.\d\d\$ & ", latex)
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
        labels = [(row["tracker"], row["run"]) for row in csv.DictReader(file)]
    assert labels == [
        *(("mil (out)", run) for run in ("base", "refined", "gain")),
        *(("mil (again)", run) for run in ("base", "refined", "gain")),
        ("oracle", "base"),
    ]
    runs = Page(tmp_path / "all" / "report.html").data["sequences"][0]["runs"]
    assert [run["label"] for run in runs] == [
        *(f"mil ({folder}){suffix}" for folder in ("out", "again") for suffix in (" (base)", " + refinement")),
        "oracle",
    ]
    assert len({run["color"] for run in runs}) == 3


def test_folders_over_different_sequences(results: Path) -> None:
    metrics = read_metrics(results)
    first, second, third = metrics.sequences
    parts = {
        Path("a"): part_of(metrics, {first: 6, second: 5}, [third]),
        Path("b"): part_of(metrics, {third: 4}, [first]),
    }
    joined, _ = join_metrics(parts)
    assert (joined.num_sequences, joined.num_frames) == (3, 15)
    assert sorted(joined.sequences) == sorted(metrics.sequences)
    assert [(failure.sequence, failure.tracker) for failure in joined.failures] == [
        (third, "mil (a)"),
        ("bad", ""),
        (first, "mil (b)"),
    ]
    text = render_report(joined, {})
    assert f"mil (b) has no results of 2 of the 3 sequences: {first}, {second}" in text
    assert [row.cells[0].value for row in score_table(joined).rows if row.labels[1] == "base"] == [2, 1]


def part_of(metrics: Metrics, frames: dict[str, int], lacking: list[str]) -> Metrics:
    """Scores of some of the sequences. Two sequences failed: one that no tracker has, and one by tracker."""
    tracker = metrics.trackers["mil"]
    runs = {
        run: replace(numbers, score=replace(numbers.score, sequences={n: numbers.score.sequences[n] for n in frames}))
        for run, numbers in tracker.runs.items()
        if numbers.score is not None
    }
    failures = [*(Failure(name, NO_FILE, "mil") for name in lacking), Failure("bad", "no rows")]
    return replace(
        metrics,
        frames=frames,
        sequences=[*frames, *lacking],
        trackers={"mil": replace(tracker, runs=runs)},
        failures=failures,
    )


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
    with pytest.raises(UserError, match=r"`--format` must be among html, .*, got none"):
        report.main([str(results), "--format", ","])
    with pytest.raises(UserError, match=r"`--output`: .*metrics\.json is a file; give a folder"):
        report.main([str(results), "--format", "csv", "--output", str(results / "metrics.json")])
    for option in ("attributes", "per_sequence"):
        with pytest.raises(UserError, match=f"`--{option}` is for printed scores"):
            report.main([str(results), f"--{option}", "--format", "csv"])
    before = (results / "report.html").read_bytes()
    with pytest.raises(UserError, match="`--output` is required for a report on several folders"):
        report.main([str(results), str(tmp_path), "--format", "html"])
    assert (results / "report.html").read_bytes() == before


ESCAPES = [
    ("\\", r"\textbackslash{}", r"\\"),
    ("^", r"\textasciicircum{}", "^"),
    ("~", r"\textasciitilde{}", "~"),
    ("<b>", r"\textless{}b\textgreater{}", "&lt;b&gt;"),
    ("a|b", r"a\textbar{}b", r"a\|b"),
    (r"a\|b", r"a\textbackslash{}\textbar{}b", r"a\\\|b"),
    ("{}", r"\{\}", "{}"),
    ("#$%&_", r"\#\$\%\&\_", r"#$%&amp;\_"),
    ("P_norm", r"P\_norm", "P_norm"),
    ("_a_", r"\_a\_", r"\_a\_"),
    ("[1]*", "{[}1]{*}", r"\[1\]\*"),
    ("a\nb", "a b", "a b"),
    ("`x`", "`x`", r"\`x\`"),
]


@pytest.mark.parametrize(("text", "latex", "markdown"), ESCAPES)
def test_names_are_escaped(text: str, latex: str, markdown: str) -> None:
    assert latex_text(text) == latex
    assert markdown_text(text) == markdown


@pytest.mark.parametrize("name", ["$x$", "_hidden", r"a\$b", "$", r"$\frac$"])
def test_names_are_text_in_plots(results: Path, name: str) -> None:
    metrics = read_metrics(results)
    renamed = replace(metrics, trackers={name: metrics.trackers["mil"]})
    for figure in plot_all(renamed).values():
        assert name.replace("$", "$").encode() in html.unescape(figure_bytes(figure, "svg").decode()).encode()
        assert {
            text.get_text().partition(" (base)")[0].partition(" + ")[0]
            for text in figure.axes[0].get_legend().get_texts()
        } == {name}


def test_signed_numbers_in_latex(results: Path) -> None:
    text = export(read_metrics(results), ["latex"])["sequences.tex"]
    assert isinstance(text, str)
    assert len(re.findall(r"\$[+-]\d+\.\d\d\$ ", text)) == 3
    assert not re.search(r"& -\d", text), "a hyphen is no minus"


# ---- raw results of other trackers ---------------------------------------------------------------------------------


@pytest.fixture
def raw(lasot_root: Path, tmp_path: Path) -> Path:
    """Raw results of one tracker that is exact in two sequences, and lacks the third."""
    folder = tmp_path / "exact_tracking_result"
    folder.mkdir()
    for name in (lasot_root / "testing_set.txt").read_text().split()[:2]:
        shutil.copy(lasot_root / name.rpartition("-")[0] / name / "groundtruth.txt", folder / f"{name}.txt")
    return folder


def test_compared_results_in_a_report(
    results: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (results / "metrics.json").read_bytes()
    report.main(
        [str(results), "--compare_results", f"Exact={raw}", "--format", "html,csv", "--output", str(tmp_path / "r")]
    )
    with (tmp_path / "r" / "scores.csv").open() as file:
        rows = {(row["tracker"], row["run"]): row for row in csv.DictReader(file)}
    assert list(rows)[-1] == ("Exact", "base")
    assert rows["Exact", "base"]["sequences"] == "2"
    truth = scored_truth(results, raw)
    assert float(rows["Exact", "base"]["AUC"]) == pytest.approx(truth, abs=0.005)
    found = Page(tmp_path / "r" / "report.html")
    assert found.data["trackers"] == ["mil", "Exact"]
    exact = [run for entry in found.data["sequences"] for run in entry["runs"] if run["tracker"] == "Exact"]
    assert len(exact) == 2
    assert {code for run in exact for code in base64.b64decode(run["overlaps"])} <= {254, 255}
    assert "Exact has no results of 1 of the 3 sequences" in found.source
    assert f"raw results in {raw}" in found.source
    assert {strip["data-tracker"] for strip in found.all("div", **{"class": "strip"})} == {"0", "1"}
    capsys.readouterr()
    report.main([str(results), "--compare_results", str(raw)])
    assert re.search(r"^exact_tracking_result +2 ", capsys.readouterr().out, re.MULTILINE)
    assert (results / "metrics.json").read_bytes() == before


def scored_truth(results: Path, raw: Path) -> float:
    """Success AUC of the raw results from the functions below the command."""
    dataset = open_dataset(
        DatasetConfig("lasot", Path(yaml.safe_load((results / "config.yaml").read_text())["dataset"]["root"]))
    )
    sequences = [dataset.load(path.stem) for path in sorted(raw.iterdir())]
    return score_run({path.stem: read_rows(path) for path in raw.iterdir()}, sequences).scores["success_auc"]


def test_compared_results_of_an_evaluation(lasot_root: Path, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate.main(["--tracker", "oracle", "--data_root", str(lasot_root), "--output_dir", str(out),
                   "--compare_results", f"A={raw},B={raw}"])  # fmt: skip
    metrics = read_metrics(out)
    assert list(metrics.trackers) == ["oracle", "A", "B"]
    assert metrics.trackers["A"].is_compared
    assert not metrics.is_complete
    page_of_evaluate = (out / "report.html").read_text()
    assert Page(out / "report.html").data["trackers"] == ["oracle", "A", "B"]
    report.main([str(out), "--format", "html"])
    assert (out / "report.html").read_text() == page_of_evaluate, "the results are found again"
    score.main([str(out)])
    assert read_metrics(out).to_json() == metrics.to_json(), "the saved configuration holds the comparison"
    shutil.rmtree(raw)
    with pytest.raises(UserError, match=r"--compare_results .*exact_tracking_result is not a folder"):
        report.main([str(out), "--format", "html"])


def test_compared_results_that_do_not_fit(results: Path, raw: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(raw, both / "a")
    shutil.copytree(raw, both / "b")
    short = shutil.copytree(raw, tmp_path / "short")
    for path in short.iterdir():
        path.write_text(path.read_text().splitlines()[0])
    cases = {
        str(tmp_path / "absent"): "--compare_results .*absent is not a folder",
        f"mil={raw}": "'mil' is the name of a tracker of the evaluation too",
        f"={raw}": "must be DIR or NAME=DIR",
        f"X={both}": r"holds results of 2 trackers \(a, b, ...\)",
        f"{both},a={raw}": "are named 'a'; name one by NAME=DIR",
        str(short): "no result in .*short can be scored: .* has 1 rows",
    }
    for place, message in cases.items():
        with pytest.raises(UserError, match=message):
            report.main([str(results), "--compare_results", place])
    report.main([str(results), "--compare_results", str(both), "--format", "csv", "--output", str(tmp_path / "r")])
    assert {"a", "b"} <= {line.split(",")[0] for line in (tmp_path / "r" / "scores.csv").read_text().splitlines()}


def test_compared_results_are_checked_before_the_run(lasot_root: Path, raw: Path, tmp_path: Path) -> None:
    common = ["--data_root", str(lasot_root), "--tracker", "oracle", "--output_dir", str(tmp_path / "out")]
    for place in (f"oracle={raw}", str(tmp_path / "absent")):
        with pytest.raises(UserError, match="--compare_results"):
            evaluate.main([*common, "--compare_results", place])
    assert not (tmp_path / "out").exists()


def test_data_sets_that_are_not_scored_have_no_comparison(raw: Path, tmp_path: Path) -> None:
    write_videos(tmp_path / "clips", num_sequences=1, num_frames=5, only_first=True, frame_size=(48, 64))
    with pytest.raises(
        UserError, match=r"`--compare_results`: the boxes of folder are not scored here \(scoring `none`\)"
    ):
        evaluate.main(["--tracker", "mil", "--dataset", "folder", "--data_root", str(tmp_path / "clips"),
                       "--output_dir", str(tmp_path / "out"), "--compare_results", str(raw)])  # fmt: skip


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


def in_browser(source: str, script: str, tmp_path: Path, width: int) -> Any:
    """What a script that is added to a page writes into `seen`."""
    (tmp_path / "page.html").write_text(source.replace("</body>", f"{script}</body>"), encoding="utf-8")
    assert CHROMIUM is not None
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    done = subprocess.run(
        [CHROMIUM, *options.split(), "--disable-component-update", f"--user-data-dir={tmp_path / 'user'}",
         f"--window-size={width},900", "--virtual-time-budget=8000", "--enable-logging=stderr", "--dump-dom",
         (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    return json.loads(html.unescape(re.findall(r"<output>(.*)</output>", done.stdout)[0]))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_in_a_browser(results: Path, tmp_path: Path, width: int) -> None:
    seen = in_browser((results / "report.html").read_text(encoding="utf-8"), SCRIPT, tmp_path, width)
    gains = [float(value) for value in seen["up"]]
    assert gains == sorted(gains)
    assert [float(value) for value in seen["down"]] == sorted(gains, reverse=True)
    assert seen["names"] == sorted(seen["names"], key=lambda name: (name.rpartition("-")[0], int(name.split("-")[-1])))
    assert (seen["start"], seen["end"], seen["paths"]) == ("0", "100", 2)
    assert re.fullmatch(r"frame 6; mil \(base\): 0\.\d\d; mil \+ refinement: 0\.\d\d", seen["text"])
    assert seen["picture"].endswith("frame 6 with boxes of mil")
    assert (seen["playing"], seen["played"], seen["stopped"]) == ("Pause", True, "Play")
    assert not seen["wide"], "the page does not scroll sideways"


def output(script: str) -> str:
    """Script that writes the object `seen` into the page."""
    return f"""<script>
const seen = {{}}, slider = document.getElementById("time");
const move = value => {{ slider.value = value; slider.dispatchEvent(new Event("input")); }};
const pick = (id, value) => {{
  const list = document.getElementById(id);
  list.value = value;
  list.dispatchEvent(new Event("change"));
}};
const attributes = (selector, ...names) =>
  [...document.querySelectorAll(selector)].map(element => names.map(name => element.getAttribute(name)));
{script}
const result = document.createElement("output");
result.textContent = JSON.stringify(seen);
document.body.append(result);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.slow
def test_thinned_overlaps_in_a_browser(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames 1, 5 and 6 of six are kept."""
    monkeypatch.setattr(page, "_MAX_OVERLAPS", 10)
    report.main([str(results), "--format", "html", "--output", str(tmp_path / "thin")])
    source = (tmp_path / "thin" / "report.html").read_text(encoding="utf-8")
    script = output("""
seen.path = document.querySelector("#overlap path").getAttribute("d");
seen.at = [0, 1, 2].map(index => {
  move(index);
  return [slider.getAttribute("aria-valuetext"), attributes("#overlap .cursor", "x1")[0][0]];
});
seen.max = slider.max;
""")
    seen = in_browser(source, script, tmp_path, 1280)
    assert re.findall(r"[ML]([\d.]+) ", seen["path"]) == ["0.000", "80.000", "100.000"]
    assert [place for _, place in seen["at"]] == ["0", "80", "100"]
    assert [text.partition(";")[0] for text, _ in seen["at"]] == ["frame 1", "frame 5", "frame 6"]
    assert seen["max"] == "2"
    name = Page(tmp_path / "thin" / "report.html").data["sequences"]
    shown = {entry["name"]: base64.b64decode(entry["runs"][0]["overlaps"]) for entry in name}
    values = [float(text.partition("(base): ")[2][:4]) for text, _ in seen["at"]]
    assert any(np.allclose(values, [code / 254 for code in codes], atol=0.0051) for codes in shown.values())


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.slow
def test_names_that_are_code_in_a_browser(results: Path, tmp_path: Path) -> None:
    write_evil_page(results, tmp_path / "report.html")
    script = output("""
seen.paths = [0, 1].map(value => { pick("sequence", value); return attributes("#overlap path").length; });
seen.scripts = document.scripts.length;
""")
    seen = in_browser((tmp_path / "report.html").read_text(encoding="utf-8"), script, tmp_path, 1280)
    assert seen == {"paths": [1, 1], "scripts": 3}


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.slow
def test_the_pictures_of_a_tracker_in_a_browser(results: Path, lasot_root: Path, tmp_path: Path) -> None:
    source = render_report(*pictured(results, lasot_root, ["a", "b"]))
    script = output("""
const shown = () => [document.getElementById("picture").alt, document.getElementById("caption").textContent];
seen.first = shown();
pick("tracker", 1);
seen.second = shown();
seen.colors = attributes("#overlap path", "stroke", "stroke-dasharray", "stroke-width");
seen.pressed = document.getElementById("play").hasAttribute("aria-pressed");
""")
    seen = in_browser(source, script, tmp_path, 1280)
    assert seen["first"][0].endswith("frame 1 with boxes of a")
    assert seen["second"][0].endswith("frame 1 with boxes of b")
    assert seen["second"][1] == "Frame 1; the picture is frame 1 of b."
    assert seen["colors"] == [
        [tracker_color(number), dash, width] for number, width in ((0, "1.8"), (1, "3")) for dash in ("6 3", "none")
    ]
    assert not seen["pressed"]
