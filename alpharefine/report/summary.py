"""Text of an evaluation: the number of sequences, the table, and what is missing from it."""

from __future__ import annotations

from alpharefine.evaluation.metrics_file import Metrics
from alpharefine.report.tables import format_attributes, format_table, format_trackers, missing_sequences


def format_summary(metrics: Metrics) -> str:
    """Format the scores of an evaluation.

    Args:
        metrics: Numbers of the evaluation.

    Returns:
        Lines of text, the last without a line break.
    """
    protocol = "" if metrics.protocol is None else f", protocol {metrics.protocol}"
    num_scored = len({name for tracker in metrics.trackers.values() for name in _scored(metrics, tracker.scores)})
    header = f"{num_scored} sequences, {metrics.num_frames} frames{protocol}"
    if metrics.scoring == "none":
        return f"{header}\nno scores: the data set has no ground truth after the first frame"
    if metrics.scoring == "server":
        archives = [run.submission for tracker in metrics.trackers.values() for run in tracker.runs.values()]
        return "\n".join([header, *(f"submission archive for the evaluation server: {archive}" for archive in archives)])
    scores = {name: tracker.scores for name, tracker in metrics.trackers.items()}
    missing = missing_sequences(scores, metrics.sequences)
    if len(scores) == 1 and not missing:
        (runs,) = scores.values()
        return f"{header}\n{format_table(runs, metrics.protocol)}"
    return "\n".join([header, format_trackers(scores, metrics.protocol), *missing])


def _scored(metrics: Metrics, scores: dict) -> list[str]:  # type: ignore[type-arg]
    return next((list(score.sequences) for score in scores.values()), metrics.sequences)
