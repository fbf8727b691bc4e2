"""NfS at 30 frames a second: rows at 240 frames a second, corners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.synthetic.benchmarks import write_nfs30
from tests.evaluation.datasets.checks import SIZE, expect_error, frame_names, loaded, opened


@pytest.fixture
def nfs_root(tmp_path: Path) -> Path:
    write_nfs30(tmp_path / "data", num_sequences=2, num_frames=12, frame_size=SIZE)
    return tmp_path / "data"


def annotate(root: Path, num_rows: int) -> None:
    """Boxes whose x is the number of their row."""
    rows = (f'0 {row} 10 {row + 20} 40 {row} 0 1 0 "a target"\n' for row in range(num_rows))
    (root / "ellipse-1" / "30" / "ellipse-1.txt").write_text("".join(rows))


def test_sequences(nfs_root: Path) -> None:
    dataset = opened("nfs30", nfs_root)
    assert dataset.names == ["ellipse-1", "polygon-2"]
    assert (dataset.scoring, dataset.default_protocol) == ("one_pass", "pytracking")
    sequence = loaded(dataset, "polygon-2")
    assert frame_names(sequence) == [f"{i:05d}.jpg" for i in range(1, 13)]
    assert sequence.truth.boxes_xywh.shape == (12, 4)


@pytest.mark.parametrize(
    ("num_rows", "step", "num_frames"),
    [
        pytest.param(96, 8, 12, id="eight rows a frame"),
        pytest.param(89, 8, 12, id="ends with the last frame"),
        pytest.param(97, 8, 12, id="one frame less than rows"),
        pytest.param(88, 8, 11, id="one row less than frames"),
        pytest.param(12, 1, 12, id="one row a frame"),
        pytest.param(13, 1, 12, id="one row too many"),
        pytest.param(11, 1, 11, id="one row too few"),
    ],
)
def test_rows(nfs_root: Path, num_rows: int, step: int, num_frames: int) -> None:
    annotate(nfs_root, num_rows)
    sequence = opened("nfs30", nfs_root).load("ellipse-1")
    assert len(frame_names(sequence)) == num_frames
    expected = [[step * frame, 10, 20, 30] for frame in range(num_frames)]
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, expected)


@pytest.mark.parametrize(("num_rows", "found"), [(200, 25), (60, 8), (5, 5)])
def test_counts_that_do_not_fit(nfs_root: Path, num_rows: int, found: int) -> None:
    annotate(nfs_root, num_rows)
    expect_error(lambda: opened("nfs30", nfs_root).load("ellipse-1"), f"found {found} rows and 12 frames")


def test_bad_input(nfs_root: Path, tmp_path: Path) -> None:
    path = nfs_root / "ellipse-1" / "30" / "ellipse-1.txt"
    path.write_text("0 1 2 3\n")
    expect_error(lambda: opened("nfs30", nfs_root).load("ellipse-1"), r"ellipse-1\.txt, row 1: a row must be 4 numbers")
    path.unlink()
    expect_error(lambda: opened("nfs30", nfs_root).load("ellipse-1"), r"ellipse-1\.txt: no such file")
    (tmp_path / "empty").mkdir()
    expect_error(lambda: opened("nfs30", tmp_path / "empty"), "has no folders")
