"""Numbers to a table."""

from __future__ import annotations

from collections.abc import Mapping

from alpharefine.evaluation.score import SequenceScore
from alpharefine.metrics import Protocol

_FIELDS = ("success_auc", "precision_20", "norm_precision_20")


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
    third = "P_norm_mean" if protocol == "got10k" else "P_norm@0.2"
    lines = [" " * 8 + "".join(f"{column:>12}" for column in ("AUC", "P@20", third))]
    lines += [f"{name:8}" + "".join(f"{value:12.2f}" for value in values) for name, values in rows.items()]
    if {"base", "refined"} <= set(rows):
        gains = [refined - base for refined, base in zip(rows["refined"], rows["base"], strict=True)]
        lines.append(f"{'gain':8}" + "".join(f"{gain:+12.2f}" for gain in gains))
    return "\n".join(lines)
