"""Evaluation data sets by name."""

from __future__ import annotations

from difflib import get_close_matches

from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import EvaluationDataset
from alpharefine.evaluation.datasets.lasot import LaSOTDataset, LaSOTExtension

DATASETS: dict[str, type[EvaluationDataset]] = {
    "lasot": LaSOTDataset,
    "lasot_ext": LaSOTExtension,
}
"""Class of each evaluation data set, by the value of `DatasetConfig.name`."""


def open_dataset(config: DatasetConfig) -> EvaluationDataset:
    """Open an evaluation data set.

    Args:
        config: Name, folder, split and sequences.

    Raises:
        UserError: If the name is unknown, a folder is missing, or no sequence is chosen.
    """
    if config.name not in DATASETS:
        close = get_close_matches(config.name, DATASETS, n=1)
        remedy = f"use '{close[0]}'" if close else "use one of these"
        raise UserError(f"`--dataset` must be one of {', '.join(DATASETS)}, got '{config.name}'; {remedy}.")
    return DATASETS[config.name](config)
