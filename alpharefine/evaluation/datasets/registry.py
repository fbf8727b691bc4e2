"""Evaluation data sets by name."""

from __future__ import annotations

from difflib import get_close_matches

from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import EvaluationDataset, any_folder
from alpharefine.evaluation.datasets.folder import FolderDataset
from alpharefine.evaluation.datasets.got10k import GOT10kDataset
from alpharefine.evaluation.datasets.lasot import LaSOTDataset, LaSOTExtension
from alpharefine.evaluation.datasets.nfs30 import NFS30
from alpharefine.evaluation.datasets.otb100 import OTB100
from alpharefine.evaluation.datasets.tnl2k import TNL2K
from alpharefine.evaluation.datasets.trackingnet import TrackingNetDataset
from alpharefine.evaluation.datasets.uav import UAV20L, UAV123

DATASETS: dict[str, type[EvaluationDataset]] = {
    "lasot": LaSOTDataset,
    "lasot_ext": LaSOTExtension,
    "got10k": GOT10kDataset,
    "trackingnet": TrackingNetDataset,
    "otb100": OTB100,
    "uav123": UAV123,
    "uav20l": UAV20L,
    "nfs30": NFS30,
    "tnl2k": TNL2K,
    "folder": FolderDataset,
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
    try:
        dataset = DATASETS[config.name](config)
    except UserError as error:
        others = _other_layouts(config)
        if not others:
            raise
        raise UserError(f"{error} {_hint(others)}") from error
    others = [name for name in _other_layouts(config) if name != "folder"]
    if others:
        raise UserError(f"`--data_root`: {config.root} does not have the layout of `{config.name}`. {_hint(others)}")
    return dataset


def _hint(others: list[str]) -> str:
    return f"It has the layout of {' and '.join(others)}: use `--dataset {others[0]}`."


def _other_layouts(config: DatasetConfig) -> list[str]:
    """Return the names of the data sets whose layout the data root has, if it does not have the given one's."""
    root, fits = config.root, DATASETS[config.name].fits
    if root is None or not root.is_dir() or fits(root) or any_folder(root, fits):
        return []
    found = [name for name, dataset in DATASETS.items() if _has_rule(dataset) and dataset.fits(root)]
    return [name for name in found if name != "folder"] or found


def _has_rule(dataset: type[EvaluationDataset]) -> bool:
    return any("fits" in vars(base) for base in dataset.mro() if base is not EvaluationDataset)
