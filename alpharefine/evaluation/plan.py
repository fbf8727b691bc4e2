"""Runs of an evaluation: which tracker runs over which sequences, and in which folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from alpharefine.data.archives import TEXT_SUFFIXES, archive_stem
from alpharefine.data.text import folder_name
from alpharefine.errors import UserError
from alpharefine.evaluation.config import EvaluationConfig
from alpharefine.evaluation.datasets.base import EvaluationSequence
from alpharefine.evaluation.results import RunFolder, file_digest
from alpharefine.evaluation.settings import ResolvedRuns
from alpharefine.trackers.result_files import PublishedResults, find_results, results_of_one


@dataclass(frozen=True)
class TrackerRuns:
    """Runs of one tracker.

    Attributes:
        name: Name of the tracker, and of its folder.
        folders: Folder of each run by name.
        sequences: Sequences to evaluate. Published results may lack some sequences of the data set.
        published: Published results. None if the tracker runs here.
    """

    name: str
    folders: Mapping[str, RunFolder]
    sequences: list[EvaluationSequence]
    published: PublishedResults | None = None

    def to_do(self, run: str, share: Collection[str] | None = None) -> list[EvaluationSequence]:
        """Return the unfinished sequences of a run. A run that is not part of this evaluation has none.

        Args:
            run: Name of the run.
            share: Names of the sequences that this process runs. None selects all sequences.
        """
        if run not in self.folders:
            return []
        return [
            s for s in self.sequences if not self.folders[run].is_done(s.name) and (share is None or s.name in share)
        ]

    def done(self) -> list[EvaluationSequence]:
        """Return the sequences that all runs have completed."""
        return [s for s in self.sequences if all(folder.is_done(s.name) for folder in self.folders.values())]


def default_output_dir(config: EvaluationConfig) -> Path:
    """Return `output.dir`, or a folder in `results` named after the tracker or the published results.

    Args:
        config: Configuration of the evaluation.
    """
    return config.output.dir or Path("results") / _tracker_name(config)


def _tracker_name(config: EvaluationConfig) -> str:
    results_dir = config.tracker.results_dir
    return folder_name(config.tracker.name if results_dir is None else archive_stem(results_dir.resolve()))


def plan_runs(
    config: EvaluationConfig,
    resolved: ResolvedRuns,
    sequences: list[EvaluationSequence],
    output_dir: Path,
    overwrite: bool,
) -> list[TrackerRuns]:
    """Return the runs of every tracker, after a check of their folders.

    Args:
        config: Configuration of the evaluation.
        resolved: Resolved runs.
        sequences: Sequences of the data set.
        output_dir: Results folder.
        overwrite: Discard the results of an earlier run.

    Raises:
        UserError: If a folder holds other results, or published results are missing.
    """
    if not resolved.entry.replays:
        return [_tracker_runs(_tracker_name(config), resolved, sequences, output_dir, overwrite)]
    results_dir = resolved.settings["base"].tracker.results_dir
    assert results_dir is not None
    if output_dir.resolve().is_relative_to(results_dir):
        raise UserError(
            f"`--output_dir`: {output_dir} lies in --results_dir {results_dir}, so the next command would "
            "read it as published results; give another `--output_dir`."
        )
    names = [sequence.name for sequence in sequences]
    single = results_of_one(results_dir, names)
    if single is None:
        trackers = find_results(results_dir, names)
    else:
        texts = [path for suffix in TEXT_SUFFIXES for path in results_dir.glob(f"*{suffix}") if path.is_file()]
        trackers = [replace(single, name=_tracker_name(config), digest=file_digest(*sorted(texts)))]
    return [
        _tracker_runs(
            tracker.name,
            resolved,
            [sequence for sequence in sequences if sequence.name in tracker.files],
            output_dir,
            overwrite,
            tracker,
        )
        for tracker in trackers
    ]


def _tracker_runs(
    name: str,
    resolved: ResolvedRuns,
    sequences: list[EvaluationSequence],
    output_dir: Path,
    overwrite: bool,
    published: PublishedResults | None = None,
) -> TrackerRuns:
    digest = None if published is None else published.digest
    folders = {
        run: RunFolder(output_dir / name / run, settings, overwrite, digest)
        for run, settings in resolved.settings.items()
    }
    return TrackerRuns(name, folders, sequences, published)
