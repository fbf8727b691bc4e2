"""`metrics.json`: the scores of every tracker and run, in one shape whatever was run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alpharefine.errors import UserError
from alpharefine.evaluation.failures import Failure, FrameCounts, unique
from alpharefine.evaluation.published import PublishedScore
from alpharefine.evaluation.results import METRICS_FILE, VERSION
from alpharefine.evaluation.score import RunScore
from alpharefine.options import Protocol

_PLAIN_KEYS = ("dataset", "split", "scoring", "protocol", "sequences", "frames", "notes")


COMPARED_RESULTS = "compared_results"
"""Key of the settings of a tracker whose raw results are scored beside an evaluation: their absolute path."""


@dataclass(frozen=True)
class RunMetrics:
    """Numbers of one run.

    Attributes:
        score: Scores and curves; None where the truth is not public.
        median_ms: Median milliseconds per frame by column.
        counts: Number of frames by key of `alpharefine.evaluation.failures.FRAME_COUNTS`.
        submission: Path of the submission archive; None if the data set has no server.
    """

    score: RunScore | None
    median_ms: dict[str, float]
    counts: FrameCounts = field(default_factory=dict)
    submission: str | None = None


@dataclass(frozen=True)
class TrackerMetrics:
    """Numbers of one tracker.

    Attributes:
        runs: Numbers by run.
        settings: Settings by run.
    """

    runs: dict[str, RunMetrics]
    settings: dict[str, Any]

    @property
    def is_compared(self) -> bool:
        """True if raw results of the tracker are scored beside an evaluation."""
        return COMPARED_RESULTS in self.settings.get("base", {})

    @property
    def scores(self) -> dict[str, RunScore]:
        """Scores by run, of the runs that have some."""
        return {run: metrics.score for run, metrics in self.runs.items() if metrics.score is not None}


@dataclass(frozen=True)
class PublishedComparison:
    """Published scores beside the measured ones.

    Attributes:
        scores: Published scores.
        why_incomparable: Reason why they are not comparable; None if they are.
    """

    scores: tuple[PublishedScore, ...]
    why_incomparable: str | None


@dataclass(frozen=True)
class Metrics:
    """Numbers of an evaluation.

    Attributes:
        dataset: Name of the data set.
        split: Name of the split.
        scoring: Scores that the data set defines, see `alpharefine.evaluation.datasets.base.Scoring`.
        protocol: Scoring conventions; None if the data set is not scored by one-pass curves.
        sequences: Names of the chosen sequences; a tracker may lack some.
        frames: Number of frames of every sequence that at least one tracker has, by name.
        notes: Remark on the data of a sequence by name, such as an annotation that ends before the video.
        trackers: Numbers by tracker.
        published: Published scores and the reason why they are not comparable, with `--compare`.
        failures: Sequences without a result.
    """

    dataset: str
    split: str
    scoring: str
    protocol: Protocol | None
    sequences: list[str]
    frames: dict[str, int]
    notes: dict[str, str]
    trackers: dict[str, TrackerMetrics]
    published: PublishedComparison | None = None
    failures: Sequence[Failure] = ()

    @property
    def num_sequences(self) -> int:
        """Number of sequences that at least one tracker has."""
        return len(self.frames)

    @property
    def num_frames(self) -> int:
        """Number of their frames."""
        return sum(self.frames.values())

    @property
    def is_complete(self) -> bool:
        """True if every tracker has a result of every chosen sequence."""
        return not self.failures

    def to_json(self) -> str:
        """Return the text of `metrics.json`."""
        content = {
            "version": VERSION,
            "dataset": self.dataset,
            "split": self.split,
            "scoring": self.scoring,
            "protocol": self.protocol,
            "complete": self.is_complete,
            "failures": [failure._asdict() for failure in self.failures],
            "sequences": self.sequences,
            "num_sequences": self.num_sequences,
            "num_frames": self.num_frames,
            "frames": self.frames,
            "notes": self.notes,
            "trackers": {
                name: {
                    "runs": {run: _run_to_dict(metrics) for run, metrics in tracker.runs.items()},
                    "settings": tracker.settings,
                }
                for name, tracker in self.trackers.items()
            },
        }
        if self.published is not None:
            content["published"] = asdict(self.published)
        return json.dumps(content, indent=1)


def read_metrics(output_dir: Path) -> Metrics:
    """Read the `metrics.json` of a results folder.

    Args:
        output_dir: Results folder, or path of the file itself.

    Raises:
        UserError: If the file is missing, damaged or of another version.
    """
    path = output_dir / METRICS_FILE if output_dir.is_dir() else output_dir
    if not path.is_file():
        raise UserError(f"No file {path}; `alpharefine score {output_dir}` writes it.")
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            raise UserError(f"{path} has version {content['version']}, expected {VERSION}; score the boxes again.")
        return Metrics(
            **{key: content[key] for key in _PLAIN_KEYS},
            trackers={name: _tracker_from_dict(tracker) for name, tracker in content["trackers"].items()},
            published=_published_from_dict(content.get("published")),
            failures=[Failure(**failure) for failure in content["failures"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); `alpharefine score` writes it again.") from error


def join_metrics(parts: Mapping[Path, Metrics]) -> tuple[Metrics, dict[str, tuple[Path, str]]]:
    """Join the scores of several results folders. Trackers of one name get the name of their folder.

    Args:
        parts: Scores by path of the folder, at least one.

    Returns:
        Tuple of the joined scores, without published ones, and the folder and the name of each tracker by joined name.

    Raises:
        UserError: If the folders differ in what was evaluated.
    """
    first = next(iter(parts.values()))
    for folder, part in parts.items():
        for key in ("dataset", "split", "scoring", "protocol"):
            if getattr(part, key) != getattr(first, key):
                raise UserError(
                    f"{folder}: the {key} is {getattr(part, key)}, that of {next(iter(parts))} is "
                    f"{getattr(first, key)}; report on them apart."
                )
    names = _joined_names(parts)
    origins = {names[folder, tracker]: (folder, tracker) for folder, part in parts.items() for tracker in part.trackers}
    joined = replace(
        first,
        sequences=list(dict.fromkeys(name for part in parts.values() for name in part.sequences)),
        frames={name: number for part in parts.values() for name, number in part.frames.items()},
        notes={name: text for part in parts.values() for name, text in part.notes.items()},
        trackers={name: parts[folder].trackers[tracker] for name, (folder, tracker) in origins.items()},
        published=None,
        failures=_joined_failures(parts, names),
    )
    return joined, origins


def _joined_names(parts: Mapping[Path, Metrics]) -> dict[tuple[Path, str], str]:
    """Return the joined name of every tracker, also of those without a score, by folder and name."""
    trackers = {
        folder: dict.fromkeys([*part.trackers, *(failure.tracker for failure in part.failures if failure.tracker)])
        for folder, part in parts.items()
    }
    count = Counter(name for names in trackers.values() for name in names)
    has_names = len({folder.name for folder in parts}) == len(parts)
    return {
        (folder, name): f"{name} ({folder.name if has_names else folder})" if count[name] > 1 else name
        for folder, names in trackers.items()
        for name in names
    }


def _joined_failures(parts: Mapping[Path, Metrics], names: Mapping[tuple[Path, str], str]) -> list[Failure]:
    """Rename the trackers of failures. One of all trackers of a folder is one of each, unless all folders have it."""
    everywhere = set.intersection(*(set(part.failures) for part in parts.values()))
    joined = []
    for folder, part in parts.items():
        for failure in part.failures:
            is_plain = failure.tracker or failure in everywhere
            lacking = [failure.tracker] if is_plain else list(part.trackers)
            joined += [failure._replace(tracker=names[folder, name] if name else "") for name in lacking]
    return unique(joined)


def _published_from_dict(content: Mapping[str, Any] | None) -> PublishedComparison | None:
    if content is None:
        return None
    return PublishedComparison(tuple(PublishedScore(**row) for row in content["scores"]), content["why_incomparable"])


def _run_to_dict(metrics: RunMetrics) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if metrics.score is not None:
        score = metrics.score
        content = {
            **score.scores,
            "sequences": score.sequences,
            "attributes": score.attributes,
            "curves": {name: curve.tolist() for name, curve in score.curves.items()},
        }
    if metrics.submission is not None:
        content["submission"] = metrics.submission
    return {**content, "median_ms": metrics.median_ms, "counts": dict(metrics.counts)}


def _tracker_from_dict(content: Mapping[str, Any]) -> TrackerMetrics:
    return TrackerMetrics(
        {run: _run_from_dict(numbers) for run, numbers in content["runs"].items()}, content["settings"]
    )


def _run_from_dict(content: Mapping[str, Any]) -> RunMetrics:
    if "curves" not in content:
        return RunMetrics(None, content["median_ms"], content["counts"], content.get("submission"))
    special = {"sequences", "attributes", "curves", "median_ms", "counts"}
    score = RunScore(
        scores={key: value for key, value in content.items() if key not in special},
        curves={name: np.array(curve) for name, curve in content["curves"].items()},
        sequences=content["sequences"],
        sequence_curves={},
        attributes=content["attributes"],
    )
    return RunMetrics(score, content["median_ms"], content["counts"])
