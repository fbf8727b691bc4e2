"""TNL2K: layout, frames without target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.data.text import read_rows
from alpharefine.synthetic.benchmarks import write_tnl2k
from tests.evaluation.datasets.checks import SIZE, expect_error, frame_names, loaded, opened


@pytest.fixture
def tnl2k_root(tmp_path: Path) -> Path:
    write_tnl2k(tmp_path / "data", num_sequences=2, num_frames=12, frame_size=SIZE)
    return tmp_path / "data"


def test_sequences(tnl2k_root: Path) -> None:
    (tnl2k_root / "polygon-2").rename(tnl2k_root / "polygon-10")
    dataset = opened("tnl2k", tnl2k_root)
    assert dataset.names == ["ellipse-1", "polygon-10"]
    assert (dataset.scoring, dataset.default_protocol) == ("one_pass", "lasot")
    sequence = loaded(dataset, "polygon-10")
    assert frame_names(sequence) == [f"{i:05d}.jpg" for i in range(1, 13)]
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, read_rows(tnl2k_root / "polygon-10" / "groundtruth.txt"))


def test_frames_without_target(tnl2k_root: Path) -> None:
    (tnl2k_root / "ellipse-1" / "groundtruth.txt").write_text("5,5,9,9\n" * 10 + "0,0,0,0\n" * 2)
    sequence = opened("tnl2k", tnl2k_root).load("ellipse-1")
    assert sequence.truth.absent.tolist() == [False] * 10 + [True] * 2


def test_bad_input(tnl2k_root: Path) -> None:
    (tnl2k_root / "ellipse-1" / "groundtruth.txt").write_text("5,5,9,9\n" * 13)
    expect_error(lambda: opened("tnl2k", tnl2k_root).load("ellipse-1"), "found 13 rows and 12 frames")
