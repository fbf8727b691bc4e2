"""Text of an evaluation: the number of sequences, the table, and what is missing from it."""

from __future__ import annotations

from alpharefine.evaluation.metrics_file import Metrics, PublishedComparison
from alpharefine.report.tables import (
    format_attributes,
    format_sequences,
    format_table,
    format_trackers,
    missing_sequences,
)


def format_summary(metrics: Metrics) -> str:
    """Format the scores of an evaluation.

    Args:
        metrics: Numbers of the evaluation.

    Returns:
        Lines of text, the last without a line break.
    """
    protocol = metrics.protocol or "lasot"  # not used by scores without protocols
    convention = "" if metrics.protocol is None else f", protocol {metrics.protocol}"
    scores = {name: tracker.scores for name, tracker in metrics.trackers.items()}
    scored = {name for runs in scores.values() for run in runs.values() for name in run.sequences}
    num_scored = len(scored) or len(metrics.sequences)
    header = f"{num_scored} sequences, {metrics.num_frames} frames{convention}"
    if metrics.scoring == "none":
        return f"{header}\nno scores: the data set has no ground truth after the first frame"
    if metrics.scoring == "server":
        archives = [run.submission for tracker in metrics.trackers.values() for run in tracker.runs.values()]
        lines = [f"submission archive for the evaluation server: {archive}" for archive in archives if archive]
        return "\n".join([header, *(lines or ["no submission archive: it requires all sequences of the split"])])
    missing = missing_sequences(scores, metrics.sequences)
    if len(scores) == 1 and not missing:
        (runs,) = scores.values()
        table = format_table(runs, protocol)
    else:
        table = format_trackers(scores, protocol)
    published = [] if metrics.published is None else [format_published(metrics.published)]
    return "\n".join([header, table, *missing, *published])


def format_published(comparison: PublishedComparison) -> str:
    """Format published scores as a table.

    Args:
        comparison: Published scores.

    Returns:
        Lines of text, the last without a line break.
    """
    rows = [
        ("published, not measured here", "AUC", "speed", "on"),
        *((row.tracker, f"{row.success_auc:.1f}", row.speed, row.hardware) for row in comparison.scores),
    ]
    name, auc, speed, _ = (max(len(row[column]) for row in rows) for column in range(4))
    lines = [f"{row[0]:{name}}  {row[1]:>{auc}}  {row[2]:>{speed}}  {row[3]}" for row in rows]
    why_not = comparison.why_incomparable
    note = "AUC in percent on the same sequences and protocol." if why_not is None else f"Not comparable: {why_not}."
    return "\n".join([*lines, note])


def format_attribute_scores(metrics: Metrics) -> str:
    """Format the scores of every tracker by attribute.

    Args:
        metrics: Numbers of the evaluation.

    Returns:
        Lines of text, the last without a line break; a remark if the annotations hold no attributes.
    """
    parts = []
    for name, tracker in metrics.trackers.items():
        attributes = next((list(score.attributes) for score in tracker.scores.values()), [])
        if attributes:
            parts += [name, format_attributes(tracker.scores, attributes, metrics.protocol or "lasot")]
    return "\n".join(parts or ["no attributes: the annotations hold none"])


def format_sequence_scores(metrics: Metrics) -> str:
    """Format the scores of every tracker by sequence.

    Args:
        metrics: Numbers of the evaluation.

    Returns:
        Lines of text, the last without a line break.
    """
    parts = []
    for name, tracker in metrics.trackers.items():
        if tracker.scores:
            parts += [name, format_sequences(tracker.scores, metrics.protocol or "lasot")]
    return "\n".join(parts or ["no scores"])
