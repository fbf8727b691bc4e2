"""Boxes to scores: curves and numbers of a tracker, over all sequences, for each sequence and for each attribute.

Boxes are ``x, y, w, h`` rows as written in files, without a shift; see `alpharefine.metrics.functional`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch

from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.datasets.base import EvaluationSequence, Scoring
from alpharefine.metrics import (
    AverageOverlap,
    NormalizedPrecision,
    OnePassCurves,
    Precision,
    Protocol,
    SuccessAUC,
    SuccessRate,
    got10k_overlaps,
    one_pass_curves,
)
from alpharefine.metrics.functional import GOT10K_THRESHOLDS, count_greater
from alpharefine.trackers.result_files import require_xywh

ONE_PASS_KEYS = ("success_auc", "precision_20", "norm_precision_20")
GOT10K_KEYS = ("ao", "sr_50", "sr_75")

_SUCCESS_RATES = (0.5, 0.75)
"""Thresholds of `GOT10K_KEYS`."""

SequenceScore = OnePassCurves | np.ndarray
"""Curves of one sequence, or its overlaps for GOT-10k's scores."""


@dataclass(frozen=True, eq=False)
class RunScore:
    """Scores of a tracker.

    A key is one of `ONE_PASS_KEYS` or of `GOT10K_KEYS`. Under the protocol `got10k`, ``norm_precision_20`` is the mean
    of its curve.

    Attributes:
        scores: Percent over all sequences, by key.
        curves: Curves over all sequences in 0..1, by name: ``success``, ``precision`` and ``norm_precision``, or
            ``success`` with 101 thresholds for GOT-10k.
        sequences: Percent by key, by name of the sequence.
        sequence_curves: ``(S, T)`` curves of the S sequences in the order of `sequences`, by name.
        attributes: Mean over the sequences with an attribute, in percent by key, by name of the attribute.
    """

    scores: dict[str, float]
    curves: dict[str, np.ndarray]
    sequences: dict[str, dict[str, float]]
    sequence_curves: dict[str, np.ndarray]
    attributes: dict[str, dict[str, float]]


