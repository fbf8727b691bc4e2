"""Scores to text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alpharefine.evaluation.score import RunScore
from alpharefine.metrics import Protocol
from alpharefine.report.scores import gains_of, has_gain, main_scores, title_of

_NUM_NAMED = 10
"""Largest number of sequences that a line names."""

_Scores = Mapping[str, float]


def format_table(runs: Mapping[str, RunScore], protocol: Protocol = "lasot") -> str:
    """Format the runs of one tracker, with the gain if there are a base and a refined run.

    Args:
        runs: Scores by name of the run, at least one.
        protocol: Scoring conventions; they decide the title of the third one-pass score.

    Returns:
        Lines of text, the last without a line break.

    >>> base = RunScore({"ao": 55.61, "sr_50": 63.4, "sr_75": 40.2}, {}, {}, {}, {})
    >>> refined = RunScore({"ao": 60.0, "sr_50": 66.4, "sr_75": 50.0}, {}, {}, {}, {})
    >>> print(format_table({"base": base, "refined": refined}))
                      AO       SR0.5      SR0.75
    base           55.61       63.40       40.20
    refined        60.00       66.40       50.00
    gain           +4.39       +3.00       +9.80
    """
    keys = _keys(runs)
    lines = [" " * 8 + "".join(f"{title_of(key, protocol):>12}" for key in keys)]
    for name, run in runs.items():
        lines.append(f"{name:8}" + "".join(f"{run.scores[key]:12.2f}" for key in keys))
    if has_gain(runs):
        gains = gains_of({name: run.scores for name, run in runs.items()})
        lines.append(f"{'gain':8}" + "".join(f"{gains[key]:+12.2f}" for key in keys))
    return "\n".join(lines)


def format_trackers(trackers: Mapping[str, Mapping[str, RunScore]], protocol: Protocol = "lasot") -> str:
    """Format many trackers, one a row, with the number of sequences of each.

    Args:
        trackers: Scores by name of the tracker and of the run; a tracker may lack a run.
        protocol: Scoring conventions; see `format_table`.

    Returns:
        Lines of text, the last without a line break.

    >>> one = {"success_auc": 50.0, "precision_20": 60.0, "norm_precision_20": 70.0}
    >>> print(format_trackers({"ATOM": {"base": RunScore(one, {}, {"a-1": one}, {}, {})}}))
                            AUC        P@20  P_norm@0.2
          sequences        base        base        base
    ATOM          1       50.00       60.00       70.00
    """
    rows = {name: {run: score.scores for run, score in runs.items()} for name, runs in trackers.items()}
    counts = [len(_any_run(runs).sequences) for runs in trackers.values()]
    labels = ["", "  sequences", *(f"{count:11}" for count in counts)]
    return _format_groups(rows, labels, _keys(next(iter(trackers.values()))), protocol)


def format_attributes(runs: Mapping[str, RunScore], attributes: Sequence[str], protocol: Protocol = "lasot") -> str:
    """Format the scores of one tracker for each attribute of the data set.

    Args:
        runs: Scores by name of the run, at least one.
        attributes: Short names of the attributes in the order of the rows; those without a sequence are skipped.
        protocol: Scoring conventions; see `format_table`.

    Returns:
        Lines of text, the last without a line break; empty if no attribute has a sequence.

    >>> base = RunScore({"ao": 50.0}, {}, {}, {}, {"OV": {"ao": 40.0}})
    >>> refined = RunScore({"ao": 60.0}, {}, {}, {}, {"OV": {"ao": 45.5}})
    >>> print(format_attributes({"base": base, "refined": refined}, ["IV", "OV"]))
                                  AO
              base  refined     gain
    OV       40.00    45.50    +5.50
    """
    held = [name for name in attributes if all(name in run.attributes for run in runs.values())]
    rows = {name: {run: score.attributes[name] for run, score in runs.items()} for name in held}
    return _format_groups(rows, [""] * (len(rows) + 2), _keys(runs), protocol) if rows else ""


def format_sequences(runs: Mapping[str, RunScore], protocol: Protocol = "lasot") -> str:
    """Format the scores of one tracker for each sequence, sorted by gain if there is one.

    Args:
        runs: Scores by name of the run, at least one, over the same sequences.
        protocol: Scoring conventions; see `format_table`.

    Returns:
        Lines of text, the last without a line break.

    >>> base = RunScore({"ao": 50.0}, {}, {"a-1": {"ao": 40.0}, "b-1": {"ao": 60.0}}, {}, {})
    >>> refined = RunScore({"ao": 55.0}, {}, {"a-1": {"ao": 39.0}, "b-1": {"ao": 71.0}}, {}, {})
    >>> print(format_sequences({"base": base, "refined": refined}))
                                   AO
               base  refined     gain
    b-1       60.00    71.00   +11.00
    a-1       40.00    39.00    -1.00
    """
    names = list(_any_run(runs).sequences)
    if has_gain(runs):
        gains = gains_of({run: main_scores(score) for run, score in runs.items()})
        names.sort(key=lambda name: -gains[name])
    rows = {name: {run: score.sequences[name] for run, score in runs.items()} for name in names}
    return _format_groups(rows, [""] * (len(rows) + 2), _keys(runs), protocol)


def missing_sequences(trackers: Mapping[str, Mapping[str, RunScore]], names: Sequence[str]) -> list[str]:
    """List the trackers that were not scored on all sequences.

    Args:
        trackers: Scores by name of the tracker and of the run.
        names: Names of all sequences.

    Returns:
        One line a tracker, and a closing remark if there are several; empty if all were scored on all sequences.
    """
    lines = []
    for tracker, runs in trackers.items():
        scored = _any_run(runs).sequences
        missing = [name for name in names if name not in scored]
        if missing:
            some = ", ".join(missing[:_NUM_NAMED]) + (", ..." if len(missing) > _NUM_NAMED else "")
            lines.append(f"{tracker} has no results of {len(missing)} of the {len(names)} sequences: {some}")
    if lines and len(trackers) > 1:
        lines.append(
            "Rows over different sequences are not comparable; `--sequences` selects some that all trackers have."
        )
    return lines


def _format_groups(
    rows: Mapping[str, Mapping[str, _Scores]], labels: Sequence[str], keys: Sequence[str], protocol: Protocol
) -> str:
    """Format rows with a group of columns for each score: the runs, and the gain.

    Args:
        rows: Scores by name of the row and of the run.
        labels: Second column, two cells of the header first.
        keys: Scores to print.
        protocol: Scoring conventions.
    """
    runs = list(dict.fromkeys(run for scores in rows.values() for run in scores))
    columns = [*runs, "gain"] if has_gain(runs) else runs
    titles = "".join(f"{title_of(key, protocol):>{9 * len(columns) + 3}}" for key in keys)
    heads = ("   " + "".join(f"{column:>9}" for column in columns)) * len(keys)
    cells = [titles, heads]
    for scores in rows.values():
        groups = []
        for key in keys:
            numbers = [f"{scores[run][key]:.2f}" if run in scores else "-" for run in runs]
            if "gain" in columns:
                numbers.append(f"{scores['refined'][key] - scores['base'][key]:+.2f}" if has_gain(scores) else "-")
            groups.append("   " + "".join(f"{number:>9}" for number in numbers))
        cells.append("".join(groups))
    width, label_width = max(map(len, rows)), max(map(len, labels))
    names = ["", "", *rows]
    return "\n".join(
        f"{name:{width}}{label:>{label_width}}{cell}" for name, label, cell in zip(names, labels, cells, strict=True)
    )


def _any_run(runs: Mapping[str, RunScore]) -> RunScore:
    """Return a run of a tracker; all have the same keys and sequences."""
    return next(iter(runs.values()))


def _keys(runs: Mapping[str, RunScore]) -> list[str]:
    return list(_any_run(runs).scores)
