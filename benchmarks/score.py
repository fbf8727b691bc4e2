"""Time to score LaSOT's 280 test sequences from text files.

Random boxes of LaSOT's lengths are written to a temporary folder. The three metrics with their curves are computed by
`alpharefine` and by a plain reference, which splits every line in Python and compares all frames with all thresholds
once for each metric. `alpharefine evaluate` replays the results and draws its report. Refined boxes, which have up to
17 digits, are read and written. Processor times, which other programs do not lengthen. The limit is numpy's parse of
the files.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import process_time

import numpy as np

from alpharefine.cli import evaluate
from alpharefine.data.text import format_rows, read_flags, read_rows
from alpharefine.evaluation.datasets.base import EvaluationSequence, GroundTruth
from alpharefine.evaluation.score import read_results, score_run
from alpharefine.metrics import score_frames
from alpharefine.metrics.functional import NORM_PRECISION_THRESHOLDS, PRECISION_THRESHOLDS, SUCCESS_THRESHOLDS
from benchmarks.rows import Row, alternate, medians

# Quantiles of the lengths of the 280 sequences in steps of 10 %.
LENGTHS = (1000, 1261, 1477, 1638, 1846, 2102, 2275, 2671, 3092, 4102, 9999)

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")


def measure(quick: bool) -> list[Row]:
    """Measure the scoring, and numpy's parse of the same files.

    Args:
        quick: Score a tenth of the sequences once.
    """
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        annotations, results = generate(root, 28 if quick else 280)
        names = sorted(path.stem for path in annotations.glob("*.txt"))
        assert abs(score(annotations, results, names) - score_plainly(annotations, results, names)) < 1e-9
        replay(annotations, results, names[:1])  # imports what the report needs
        paths = {
            "ours": lambda: score(annotations, results, names),
            "reference": lambda: score_plainly(annotations, results, names),
            "parse": lambda: parse(annotations, results, names),
            "replay": lambda: replay(annotations, results, names),
        }
        seconds = medians(alternate(paths, rounds, warm_up=0, clock=process_time))
        refined = read_results(results, names)
        for name, boxes_xywh in refined.items():
            refined[name] = boxes_xywh.astype(np.float32).astype(np.float64)
            (results / f"{name}.txt").write_text(format_rows(refined[name]))
        paths = {
            "read": lambda: read_results(results, names),
            "read, reference": lambda: [split_rows(results / f"{name}.txt") for name in names],
            "read, numpy": lambda: [np.loadtxt(results / f"{name}.txt", delimiter=",") for name in names],
            "write": lambda: [format_rows(rows) for rows in refined.values()],
            "write, reference": lambda: [json.dumps(rows.tolist()) for rows in refined.values()],
        }
        seconds |= medians(alternate(paths, rounds, warm_up=0, clock=process_time))
    what, plain = f"{len(names)} sequences", "rows parsed in Python"
    return [
        Row(
            f"score {what}, three metrics",
            "s",
            seconds["ours"],
            seconds["reference"],
            f"{plain}, each metric on its own; limit: `np.loadtxt`",
            seconds["parse"],
        ),
        Row(f"replay {what} with report", "s", seconds["replay"], None, "limit: `np.loadtxt`", seconds["parse"]),
        Row(
            f"read the refined boxes of {what}",
            "s",
            seconds["read"],
            seconds["read, reference"],
            f"{plain}; limit: `np.loadtxt`",
            seconds["read, numpy"],
        ),
        Row(f"format the refined boxes of {what}", "s", seconds["write"], seconds["write, reference"], "`json`"),
    ]


def score(annotations: Path, results: Path, names: list[str]) -> float:
    """Return the success AUC by `alpharefine.evaluation.score`."""
    sequences = [
        EvaluationSequence(
            name,
            GroundTruth(read_rows(annotations / f"{name}.txt"), read_flags(annotations / "absent" / f"{name}.txt")),
        )
        for name in names
    ]
    return score_run(read_results(results, names), sequences).scores["success_auc"]


def score_plainly(annotations: Path, results: Path, names: list[str]) -> float:
    """Return the success AUC by Python loops over rows, and by every metric on its own."""
    curves = []
    for name in names:
        target, pred = split_rows(annotations / f"{name}.txt"), split_rows(results / f"{name}.txt")
        absent = np.array((annotations / "absent" / f"{name}.txt").read_text().replace(",", " ").split()) == "1"
        curves.append(
            [
                compare(pred, target, absent, "overlaps", SUCCESS_THRESHOLDS),
                compare(pred, target, absent, "errors", PRECISION_THRESHOLDS),
                compare(pred, target, absent, "norm_errors", NORM_PRECISION_THRESHOLDS),
            ]
        )
    return float(100 * np.mean([curve.mean() for curve, _, _ in curves]))


def replay(annotations: Path, results: Path, names: list[str]) -> None:
    """Replay the results by `alpharefine evaluate`, without refinement, into a new folder."""
    with tempfile.TemporaryDirectory() as output, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        evaluate.main(
            [
                *["--tracker", "replay", "--results_dir", str(results), "--annotations_dir", str(annotations)],
                *["--sequences", ",".join(names), "--output_dir", output],
            ]
        )


def parse(annotations: Path, results: Path, names: list[str]) -> list[np.ndarray]:
    """Read all files by numpy, without any score."""
    files = [(annotations, ","), (results, "\t"), (annotations / "absent", None)]
    return [np.loadtxt(folder / f"{name}.txt", delimiter=separator) for name in names for folder, separator in files]


def split_rows(path: Path) -> np.ndarray:
    """Read rows of numbers line by line, with a check of every number."""
    rows = [_SEPARATOR.split(line.strip()) for line in path.read_text().rstrip().splitlines()]
    for row in rows:
        if len(row) != 4 or not all(isinstance(float(value), float) for value in row):
            raise ValueError(f"{path}: {row}")
    return np.array(rows, dtype=np.float64)


def compare(pred: np.ndarray, target: np.ndarray, absent: np.ndarray, kind: str, thresholds: np.ndarray) -> np.ndarray:
    """Count a curve by comparing all frames with all thresholds."""
    frames = score_frames(pred, target, absent)
    values = getattr(frames, kind)[:, None]
    hits = values > thresholds if kind == "overlaps" else values <= thresholds
    return np.asarray(np.count_nonzero(hits, axis=0) / frames.num_frames)


def generate(folder: Path, num_sequences: int) -> tuple[Path, Path]:
    """Write random annotations and results."""
    rng = np.random.default_rng(0)
    annotations, results = folder / "annos", folder / "results"
    (annotations / "absent").mkdir(parents=True)
    results.mkdir()
    for number, length in enumerate(np.interp(np.linspace(0, 10, num_sequences), range(11), LENGTHS).astype(int)):
        target = rng.integers(1, 600, (length, 4))
        pred = np.abs(target + rng.normal(0, 20, target.shape)) + 1
        np.savetxt(annotations / f"{number}.txt", target, fmt="%d", delimiter=",")
        np.savetxt(annotations / "absent" / f"{number}.txt", rng.random(length) < 0.03, fmt="%d")
        np.savetxt(results / f"{number}.txt", pred, fmt="%.2f", delimiter="\t")
    return annotations, results
