"""The registry: unknown names, options of other data sets, and a data set that a test adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import EvaluationDataset, EvaluationSequence, GroundTruth
from alpharefine.evaluation.datasets.registry import DATASETS, open_dataset


class OneSequence(EvaluationDataset):
    """Three frames without files."""

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.names = self.chosen_names()

    def official_names(self) -> list[str]:
        return ["only"]

    def read(self, name: str) -> EvaluationSequence:
        return EvaluationSequence(name, GroundTruth(np.ones((3, 4)), np.zeros(3, dtype=bool)))


def test_a_data_set_takes_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "mine", OneSequence)
    dataset = open_dataset(DatasetConfig("mine"))
    assert dataset.names == ["only"]
    assert len(dataset.load("only")) == 3
    assert (dataset.scoring, dataset.default_protocol) == ("one_pass", "lasot")
    with pytest.raises(TypeError, match="no evaluation server"):
        dataset.pack({}, {}, Path("results.zip"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("lasott", "got 'lasott'; use 'lasot'"), ("imagenet", "one of lasot, .*got 'imagenet'; use one of these")],
)
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_dataset(DatasetConfig(name))


def test_options_of_other_data_sets(root: Path) -> None:
    with pytest.raises(UserError, match="`--first_box` is not an option of the data set lasot"):
        open_dataset(DatasetConfig("lasot", root, first_box=(1, 2, 3, 4)))


def test_the_layout_of_another_data_set_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"does not have the layout of `tnl2k`\. It has the layout of lasot .*use `--data"
    ):
        open_dataset(DatasetConfig("tnl2k", root))
    with pytest.raises(UserError, match=r"has no folder .*It has the layout of lasot"):
        open_dataset(DatasetConfig("uav123", root))
    (tmp_path / "clips" / "car" / "img").mkdir(parents=True)
    (tmp_path / "clips" / "car" / "img" / "1.jpg").touch()
    assert open_dataset(DatasetConfig("lasot", tmp_path / "clips", sequences=("car",))).names == ["car"]
