"""One-pass evaluation: ``python evaluate.py --ckpt last.ckpt --tracker nano --data_root LASOT --baseline``."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from alpharefine.cli import UserErrorParser, run_command
from alpharefine.crops import GeometryName
from alpharefine.errors import SequenceError, UserError
from alpharefine.evaluation.refinement import settle_refinement
from alpharefine.evaluation.report import format_table
from alpharefine.evaluation.run import (
    MIN_FEEDBACK_SCORE,
    TIME_COLUMNS,
    RunFolder,
    RunSettings,
    WhenLost,
    check_run,
    run_sequences,
    write_whole,
)
from alpharefine.evaluation.score import RunScore, attribute_scores, score_run
from alpharefine.evaluation.sequences import EvaluationSequence, SequenceSet
from alpharefine.masks import MASK_THRESHOLD
from alpharefine.metrics import PROTOCOLS
from alpharefine.refiner import Precision
from alpharefine.trackers import SELF_TRACKERS, TRACKER_NAMES
from alpharefine.trackers.trax import SCHEME, TimeLimits
from alpharefine.trackers.weights import resolve_weights

_OF_REFINEMENT = (
    "feedback",
    "min_feedback_score",
    "when_lost",
    "min_score",
    "geometry",
    "precision",
    "box_from",
    "mask_threshold",
    "save_masks",
)


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = UserErrorParser(
        prog="evaluate.py",
        description="Run a base tracker over LaSOT in one pass, with and without refinement, and score it.",
    )
    add = parser.add_argument
    others = 'cmd:"program arguments" (one that speaks TraX), or package.module:Class'
    add("--tracker", required=True, help=f"base tracker: {', '.join(TRACKER_NAMES)}, {others}")
    add("--ckpt", help="checkpoint of the refiner; without it the base tracker runs alone")
    add("--tracker_weights", type=_comma_separated, default=(), help="the tracker's files, separated by commas")
    add("--results_dir", type=Path, help="folder of published results, for --tracker replay")
    add("--startup_limit", type=_seconds, help="until the program of cmd: has learnt the target (default: 120 s)")
    add("--frame_limit", type=_seconds, help="for each frame after that (default: 30 s)")
    add("--data_root", type=Path, help="folder of the LaSOT sequences")
    add("--annotations_dir", type=Path, help="annotation folder of the official toolkit; scoring needs no frames then")
    add("--split", default="test", help="test, train, or a text file with one sequence a line (default: test)")
    add("--sequences", type=_comma_separated, default=(), help="names, separated by commas, in place of a split")
    add(
        "--output_dir",
        type=Path,
        help="where boxes and metrics.json go (default: results/<name of the tracker or of --results_dir>)",
    )
    add(
        "--feedback",
        action=argparse.BooleanOptionalAction,
        help="hand the refined box back to the tracker (default: where the tracker can take it)",
    )
    add(
        "--min_feedback_score",
        type=_score,
        help=f"hand it back only where the refiner's score is at least this (default: {MIN_FEEDBACK_SCORE}; 0 in the "
        "geometry original, and for self)",
    )
    add(
        "--when_lost",
        choices=get_args(WhenLost),
        help="where the tracker has not found its target: refine as always, only report the refined box, or keep the "
        "tracker's (default: refine)",
    )
    add("--min_score", type=_score, help="refine only where the tracker's own score is at least this")
    add("--geometry", choices=get_args(GeometryName), help="in place of the one that the checkpoint was trained in")
    add(
        "--precision",
        choices=get_args(Precision),
        help="bits that the refiner computes in (default: auto, 16 on a graphics card in the geometry exact, else 32)",
    )
    add("--box_from", choices=("corner", "mask"), help="the head that the box is taken from (default: corner)")
    add("--mask_threshold", type=_prob, help=f"of masks, for boxes and pictures (default: {MASK_THRESHOLD})")
    add("--save_masks", action="store_true", default=None, help="keep the mask of every frame as a PNG")
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
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise argparse.ArgumentTypeError(f"must name at least one, got {text!r}")
    return parts


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text!r}")
    return score


def _seconds(text: str) -> float:
    seconds = _score(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0 seconds, got {text!r}")
    return seconds


def _prob(text: str) -> float:
    prob = _score(text)
    if not 0 < prob < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {text!r}")
    return prob


def main(args: Sequence[str] | None = None) -> None:
    """Run, score, print.

    Args:
        args: the command line's by default.

    Raises:
        UserError: if something the user gave is missing or unfit, or a sequence failed; the others are then done.
    """
    options = make_parser().parse_args(args)
    sequence_set = SequenceSet(options.data_root, options.annotations_dir, options.split, options.sequences)
    sequences = [sequence_set.load(name) for name in sequence_set.names]
    attributes = sequence_set.attributes() or {}
    runs, held = _runs(options), ""
    if "refined" in runs:
        runs["refined"], held = settle_refinement(runs["refined"])
    name = options.results_dir.resolve().name if options.results_dir else _folder_name(options.tracker)
    output_dir = options.output_dir or Path("results") / name

    folders = {name: RunFolder(output_dir / name, settings, options.overwrite) for name, settings in runs.items()}
    todo = {name: [s for s in sequences if not folder.is_done(s.name)] for name, folder in folders.items()}
    for name in (name for name in runs if todo[name]):
        check_run(runs[name], todo[name])
    failed = {
        name: _run(folder, runs[name], todo[name], len(sequences), options.devices) for name, folder in folders.items()
    }
    _raise_if_failed(failed, output_dir)
    scores, speeds = {}, {}
    for name, folder in folders.items():
        scores[name] = score_run(folder.path, [sequence.truth for sequence in sequences], options.protocol)
        speeds[name] = _median_times(folder, sequences)
    sys.stdout.write(
        f"{held}{len(sequences)} sequences, {sum(len(s.truth.boxes_xywh) for s in sequences)} frames, "
        f"protocol {options.protocol}\n{format_table(scores, options.protocol)}\n"
    )
    metrics: dict[str, Any] = {
        "runs": {
            name: score.to_dict() | {"median_ms": speeds[name]} | _by_attribute(score, attributes)
            for name, score in scores.items()
        },
        "settings": {name: asdict(settings) for name, settings in runs.items()} | {"protocol": options.protocol},
    }
    write_whole(output_dir / "metrics.json", json.dumps(metrics, indent=1))
    sys.stdout.write(f"boxes and metrics.json in {output_dir}\n")


def _folder_name(tracker: str) -> str:
    """A tracker's name as that of a folder.

    >>> _folder_name("self:2"), _folder_name("cmd:python3 ./mine.py --fast")
    ('self_2', 'cmd_python3_mine.py_--fast')
    """
    return re.sub(r"[^\w.+-]+", "_", tracker.replace("./", "")).strip("_")[:100]


def _runs(options: argparse.Namespace) -> dict[str, RunSettings]:
    limits = {"startup_s": options.startup_limit, "frame_s": options.frame_limit}
    limits = {name: seconds for name, seconds in limits.items() if seconds is not None}
    if limits and not options.tracker.startswith(SCHEME):
        raise UserError(f"`--startup_limit` and `--frame_limit` are for --tracker {SCHEME}, not {options.tracker}.")
    base = RunSettings(
        tracker=options.tracker,
        tracker_weights=tuple(map(str, resolve_weights(options.tracker, [Path(p) for p in options.tracker_weights]))),
        results_dir=None if options.results_dir is None else str(options.results_dir.resolve()),
        data_root=None if options.data_root is None else str(options.data_root.resolve()),
        annotations_dir=None if options.annotations_dir is None else str(options.annotations_dir.resolve()),
        limits=TimeLimits(**limits),
    )
    if options.ckpt is None:
        given = [name for name in _OF_REFINEMENT if getattr(options, name) is not None]
        if given or options.baseline:
            raise UserError(
                f"`--{given[0] if given else 'baseline'}` is about refinement: give `--ckpt`, or leave it out."
            )
        return {"base": base}
    if options.mask_threshold is not None and options.box_from != "mask" and not options.save_masks:
        raise UserError("`--mask_threshold` is for `--box_from mask` and `--save_masks`; give one, or leave it out.")
    if options.baseline and options.tracker in SELF_TRACKERS:
        raise UserError(
            f"`--baseline`: {options.tracker} is the refiner fed its own box, and no tracker that could run alone; "
            "leave `--baseline` out."
        )
    cannot_feed_back = options.tracker == "replay" or options.tracker.startswith(SCHEME)
    feedback = not cannot_feed_back if options.feedback is None else options.feedback
    refined = replace(
        base,
        ckpt=options.ckpt,
        feedback=feedback,
        min_feedback_score=options.min_feedback_score,
        when_lost=options.when_lost or "refine",
        min_score=options.min_score,
        geometry=options.geometry,
        precision=options.precision or "auto",
        box_from=options.box_from or "auto",
        mask_threshold=MASK_THRESHOLD if options.mask_threshold is None else options.mask_threshold,
        save_masks=bool(options.save_masks),
    )
    return {"base": base, "refined": refined} if options.baseline else {"refined": refined}


def _run(
    folder: RunFolder, settings: RunSettings, todo: list[EvaluationSequence], num_sequences: int, num_processes: int
) -> list[str]:
    """Run what is left to do, and return the names of the sequences that failed."""
    failed: list[str] = []
    if not todo:
        return failed
    num_frames, busy_ms, num_done = 0, 0.0, num_sequences - len(todo)
    with tqdm(total=num_sequences, initial=num_done, desc=folder.path.name, unit="seq", dynamic_ncols=True) as bar:
        for done, result in run_sequences(settings, todo, num_processes):
            if isinstance(result, SequenceError):
                failed.append(done)
                bar.write(f"Sequence {done} failed: {result}", file=sys.stderr)
                continue
            folder.write(done, result)
            num_frames, busy_ms = num_frames + len(result.times_ms), busy_ms + float(result.times_ms.sum())
            bar.set_postfix(fps=f"{1e3 * num_frames / max(busy_ms, 1e-9):.1f}")
            bar.update()
    return failed


def _raise_if_failed(failed: Mapping[str, list[str]], output_dir: Path) -> None:
    if any(failed.values()):
        names = "; ".join(f"{run}: {', '.join(sorted(names))}" for run, names in failed.items() if names)
        raise UserError(
            f"{sum(map(len, failed.values()))} sequences failed ({names}), each told of above; the others are done, in "
            f"{output_dir}: the same command runs those that failed once more, then scores."
        )


def _median_times(folder: RunFolder, sequences: list[EvaluationSequence]) -> dict[str, float]:
    """Median milliseconds a frame, first frames left out: they load what the others use."""
    times = np.concatenate([folder.read_times(sequence.name)[1:] for sequence in sequences])
    medians = np.median(times, axis=0) if len(times) else np.zeros(len(TIME_COLUMNS))
    return dict(zip(TIME_COLUMNS, medians.round(3).tolist(), strict=True))


def _by_attribute(score: RunScore, attributes: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    if not attributes:
        return {}
    return {"attributes": {name: asdict(mean) for name, mean in attribute_scores(score, attributes).items()}}


if __name__ == "__main__":
    sys.path.append(str(Path.cwd()))  # where `--tracker package.module:Class` may lie
    sys.exit(run_command(main))
