"""Files to numbers: result boxes and annotations to the scores of one-pass evaluation.

Boxes stay as written in the files (x, y, w, h), which is what the protocols in `alpharefine.metrics.functional` are
defined on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alpharefine.data.text import read_flags, read_rows
from alpharefine.errors import UserError
from alpharefine.metrics import NormalizedPrecision, Precision, Protocol, SuccessAUC

ATTRIBUTES = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC")
"""LaSOT's 14 attributes in the order of the official toolkit's flags: illumination variation, partial occlusion,
deformation, motion blur, camera motion, rotation, background clutter, viewpoint change, scale variation, full
occlusion, fast motion, out-of-view, low resolution, aspect-ratio change."""


@dataclass(frozen=True)
class GroundTruth:
    """The annotation of one sequence.

    Attributes:
        name: of the sequence, as in its result file.
        boxes_xywh: ``(N, 4)`` float64, as written in the file.
        absent: ``(N,)`` bool, frames without a visible target.
    """

    name: str
    boxes_xywh: np.ndarray
    absent: np.ndarray


@dataclass(frozen=True)
class SequenceScore:
    """The three scores, in percent.

    Attributes:
        success_auc: area under the success curve.
        precision_20: precision at 20 px.
        norm_precision_20: normalised precision at 0.20; under `got10k` the mean of its curve.
    """

    success_auc: float
    precision_20: float
    norm_precision_20: float


@dataclass(frozen=True)
class RunScore(SequenceScore):
    """The scores of a tracker: the mean over sequences, and each sequence.

    Attributes:
        sequences: scores by the name of the sequence.
    """

    sequences: dict[str, SequenceScore]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and dicts, for JSON."""
        return asdict(self)


class AnnotationFolder:
    """The annotations in the layout of the official LaSOT toolkit.

    ``<folder>/<sequence>.txt``, ``<folder>/absent/<sequence>.txt`` and ``<folder>/att/<sequence>.txt``.

    Args:
        path: the folder, or the one that holds it under the name ``annos``.

    Raises:
        UserError: if the folder has no ``absent`` folder in it.
    """

    def __init__(self, path: Path | str) -> None:
        given = Path(path)
        self.folder = given / "annos" if (given / "annos").is_dir() else given
        if not (self.folder / "absent").is_dir():
            raise UserError(
                f"{given} is not a folder of LaSOT annotations: it holds neither `absent/` nor `annos/absent/`; "
                "give the `annos` folder of the official toolkit."
            )

    def load(self, name: str) -> GroundTruth:
        """Read the annotation of one sequence.

        Raises:
            UserError: if a file is missing or malformed, or boxes and flags differ in number.
        """
        path, absent_path = self.folder / f"{name}.txt", self.folder / "absent" / f"{name}.txt"
        for file in (path, absent_path):
            if not file.is_file():
                raise UserError(
                    f"Sequence {name} has no annotation {file}; restore it from the official toolkit, or leave the "
                    "sequence out: name those to score in a file for `--split`, or with `--sequences`."
                )
        boxes_xywh, absent = read_rows(path), read_flags(absent_path)
        if len(boxes_xywh) != len(absent):
            raise UserError(
                f"{path} has {len(boxes_xywh)} boxes and {absent_path} has {len(absent)} flags; both need one a frame, "
                "so one of them is damaged: get the annotations again."
            )
        return GroundTruth(name, boxes_xywh, absent)

    def attributes(self, name: str) -> tuple[str, ...]:
        """The short names of the attributes that a sequence has.

        Raises:
            UserError: if the file is missing or does not hold 14 flags.
        """
        path = self.folder / "att" / f"{name}.txt"
        flags = read_flags(path)
        if len(flags) != len(ATTRIBUTES):
            raise UserError(f"{path} must hold {len(ATTRIBUTES)} flags, got {len(flags)}; get the annotations again.")
        return tuple(attribute for attribute, flag in zip(ATTRIBUTES, flags, strict=True) if flag)


def read_results(folder: Path | str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read the result files ``<folder>/<sequence>.txt``.

    Args:
        folder: of the result files.
        names: of the sequences to read.

    Returns:
        ``(N, 4)`` boxes as written, by the name of the sequence.

    Raises:
        UserError: if a file is missing or malformed.
    """
    paths = {name: Path(folder) / f"{name}.txt" for name in names}
    _raise_if_missing([name for name, path in paths.items() if not path.is_file()], f"the folder {folder}")
    return {name: read_rows(path) for name, path in paths.items()}


def score_run(
    boxes: Mapping[str, np.ndarray] | Path | str, ground_truths: Iterable[GroundTruth], protocol: Protocol = "lasot"
) -> RunScore:
    """Score a tracker on a set of sequences.

    Args:
        boxes: ``(N, 4)`` xywh result boxes by the name of the sequence, or the folder of result files; results of other
            sequences are ignored.
        ground_truths: the sequences to score.
        protocol: whose conventions to follow.

    Raises:
        UserError: if there is no sequence, a sequence stands twice, or a result is missing, malformed or too short.
    """
    truths = list(ground_truths)
    names = [truth.name for truth in truths]
    if not names:
        raise UserError("`ground_truths` must hold at least one sequence, got none; check the list of sequences.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"`ground_truths` must hold a sequence once, got {twice[0]} more than once; correct the list.")
    if not isinstance(boxes, Mapping):
        boxes = read_results(boxes, names)
    _raise_if_missing([name for name in names if name not in boxes], "the results")
    return _score(boxes, truths, protocol)


def _score(boxes: Mapping[str, np.ndarray], truths: list[GroundTruth], protocol: Protocol) -> RunScore:
    # Every process that scores has all the boxes, so that nothing is to be summed over processes.
    kinds = (SuccessAUC, Precision, NormalizedPrecision)
    metrics = [kind(protocol, sync_on_compute=False) for kind in kinds]
    sequences = {}
    for truth in truths:
        try:
            values = [metric(boxes[truth.name], truth.boxes_xywh, truth.absent) for metric in metrics]
        except UserError as error:
            raise UserError(f"Sequence {truth.name}: {error}") from error
        sequences[truth.name] = SequenceScore(*(100.0 * value.item() for value in values))
    success_auc, precision, norm_precision = (100.0 * metric.compute().item() for metric in metrics)
    return RunScore(success_auc, precision, norm_precision, sequences)


def attribute_scores(run: RunScore, attributes: Mapping[str, Iterable[str]]) -> dict[str, SequenceScore]:
    """The mean scores over the sequences that have an attribute.

    Args:
        run: the scores of a tracker.
        attributes: the short names of a sequence's attributes by the name of the sequence, for every one in the run.

    Returns:
        Scores in percent by attribute, in the order of `ATTRIBUTES`; one that no sequence has is left out.
    """
    groups: dict[str, list[SequenceScore]] = {attribute: [] for attribute in ATTRIBUTES}
    for name, score in run.sequences.items():
        for attribute in attributes[name]:
            groups[attribute].append(score)
    return {attribute: _mean(scores) for attribute, scores in groups.items() if scores}


def _mean(scores: list[SequenceScore]) -> SequenceScore:
    rows = [(score.success_auc, score.precision_20, score.norm_precision_20) for score in scores]
    return SequenceScore(*np.mean(rows, axis=0).tolist())


def _raise_if_missing(missing: list[str], place: str) -> None:
    if missing:
        others = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise UserError(
            f"There is no result for the sequence {missing[0]} in {place}{others}; a score needs all sequences: "
            "finish the run or give the folder that holds `<sequence>.txt`."
        )