def read_results(folder: Path | str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read the result files ``<folder>/<sequence>.txt``.

    Args:
        folder: Folder of the result files.
        names: Names of the sequences.

    Returns:
        ``(N, 4)`` boxes as written, by name of the sequence.

    Raises:
        UserError: If a file is missing or malformed.
    """
    paths = {name: Path(folder) / f"{name}.txt" for name in names}
    _require_all([name for name, path in paths.items() if not path.is_file()], f"the folder {folder}")
    return {name: read_rows(path) for name, path in paths.items()}


def score_run(
    boxes: Mapping[str, np.ndarray],
    sequences: Iterable[EvaluationSequence],
    scoring: Scoring = "one_pass",
    protocol: Protocol = "lasot",
) -> RunScore:
    """Score a tracker on a set of sequences.

    Args:
        boxes: ``(N, 4)`` xywh result boxes by name of the sequence; other sequences are ignored.
        sequences: Sequences to score.
        scoring: Scores that the data set defines, ``one_pass`` or ``got10k``.
        protocol: Scoring conventions of ``one_pass``; not used by ``got10k``.

    Raises:
        UserError: If the data set defines no scores, there is no sequence, a sequence occurs twice, a result is missing
            or too short or not in the format x, y, width, height, or the protocol does not allow a box.
    """
    if scoring not in ("one_pass", "got10k"):
        raise UserError(
            f"`scoring` must be `one_pass` or `got10k`, got `{scoring}`: only the first boxes of this data "
            "set are available, so it cannot be scored; use another data set or split."
        )
    chosen = list(sequences)
    _require_once([sequence.name for sequence in chosen])
    _require_all([sequence.name for sequence in chosen if sequence.name not in boxes], "the results")
    parts = []
    for sequence in chosen:
        boxes_xywh = boxes[sequence.name]
        if len(boxes_xywh):
            require_xywh(boxes_xywh[0], sequence.truth.boxes_xywh[0], f"The result of {sequence.name}")
        try:
            parts.append(score_sequence(boxes_xywh, sequence, scoring, protocol))
        except UserError as error:
            raise UserError(f"Sequence {sequence.name}: {error}") from error
    return combine_scores(parts, chosen, scoring, protocol)


def score_sequence(
    boxes_xywh: np.ndarray,
    sequence: EvaluationSequence,
    scoring: Literal["one_pass", "got10k"],
    protocol: Protocol = "lasot",
) -> SequenceScore:
    """Score the result of one sequence.

    Args:
        boxes_xywh: ``(N, 4)`` result boxes.
        sequence: Sequence with the ground truth of N frames.
        scoring: Scores that the data set defines.
        protocol: Scoring conventions of ``one_pass``; not used by ``got10k``.

    Returns:
        Curves, or GOT-10k's overlaps.

    Raises:
        UserError: If the result is too short, no frame of the sequence counts, only its first box is known, GOT-10k's
            size of the images is missing, or the protocol does not allow a box.
    """
    truth = sequence.truth
    if scoring == "got10k":
        if truth.image_size is None:
            raise UserError("GOT-10k's scores require the size of its images, got None; set `image_size`.")
        return got10k_overlaps(boxes_xywh, truth.boxes_xywh, truth.absent, truth.image_size)
    later_xywh = truth.boxes_xywh[1:][~truth.absent[1:]]
    if later_xywh.size and np.isnan(later_xywh).all():
        raise UserError(
            f"Sequence {sequence.name} has only the box of its first frame, so it is not scored; give the boxes of "
            "all frames, or evaluate such sequences apart by `--sequences`."
        )
    return one_pass_curves(boxes_xywh, truth.boxes_xywh, truth.absent, protocol)


def combine_scores(
    parts: Sequence[SequenceScore],
    sequences: Sequence[EvaluationSequence],
    scoring: Literal["one_pass", "got10k"],
    protocol: Protocol = "lasot",
) -> RunScore:
    """Average the scores of sequences.

    Args:
        parts: Results of `score_sequence`, at least one.
        sequences: Sequences, in the same order.
        scoring: Scores that the data set defines.
        protocol: Scoring conventions of ``one_pass``; not used by ``got10k``.
    """
    if scoring == "got10k":
        return _combine_got10k(cast("Sequence[np.ndarray]", parts), sequences)
    return _combine_one_pass(cast("Sequence[OnePassCurves]", parts), sequences, protocol)


def _combine_one_pass(
    curves: Sequence[OnePassCurves], sequences: Sequence[EvaluationSequence], protocol: Protocol
) -> RunScore:
    # Every process that scores has all boxes, so there is nothing to sum over processes.
    metrics = {
        "success": SuccessAUC(protocol, sync_on_compute=False),
        "precision": Precision(protocol, sync_on_compute=False),
        "norm_precision": NormalizedPrecision(protocol, sync_on_compute=False),
    }
    for metric in metrics.values():
        for one in curves:
            metric.add_curves(one)
    by_name = {name: np.stack([metric.select(one) for one in curves]) for name, metric in metrics.items()}
    columns = [metric.score(torch.from_numpy(by_name[name])).numpy() for name, metric in metrics.items()]
    return _run_score(
        dict(zip(ONE_PASS_KEYS, [metric.compute().item() for metric in metrics.values()], strict=True)),
        {name: metric.curve().numpy() for name, metric in metrics.items()},
        sequences,
        np.stack(columns, axis=1),
        by_name,
    )


def _combine_got10k(overlaps: Sequence[np.ndarray], sequences: Sequence[EvaluationSequence]) -> RunScore:
    average = AverageOverlap(sync_on_compute=False)
    metrics = (average, *(SuccessRate(threshold, sync_on_compute=False) for threshold in _SUCCESS_RATES))
    for metric in metrics:
        for one in overlaps:
            metric.add_overlaps(one)
    rows = [[one.mean(), *((one > threshold).mean() for threshold in _SUCCESS_RATES)] for one in overlaps]
    curves = [count_greater(one, GOT10K_THRESHOLDS) / len(one) for one in overlaps]
    return _run_score(
        dict(zip(GOT10K_KEYS, [metric.compute().item() for metric in metrics], strict=True)),
        {"success": average.curve().numpy()},
        sequences,
        np.array(rows),
        {"success": np.stack(curves)},
    )


def _run_score(
    scores: dict[str, float],
    curves: dict[str, np.ndarray],
    sequences: Sequence[EvaluationSequence],
    rows: np.ndarray,
    sequence_curves: dict[str, np.ndarray],
) -> RunScore:
    """Convert scores in 0..1, those of the sequences as ``(S, K)`` rows, to percent and average over attributes."""
    groups: dict[str, list[int]] = {}
    for index, sequence in enumerate(sequences):
        for attribute in sequence.attributes:
            groups.setdefault(attribute, []).append(index)

    def percent(values: Iterable[float]) -> dict[str, float]:
        return {key: 100.0 * float(value) for key, value in zip(scores, values, strict=True)}

    return RunScore(
        percent(scores.values()),
        curves,
        {sequence.name: percent(row) for sequence, row in zip(sequences, rows, strict=True)},
        sequence_curves,
        {attribute: percent(rows[indices].mean(0)) for attribute, indices in groups.items()},
    )


def _require_once(names: list[str]) -> None:
    if not names:
        raise UserError("`sequences` must hold at least one sequence, got none; check the list of sequences.")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(f"`sequences` must hold a sequence once, got {twice[0]} more than once; correct the list.")


def _require_all(missing: list[str], place: str) -> None:
    if missing:
        others = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise UserError(
            f"There is no result for the sequence {missing[0]} in {place}{others}; a score needs all sequences: "
            "finish the run or give the folder that holds `<sequence>.txt`."
        )
