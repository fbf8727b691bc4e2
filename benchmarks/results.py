"""Table of the README: ``python benchmarks/results.py DATA WEIGHTS [--ckpt ar18_cm] [--output DIR] [OPTION ...]``.

Evaluates a checkpoint: NanoTrack v2 in the closed loop, and published boxes. Further options, which come last, are
those of ``alpharefine evaluate``, such as ``--flip_test``. ``DATA`` holds ``lasot``, ``lasot_results``, ``tight`` and
``tight_results``, ``WEIGHTS`` the two ONNX files of NanoTrack v2. Prints the table in Markdown, and every sequence that
loses more than one point.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from alpharefine.cli import evaluate
from alpharefine.evaluation.metrics_file import Metrics, read_metrics

NANO_OPTIONS = ("--tracker", "nano", "--baseline", "--tracker_weights")
NANO = ("nanotrackv2_backbone.onnx", "nanotrackv2_head.onnx")
DATASETS = ("tight", "lasot")
NAMES = {"nano": "NanoTrack v2", "NanoTrack": "NanoTrack v2"}
SCORE = "success_auc"
LASOT = "airplane-1"
LARGEST_LOSS = 1.0


class Row(NamedTuple):
    """Row of the table, in points of success AUC."""

    tracker: str
    boxes: str
    sequences: str
    base: float
    refined: float
    gains: dict[str, float]


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--ckpt", default="ar18_cm")
    parser.add_argument("--output", type=Path, default=Path("results/readme"))
    given, further = parser.parse_known_args()
    rows = []
    for folder in DATASETS:
        options = ["--ckpt", given.ckpt, "--data_root", str(given.data / folder), *further]
        weights = ",".join(str(given.weights / file) for file in NANO)
        output = given.output / folder / "closed_loop"
        evaluate.main([*NANO_OPTIONS, weights, *options, "--output_dir", str(output)])
        rows += read_rows(read_metrics(output), "closed loop")
        for results in sorted((given.data / f"{folder}_results").iterdir()):
            output = given.output / folder / results.name
            sequences = sorted(file.stem for file in results.glob("*.txt"))
            replay = ["--tracker", "replay", "--results_dir", str(results), "--sequences", ",".join(sequences)]
            evaluate.main([*replay, *options, "--output_dir", str(output)])
            rows += read_rows(read_metrics(output), "from files")
    print("| base tracker | boxes | test sequences | base | refined | gain | worst sequence |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in sorted(rows, key=lambda row: row.base - row.refined):
        start = f"| {row.tracker} | {row.boxes} | {row.sequences}"
        gain = row.refined - row.base
        print(f"{start} | {row.base:.2f} | {row.refined:.2f} | {gain:+.2f} | {min(row.gains.values()):+.1f} |")
    print(f"\nSequences that lose more than {LARGEST_LOSS} point:")
    for row in rows:
        for sequence, gain in sorted(row.gains.items(), key=lambda item: item[1]):
            if gain < -LARGEST_LOSS:
                print(f"{row.tracker}, {row.boxes}, {sequence}: {gain:+.1f}")


def read_rows(metrics: Metrics, boxes: str) -> list[Row]:
    """Return the rows of all trackers of an evaluation.

    Args:
        metrics: Scores of the evaluation.
        boxes: Origin of the base boxes.
    """
    rows = []
    for name, tracker in metrics.trackers.items():
        base, refined = (tracker.scores[run] for run in ("base", "refined"))
        gains = {one: refined.sequences[one][SCORE] - scores[SCORE] for one, scores in base.sequences.items()}
        num_lasot = len({LASOT} & gains.keys())
        of_others = f"{len(gains) - num_lasot} of {'OTB-100' if 'man-1' in gains else 'SegTrack v2'}"
        parts = [of_others] * (len(gains) > num_lasot) + [f"LaSOT's {LASOT}"] * num_lasot
        sequences = " and ".join(parts)
        rows.append(Row(NAMES.get(name, name), boxes, sequences, base.scores[SCORE], refined.scores[SCORE], gains))
    return rows


if __name__ == "__main__":
    main()
