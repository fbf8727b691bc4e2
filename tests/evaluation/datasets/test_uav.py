"""UAV123 and UAV20L: ranges of shared folders, absent targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.evaluation.datasets.uav import frame_ranges
from alpharefine.synthetic.benchmarks import write_uav123
from tests.evaluation.datasets.checks import SIZE, expect_error, frame_names, loaded, opened


def empty_sequences(root: Path, benchmark: str, folder: str, num_frames: int, **num_rows: int) -> None:
    """Frames without content, and rows that tell the number of their frame from the first of the sequence."""
    frames = root / "data_seq" / "UAV123" / folder
    frames.mkdir(parents=True)
    for number in range(1, num_frames + 1):
        (frames / f"{number:06d}.jpg").touch()
    annotations = root / "anno" / benchmark
    annotations.mkdir(parents=True)
    for name, count in num_rows.items():
        rows = np.arange(1, count + 1)[:, None] + np.zeros((1, 4))
        np.savetxt(annotations / f"{name}.txt", rows, fmt="%d", delimiter=",")


def test_official_tables() -> None:
    uav123, uav20l = frame_ranges("uav123.txt"), frame_ranges("uav20l.txt")
    assert (len(uav123), len(uav20l)) == (123, 20)
    assert len({each.folder for each in uav123.values()}) == 91
    assert uav123["bird1_2"] == ("bird1", 775, 1477)
    assert uav20l["bird1"] == ("bird1", 1, 2437)
    # The frames of the two benchmarks, as in the paper.
    assert sum(each.last - each.first + 1 for each in uav123.values()) == 112_578
    assert sum(each.last - each.first + 1 for each in uav20l.values()) == 58_670


@pytest.fixture
def uav_root(tmp_path: Path) -> Path:
    write_uav123(tmp_path / "data", {"uav6": ("uav6", 1, 109)}, frame_size=SIZE)
    return tmp_path / "data"


def test_a_sequence(uav_root: Path) -> None:
    dataset = opened("uav123", uav_root, sequences=("uav6",))
    assert (dataset.scoring, dataset.default_protocol) == ("one_pass", "pytracking")
    sequence = loaded(dataset, "uav6")
    assert frame_names(sequence) == [f"{i:06d}.jpg" for i in range(1, 110)]
    assert np.array_equal(sequence.truth.absent, np.isnan(sequence.truth.boxes_xywh).any(1))


def test_absent_targets(uav_root: Path) -> None:
    path = uav_root / "anno" / "UAV123" / "uav6.txt"
    path.write_text("5,5,9,9\n" * 50 + "NaN,NaN,NaN,NaN\n" * 59)
    sequence = opened("uav123", uav_root, sequences=("uav6",)).load("uav6")
    assert np.flatnonzero(sequence.truth.absent).tolist() == list(range(50, 109))
    path.write_text("NaN,NaN,NaN,NaN\n" * 109)
    expect_error(lambda: opened("uav123", uav_root, sequences=("uav6",)).load("uav6"), "first frame has no target")


def test_sequences_that_share_a_folder(tmp_path: Path) -> None:
    empty_sequences(tmp_path, "UAV123", "bird1", 2437, bird1_1=253, bird1_2=703, bird1_3=865)
    dataset = opened("uav123", tmp_path)
    assert len(dataset.names) == 123
    for name, first, last in (("bird1_1", 1, 253), ("bird1_2", 775, 1477), ("bird1_3", 1573, 2437)):
        sequence = dataset.load(name)
        names = frame_names(sequence)
        assert (names[0], names[-1], len(names)) == (f"{first:06d}.jpg", f"{last:06d}.jpg", last - first + 1)
        assert sequence.truth.boxes_xywh[:, 0].tolist() == list(range(1, len(names) + 1))


def test_uav20l(tmp_path: Path) -> None:
    empty_sequences(tmp_path, "UAV20L", "bird1", 2437, bird1=2437)
    dataset = opened("uav20l", tmp_path)
    assert len(dataset.names) == 20
    assert len(dataset.load("bird1")) == 2437


def test_bad_input(uav_root: Path) -> None:
    (uav_root / "data_seq" / "UAV123" / "uav6" / "000050.jpg").unlink()
    expect_error(
        lambda: opened("uav123", uav_root, sequences=("uav6",)).load("uav6"),
        r"109 rows and 108 frames in .* \(no frame between 000049.jpg and 000051.jpg\)",
    )
    expect_error(lambda: opened("uav123", uav_root, sequences=("uav66",)), "'uav66' is not a sequence .*; use 'uav6'")
    expect_error(lambda: opened("uav20l", uav_root), "has no folder .*anno/UAV20L; give the one that holds it")
