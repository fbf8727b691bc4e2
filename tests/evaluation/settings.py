"""Settings of runs for tests."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from alpharefine.evaluation.config import DatasetConfig, TrackerConfig
from alpharefine.evaluation.settings import RefinementSettings, RunSettings

REFINEMENT = RefinementSettings(
    ckpt="absent.ckpt",
    geometry="exact",
    precision="32",
    box_from="corner",
    mask_threshold=0.5,
    flip_test=False,
    save_masks=False,
    feedback=True,
    min_feedback_score=0.2,
    when_lost="refine",
    min_score=None,
)


def run_settings(tracker: str = "oracle", **values: Any) -> RunSettings:
    """Settings of a run by flat names; any of a refinement makes it a refined run."""
    of_refinement = {field.name for field in fields(RefinementSettings)}
    refinement = {name: value for name, value in values.items() if name in of_refinement}
    return RunSettings(
        DatasetConfig(root=values.get("data_root")),
        TrackerConfig(tracker, tuple(map(Path, values.get("weights", ())))),
        RefinementSettings(**({f: getattr(REFINEMENT, f) for f in of_refinement} | refinement)) if refinement else None,
    )
