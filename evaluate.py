"""One-pass evaluation: ``python evaluate.py --ckpt last.ckpt --tracker nano --data_root LASOT --baseline``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

from alpharefine.cli.command import UserErrorParser, run_command
from alpharefine.crops import GeometryName
from alpharefine.data.archives import archive_stem
from alpharefine.data.text import folder_name
from alpharefine.errors import UserError
from alpharefine.evaluation.one_pass import metrics_of, replays_of, run_replays, run_tracker, runs_of, score_tracker
from alpharefine.evaluation.published import PUBLISHED, format_published, why_incomparable
from alpharefine.evaluation.refinement import settle_refinement
from alpharefine.evaluation.run import MIN_FEEDBACK_SCORE, RunSettings, WhenLost
from alpharefine.evaluation.run_folder import write_whole
from alpharefine.evaluation.score import RunScore
from alpharefine.evaluation.sequences import SequenceSet
from alpharefine.inference.options import ComputePrecision
from alpharefine.masks import MASK_THRESHOLD
from alpharefine.metrics import PROTOCOLS, Protocol
from alpharefine.report.tables import format_table, format_trackers, missing_sequences
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
    "flip_test",
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
        choices=get_args(ComputePrecision),
        help="bits that the refiner computes in (default: auto, 16 on a graphics card in the geometry exact, else 32)",
    )
    add("--box_from", choices=("corner", "mask"), help="the head that the box is taken from (default: corner)")
    add("--mask_threshold", type=_prob, help=f"of masks, for boxes and pictures (default: {MASK_THRESHOLD})")
    add(
        "--flip_test",
        action="store_true",
        default=None,
        help="look at each search region mirrored too, and average: somewhat more precise, in twice the time",
    )
    add("--save_masks", action="store_true", default=None, help="keep the mask of every frame as a PNG")
    add("--baseline", action="store_true", help="also run the tracker alone, and print the gain")
    add("--protocol", choices=PROTOCOLS, default="lasot", help="whose scoring conventions (default: lasot)")
    add("--compare", action="store_true", help="also print published scores on LaSOT")
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
    name = archive_stem(options.results_dir.resolve()) if options.results_dir else options.tracker.replace("./", "")
    output_dir = options.output_dir or Path("results") / folder_name(name)

    if options.tracker == "replay":
        trackers = replays_of(output_dir, runs, sequences, options.overwrite, options.baseline)
        run_replays(trackers, options.devices)
    else:
        if "refined" in runs and not options.baseline:
            del runs["base"]
        trackers = {"": runs_of(output_dir, runs, sequences, options.overwrite)}
        _raise_if_failed(run_tracker(trackers[""], options.devices), output_dir)
    scores = {name: score_tracker(tracker, options.protocol) for name, tracker in trackers.items()}
    sys.stdout.write(
        f"{held}{len(sequences)} sequences, {sum(len(s.truth.boxes_xywh) for s in sequences)} frames, "
        f"protocol {options.protocol}\n{_report(scores, sequence_set.names, options.protocol)}\n"
    )
    metrics: dict[str, Any] = {
        name: metrics_of(tracker, scores[name], attributes) for name, tracker in trackers.items()
    }
    metrics = metrics.get("", {"trackers": metrics, "settings": {}})
    metrics["settings"]["protocol"] = options.protocol
    if options.compare:
        fewest = min((tracker.sequences for tracker in trackers.values()), key=len)
        why_not = why_incomparable([sequence.truth for sequence in fewest], options.protocol)
        sys.stdout.write(f"{format_published(why_not)}\n")
        metrics["published"] = {"comparable": why_not is None, "scores": [asdict(row) for row in PUBLISHED]}
    write_whole(output_dir / "metrics.json", json.dumps(metrics, indent=1))
    sys.stdout.write(f"boxes and metrics.json in {output_dir}\n")


def _report(scores: Mapping[str, Mapping[str, RunScore]], names: Sequence[str], protocol: Protocol) -> str:
    """The table, and which trackers lack which sequences."""
    if "" in scores:
        return format_table(scores[""], protocol)
    return "\n".join([format_trackers(scores, protocol), *missing_sequences(scores, names)])


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
    _require_effect(options, feedback)
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
        flip_test=bool(options.flip_test),
        save_masks=bool(options.save_masks),
    )
    return {"base": base, "refined": refined}


def _require_effect(options: argparse.Namespace, feedback: bool) -> None:
    """Refuse options that would decide nothing."""
    if not feedback and options.min_feedback_score is not None:
        raise UserError("`--min_feedback_score` is about the box that is handed back, and none is; leave it out.")
    if not feedback and options.when_lost == "report":
        raise UserError("`--when_lost report` is about the box that is handed back, and none is; leave it out.")
    if options.tracker == "replay" and options.when_lost == "keep":
        raise UserError("`--when_lost keep`: published boxes do not tell when the target is lost; leave it out.")


def _raise_if_failed(failed: Mapping[str, list[str]], output_dir: Path) -> None:
    if any(failed.values()):
        names = "; ".join(f"{run}: {', '.join(sorted(names))}" for run, names in failed.items() if names)
        raise UserError(
            f"{sum(map(len, failed.values()))} sequences failed ({names}), each told of above; the others are done, in "
            f"{output_dir}: the same command runs those that failed once more, then scores."
        )


if __name__ == "__main__":
    sys.path.append(str(Path.cwd()))  # where `--tracker package.module:Class` may lie
    sys.exit(run_command(main))
