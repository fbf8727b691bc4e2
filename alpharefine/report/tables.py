"""Numbers to a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alpharefine.evaluation.score import RunScore, SequenceScore
from alpharefine.metrics import Protocol

_NUM_NAMED = 10
"""Sequences that a line names, if it cannot name all."""

_FIELDS = ("success_auc", "precision_20", "norm_precision_20")


def format_trackers(trackers: Mapping[str, Mapping[str, RunScore]], protocol: Protocol = "lasot") -> str:
    """A table of many trackers, a line each.

    Args:
        trackers: scores of each run, ``base``, ``refined`` or both, by the name of the tracker and of the run.
        protocol: see `format_table`.

    Returns:
        Lines of text, the last without a line break; scores in percent, over as many sequences as the line tells.

    >>> one = {"a-1": SequenceScore(50.0, 60.0, 70.0)}
    >>> print(format_trackers({"ATOM": {"base": RunScore(50.0, 60.0, 70.0, one)}}))
                            AUC        P@20  P_norm@0.2
          sequences        base        base        base
    ATOM          1       50.00       60.00       70.00
    """
    runs = list(next(iter(trackers.values())))
    columns = [*runs, "gain"] if {"base", "refined"} <= set(runs) else runs
    width = max(map(len, trackers))
    titles = [f"{title:>{9 * len(columns) + 3}}" for title in _titles(protocol)]
    lines = [" " * (width + 11) + "".join(titles)]
    lines.append(
        " " * (width + 2) + "sequences" + ("   " + "".join(f"{column:>9}" for column in columns)) * len(_FIELDS)
    )
    for name, scores in trackers.items():
        values = []
        for field in _FIELDS:
            numbers = {run: float(getattr(score, field)) for run, score in scores.items()}
            cells = [f"{number:9.2f}" for number in numbers.values()]
            if "gain" in columns:
                cells.append(f"{numbers['refined'] - numbers['base']:+9.2f}")
            values.append("   " + "".join(cells))
        num_sequences = len(next(iter(scores.values())).sequences)
        lines.append(f"{name:{width}}{num_sequences:11}" + "".join(values))
    return "\n".join(lines)


def missing_sequences(trackers: Mapping[str, Mapping[str, RunScore]], names: Sequence[str]) -> list[str]:
    """Lines that tell which trackers were not scored on all sequences; none if all were.

    Args:
        trackers: see `format_trackers`.
        names: of all sequences.
    """
    lines = []
    for tracker, scores in trackers.items():
        lacking = [name for name in names if name not in next(iter(scores.values())).sequences]
        if lacking:
            some = ", ".join(lacking[:_NUM_NAMED]) + (", ..." if len(lacking) > _NUM_NAMED else "")
            lines.append(f"{tracker} has no results of {len(lacking)} of the {len(names)} sequences: {some}")
    if lines:
        lines.append("Lines over other sequences do not compare; `--sequences` chooses some that all trackers have.")
    return lines


def _titles(protocol: Protocol) -> tuple[str, str, str]:
    """The names of the three scores."""
    return "AUC", "P@20", "P_norm_mean" if protocol == "got10k" else "P_norm@0.2"


def format_table(runs: Mapping[str, SequenceScore], protocol: Protocol = "lasot") -> str:
    """A table of the runs, and the gain where both a base and a refined run are there.

    Args:
        runs: scores in percent, by the name of the run.
        protocol: whose scores they are; the third is the mean of its curve under `got10k`.

    Returns:
        Lines of text, the last without a line break.

    >>> print(format_table({"base": SequenceScore(51.4338, 50.5, 57.68), "refined": SequenceScore(55.0, 54.0, 60.0)}))
                     AUC        P@20  P_norm@0.2
    base           51.43       50.50       57.68
    refined        55.00       54.00       60.00
    gain           +3.57       +3.50       +2.32
    """
    rows = {name: [float(getattr(score, field)) for field in _FIELDS] for name, score in runs.items()}
    lines = [" " * 8 + "".join(f"{column:>12}" for column in _titles(protocol))]
    lines += [f"{name:8}" + "".join(f"{value:12.2f}" for value in values) for name, values in rows.items()]
    if {"base", "refined"} <= set(rows):
        gains = [refined - base for refined, base in zip(rows["refined"], rows["base"], strict=True)]
        lines.append(f"{'gain':8}" + "".join(f"{gain:+12.2f}" for gain in gains))
    return "\n".join(lines)
