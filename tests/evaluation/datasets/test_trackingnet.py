"""TrackingNet: test split and the archive for the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.data.text import read_rows
from alpharefine.synthetic.benchmarks import write_trackingnet_benchmark
from tests.evaluation.datasets.checks import SIZE, expect_error, frame_names, loaded, opened, results_of, unpacked


@pytest.fixture
def trackingnet_root(tmp_path: Path) -> Path:
    write_trackingnet_benchmark(tmp_path / "data", num_sequences=2, num_frames=12, frame_size=SIZE)
    return tmp_path / "data"


@pytest.mark.parametrize("below", [".", "TEST"])
def test_sequences(trackingnet_root: Path, below: str) -> None:
    dataset = opened("trackingnet", trackingnet_root / below)
    assert dataset.names == ["ellipse-1", "polygon-2"]
    assert dataset.scoring == "server"
    sequence = loaded(dataset, "polygon-2")
    assert frame_names(sequence) == [f"{i}.jpg" for i in range(12)]
    np.testing.assert_array_equal(
        sequence.truth.boxes_xywh[:1], read_rows(trackingnet_root / "TEST" / "anno" / "polygon-2.txt")
    )
    assert np.isnan(sequence.truth.boxes_xywh[1:]).all()


def test_archive(trackingnet_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = opened("trackingnet", trackingnet_root)
    boxes, _ = results_of(dataset)
    dataset.pack({**boxes, "other": np.zeros((3, 4))}, {}, tmp_path / "results.zip")
    files = unpacked(tmp_path / "results.zip")
    assert sorted(files) == ["ellipse-1.txt", "polygon-2.txt"]
    for name in dataset.names:
        np.testing.assert_allclose(files[f"{name}.txt"], boxes[name], atol=5e-5)
    assert "expects 511 sequences" in caplog.text
    del boxes["ellipse-1"]
    expect_error(lambda: dataset.pack(boxes, {}, tmp_path / "other.zip"), r"1 are missing \(ellipse-1\)")
    assert not (tmp_path / "other.zip").exists()


def test_an_archive_stays_until_the_new_one_is_complete(
    trackingnet_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, path = opened("trackingnet", trackingnet_root), tmp_path / "results.zip"
    path.write_bytes(b"before")

    def fail(*_: object) -> str:
        raise OSError("no space")

    monkeypatch.setattr("zipfile.ZipFile.writestr", fail)
    with pytest.raises(OSError, match="no space"):
        dataset.pack(results_of(dataset)[0], {}, path)
    assert path.read_bytes() == b"before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "results.zip"]


def test_bad_input(trackingnet_root: Path, tmp_path: Path) -> None:
    expect_error(lambda: opened("trackingnet", trackingnet_root / "TEST" / "anno"), "holds neither TEST/anno nor anno")
    annotations = trackingnet_root / "TEST" / "anno"
    (annotations / "ellipse-1.txt").write_text("")
    expect_error(lambda: opened("trackingnet", trackingnet_root).load("ellipse-1"), "must hold one row, .* got 0")
    (annotations / "ellipse-1.txt").write_text("1,1,0,5\n")
    expect_error(lambda: opened("trackingnet", trackingnet_root).load("ellipse-1"), "first frame has no target")
    for path in annotations.iterdir():
        path.unlink()
    expect_error(lambda: opened("trackingnet", trackingnet_root), "has no annotation files")
