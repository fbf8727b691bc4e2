"""Settings of every tracker of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from alpharefine.evaluation.metrics_file import COMPARED_RESULTS, Metrics, TrackerMetrics
from alpharefine.masks import MASK_THRESHOLD

_DEFAULTS: dict[str, Any] = {
    "geometry": "exact",
    "box_from": "corner",
    "mask_threshold": MASK_THRESHOLD,
    "flip_test": False,
    "save_masks": False,
    "when_lost": "refine",
    "min_score": None,
}
"""Settings of the refinement that are named only if they differ from these values."""


class SettingsTable(NamedTuple):
    """Settings of all trackers.

    Attributes:
        shared: Settings that are those of all trackers, by name.
        names: Names of the other settings.
        rows: Name of each tracker and its other settings; empty where it has none.
    """

    shared: dict[str, str]
    names: list[str]
    rows: list[tuple[str, list[str]]]


def settings_table(metrics: Metrics) -> SettingsTable:
    """Return the settings of all trackers, those that differ apart from those that do not.

    Args:
        metrics: Scores of an evaluation.
    """
    described = {name: _describe(tracker) for name, tracker in metrics.trackers.items()}
    names = list(dict.fromkeys(name for each in described.values() for name in each))
    values = {name: {each.get(name, "") for each in described.values()} for name in names}
    differing = [name for name in names if len(values[name]) > 1]
    rows = [(tracker, [each.get(name, "") for name in differing]) for tracker, each in described.items()]
    return SettingsTable(
        {name: values[name].pop() for name in names if name not in differing}, differing, rows if differing else []
    )


def _describe(tracker: TrackerMetrics) -> dict[str, str]:
    runs: list[Mapping[str, Any]] = [settings for settings in tracker.settings.values() if settings]
    if not runs:
        return {}
    last = runs[-1]  # of the refined run, if there is one
    if tracker.is_compared:
        return {"boxes": f"raw results in {last[COMPARED_RESULTS]}"}
    base, refinement = last.get("tracker", {}), last.get("refinement")
    described: dict[str, Any] = {
        "base tracker": base.get("name"),
        "weights": ", ".join(base.get("weights", [])),
        "boxes": f"published results in {base['results_dir']}" if base.get("results_dir") else None,
    }
    if refinement is None:
        described["checkpoint"] = "none: no refinement"
    else:
        feedback, least = refinement.get("feedback"), refinement.get("min_feedback_score", 0)
        described |= {
            "checkpoint": refinement.get("ckpt"),
            "precision": refinement.get("precision"),
            "feedback": f"yes, from score {least:g}" if feedback and least > 0 else feedback,
            **{name: value for name, value in refinement.items() if value != _DEFAULTS.get(name, value)},
        }
    created = [settings["created"] for settings in runs if "created" in settings]
    for title, key in (("alpharefine", "alpharefine"), ("date", "date")):
        described[title] = ", ".join(dict.fromkeys(str(each[key]) for each in created))
    texts = {name: _text(value) for name, value in described.items()}
    return {name: text for name, text in texts.items() if text}


def _text(value: Any) -> str:
    return "" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
