"""One-pass evaluation: ``python evaluate.py --ckpt last.ckpt --tracker nano --data_root LASOT --baseline``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from alpharefine.cli import run_command
from alpharefine.errors import UserError
from alpharefine.evaluation.report import format_table
from alpharefine.evaluation.run import TIME_COLUMNS, RunFolder, RunSettings, run_sequences, write_whole
from alpharefine.evaluation.score import RunScore, attribute_scores, score_run
from alpharefine.evaluation.sequences import EvaluationSequence, SequenceSet
from alpharefine.metrics import PROTOCOLS
from alpharefine.trackers import TRACKER_NAMES


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Run a base tracker over LaSOT in one pass, with and without refinement, and score it.",
    )
    add = parser.add_argument
    add("--tracker", required=True, help=f"base tracker: {', '.join(TRACKER_NAMES)}, or package.module:Class")
    add("--ckpt", help="checkpoint of the refiner; without it the base tracker runs alone")
    add("--tracker_weights", type=_comma_separated, default=(), help="the tracker's files, separated by commas")
    add("--results_dir", type=Path, help="folder of published results, for --tracker replay")
    add("--data_root", type=Path, help="folder of the LaSOT sequences")
    add("--annotations_dir", type=Path, help="annotation folder of the official toolkit; scoring needs no frames then")
    add("--split", default="test", help="test, train, or a text file with one sequence a line (default: test)")
    add("--sequences", type=_comma_separated, default=(), help="names, separated by commas, in place of a split")
    add("--output_dir", type=Path, help="where boxes and metrics.json go (default: results/<tracker>)")
    add(
        "--feedback",
        action=argparse.BooleanOptionalAction,
        help="hand the refined box back to the tracker (default: where the tracker can take it)",
    )
    add("--min_score", type=float, help="refine only where the tracker's own score is at least this")
    add("--baseline", action="store_true", help="also run the tracker alone, and print the gain")
    add("--protocol", choices=PROTOCOLS, default="lasot", help="whose scoring conventions (default: lasot)")
    add(
        "--devices",
        type=_positive,
        default=1,
        help="processes, each with a graphics card where there is one (default: 1)",
    )
    add("--overwrite", action="store_true", help="discard results of an earlier run in the output folder")
    return parser


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def main(args: Sequence[str] | None = None) -> None:
    """Run, score, print.

    Args:
        args: the command line's by default.

    Raises:
        UserError: if something the user gave is missing or unfit.
    """
    options = make_parser().parse_args(args)
    sequence_set = SequenceSet(options.data_root, options.annotations_dir, options.split, options.sequences)
    sequences = [sequence_set.load(name) for name in sequence_set.names]
    output_dir = options.output_dir or Path("results") / options.tracker.replace(":", "_")

    scores, speeds = {}, {}
    runs = _runs(options)
    for name, settings in runs.items():
        folder = RunFolder(output_dir / name, settings, options.overwrite)
        _run(name, folder, settings, sequences, options.devices)
        scores[name] = score_run(folder.path, [sequence.truth for sequence in sequences], options.protocol)
        speeds[name] = _median_times(folder, sequences)
    sys.stdout.write(
        f"{len(sequences)} sequences, {sum(len(s.truth.boxes_xywh) for s in sequences)} frames, "
        f"protocol {options.protocol}\n{format_table(scores)}\n"
    )
    metrics: dict[str, Any] = {
        "runs": {name: score.to_dict() | {"median_ms": speeds[name]} for name, score in scores.items()},
        "settings": {name: asdict(settings) for name, settings in runs.items()} | {"protocol": options.protocol},
    }
    _add_attributes(metrics, scores, sequence_set)
    write_whole(output_dir / "metrics.json", json.dumps(metrics, indent=1))
    sys.stdout.write(f"boxes and metrics.json in {output_dir}\n")


def _runs(options: argparse.Namespace) -> dict[str, RunSettings]:
    base = RunSettings(
        tracker=options.tracker,
        tracker_weights=options.tracker_weights,
        results_dir=None if options.results_dir is None else str(options.results_dir.resolve()),
        data_root=None if options.data_root is None else str(options.data_root.resolve()),
    )
    if options.ckpt is None:
        given = [name for name in ("feedback", "min_score") if getattr(options, name) is not None]
        if given or options.baseline:
            raise UserError(f"`--{given[0] if given else 'baseline'}` is about refinement and needs `--ckpt`.")
        return {"base": base}
    refined = replace(base, ckpt=options.ckpt, feedback=options.feedback, min_score=options.min_score)
    return {"base": base, "refined": refined} if options.baseline else {"refined": refined}


def _run(
    name: str, folder: RunFolder, settings: RunSettings, sequences: list[EvaluationSequence], num_processes: int
) -> None:
    todo = [sequence for sequence in sequences if not folder.is_done(sequence.name)]
    if not todo:
        return
    num_frames, busy_ms = 0, 0.0
    with tqdm(
        total=len(sequences), initial=len(sequences) - len(todo), desc=name, unit="seq", dynamic_ncols=True
    ) as bar:
        for done, result in run_sequences(settings, todo, num_processes):
            folder.write(done, result)
            num_frames, busy_ms = num_frames + len(result.times_ms), busy_ms + float(result.times_ms.sum())
            bar.set_postfix(fps=f"{1e3 * num_frames / max(busy_ms, 1e-9):.1f}")
            bar.update()


def _median_times(folder: RunFolder, sequences: list[EvaluationSequence]) -> dict[str, float]:
    """Median milliseconds a frame, first frames left out: they load what the others use."""
    times = np.concatenate([folder.read_times(sequence.name)[1:] for sequence in sequences])
    medians = np.median(times, axis=0) if len(times) else np.zeros(len(TIME_COLUMNS))
    return dict(zip(TIME_COLUMNS, medians.round(3).tolist(), strict=True))


def _add_attributes(metrics: dict[str, Any], scores: dict[str, RunScore], sequence_set: SequenceSet) -> None:
    attributes = sequence_set.attributes()
    if attributes is None:
        return
    for name, score in scores.items():
        by_attribute = attribute_scores(score, attributes)
        metrics["runs"][name]["attributes"] = {key: asdict(value) for key, value in by_attribute.items()}


if __name__ == "__main__":
    sys.exit(run_command(main))
