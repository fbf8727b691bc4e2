"""Text of an evaluation: the number of sequences, the table, the frames that were not refined, and the failures."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from alpharefine.errors import UserError
from alpharefine.evaluation.failures import Failure, describe_counts, require_finite_predictions, summarize
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
    scores = {name: tracker.scores for name, tracker in metrics.trackers.items() if tracker.scores}
    num_chosen = len(metrics.sequences)
    part = "" if metrics.num_sequences == num_chosen else f" of {num_chosen}"
    header = f"{metrics.num_sequences}{part} sequences, {metrics.num_frames} frames{convention}"
    missing, notes = list_missing(metrics), [*format_counts(metrics), *list_errors(metrics)]
    if metrics.scoring == "none":
        return "\n".join([header, "no scores: the data set has no ground truth after the first frame", *notes])
    if metrics.scoring == "server":
        archives = [run.submission for tracker in metrics.trackers.values() for run in tracker.runs.values()]
        lines = [f"submission archive for the evaluation server: {archive}" for archive in archives if archive]
        lines = lines or ["no submission archive: it requires all sequences of the split"]
        return "\n".join([header, *lines, *notes])
    if len(scores) == 1 and not missing:
        (runs,) = scores.values()
        table = format_table(runs, protocol)
    else:
        table = format_trackers(scores, protocol)
    published = [] if metrics.published is None else [format_published(metrics.published)]
    return "\n".join([header, table, *missing, *published, *notes])


def list_missing(metrics: Metrics) -> list[str]:
    """List the trackers that were not scored on all chosen sequences.

    Args:
        metrics: Numbers of the evaluation.

    Returns:
        Lines of `alpharefine.report.tables.missing_sequences`.
    """
    scores = {name: tracker.scores for name, tracker in metrics.trackers.items() if tracker.scores}
    return missing_sequences(scores, metrics.sequences)


def list_errors(metrics: Metrics) -> list[str]:
    """List the sequences without a result, save those without a file, which `list_missing` names.

    Args:
        metrics: Numbers of the evaluation.

    Returns:
        Lines of `list_failures`.
    """
    scored = {name for name, tracker in metrics.trackers.items() if tracker.scores}
    failures = [failure for failure in metrics.failures if failure.tracker not in scored or not failure.is_absent]
    return list_failures(failures, metrics.sequences)


def format_counts(metrics: Metrics) -> list[str]:
    """List the runs with frames that were not refined, or with tracker boxes that are not finite or not positive.

    Args:
        metrics: Numbers of the evaluation.

    Returns:
        One line a run with the number of frames by reason; none for a run without such frames.
    """
    lines = []
    for tracker, numbers in metrics.trackers.items():
        for run, run_metrics in numbers.runs.items():
            text = describe_counts(run_metrics.counts, is_refined=run == "refined")
            if text:
                lines.append(f"{tracker}, {run}: {text}")
    return lines


def list_failures(failures: Iterable[Failure], chosen: Collection[str], heading: str = "failed:") -> list[str]:
    """List the sequences without a result, those with the same reason in one line.

    Args:
        failures: Sequences without a result.
        chosen: Names of all chosen sequences.
        heading: First line.

    Returns:
        A heading and one line a reason; empty if there are none.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        where = ", ".join(filter(None, (failure.tracker, failure.run)))
        groups.setdefault((where, failure.line), []).append(failure.sequence)
    if not groups:
        return []
    lines = [heading]
    for (where, reason), names in groups.items():
        who = f"all {len(names)} sequences" if len(names) == len(chosen) > 1 else ", ".join(names)
        lines.append(f"  {who}{f' ({where})' if where else ''}: {reason}")
    return lines


def require_complete(metrics: Metrics, remedy: str) -> None:
    """Check that the scores of an evaluation are those of all chosen sequences, and of refined boxes.

    Args:
        metrics: Numbers of the evaluation.
        remedy: Second sentence of the message.

    Raises:
        UserError: If a tracker lacks a sequence, save one of which raw results are compared, or if no frame was refined
            because the predictions are not finite.
    """
    for tracker, numbers in metrics.trackers.items():
        if "refined" in numbers.runs:
            require_finite_predictions(tracker, numbers.runs["refined"].counts)
    compared = {name for name, tracker in metrics.trackers.items() if tracker.is_compared}
    failures = [failure for failure in metrics.failures if failure.tracker not in compared]
    if failures:
        raise UserError(f"{summarize(failures, metrics.sequences, is_scored=True)} {remedy}")


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
