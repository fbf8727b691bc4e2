"""Runs a tracker as the golden traces were made."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from alpharefine.trackers.dimp.localization import Thresholds
from alpharefine.trackers.dimp.parameters import OnlineParameters

_THRESHOLDS = set(Thresholds.__dataclass_fields__)
_RENAMED = {"sample_memory_size": "memory_size"}

Parameters = TypeVar("Parameters", bound=OnlineParameters)


@dataclass
class Trace:
    """One golden trace."""

    arrays: dict[str, Any]
    name: str

    def __getitem__(self, field: str) -> Any:
        return self.arrays[f"{self.name}/{field}"]

    @property
    def config(self) -> dict[str, Any]:
        """What it was made with."""
        config: dict[str, Any] = json.loads(str(self["config_json"]))
        return config

    def parameters(self, published: Parameters) -> Parameters:
        """The published parameters, as this trace changes them."""
        config = self.config
        changes = {_RENAMED.get(name, name): value for name, value in config["over"].items()}
        base = config.get("target_not_found_threshold_base")
        thresholds = {"target_not_found_threshold": base} if base is not None else {}
        thresholds |= {name: changes.pop(name) for name in list(changes) if name in _THRESHOLDS}
        changes["thresholds"] = replace(published.thresholds, **thresholds)
        if config.get("mode", "det") == "det":  # those of ATOM do not say it
            changes |= {
                "augmentation": replace(published.augmentation, dropout=None),
                "random_shift_factor": 0.0,
                "box_search": replace(published.box_search, num_random_boxes=0),
            }
        return replace(published, **changes)


def names(arrays: dict[str, Any]) -> list[str]:
    """The traces of a file."""
    return sorted({key.split("/")[0] for key in arrays if "/" in key})
