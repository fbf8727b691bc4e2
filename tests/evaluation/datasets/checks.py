"""What the tests of all data sets share."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alpharefine.data.images import read_image
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence
from alpharefine.evaluation.datasets.registry import open_dataset

SIZE = (48, 64)


def opened(name: str, root: Path, **options: Any) -> EvaluationDataset:
    return open_dataset(DatasetConfig(name, root, **options))


def loaded(dataset: EvaluationDataset, name: str) -> EvaluationSequence:
    """A sequence after a trip to another process, its first and last frame decoded."""
    sequence: EvaluationSequence = pickle.loads(pickle.dumps(dataset.load(name)))
    assert sequence.name == name
    assert sequence.frame_paths is not None
    assert len(sequence.frame_paths) == len(sequence) == len(sequence.truth.absent)
    for index in (0, -1):
        assert read_image(sequence.frame_paths[index]).shape == (*SIZE, 3)
    return sequence


def frame_names(sequence: EvaluationSequence) -> list[str]:
    assert sequence.frame_paths is not None
    return [path.name for path in sequence.frame_paths]


def expect_error(act: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


def results_of(dataset: EvaluationDataset) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Boxes and times for every sequence of a data set, different in each."""
    boxes, times = {}, {}
    for number, name in enumerate(dataset.names):
        length = len(dataset.load(name))
        boxes[name] = np.arange(4.0 * length).reshape(length, 4) + number + 1 / 3
        times[name] = np.linspace(1.5, 20.0, length)
    return boxes, times


def unpacked(path: Path) -> dict[str, np.ndarray]:
    """Rows of numbers of every file in an archive."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    return {
        name: np.array([[float(value) for value in line.split(",")] for line in text.splitlines()])
        for name, text in texts.items()
    }
