"""The command that makes the table of the README."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from alpharefine.synthetic.layouts import write_lasot
from benchmarks.results import DATASETS, main


@pytest.mark.slow
def test_trackers_lack_sequences(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each tracker is scored on the sequences it has results of."""
    for folder in DATASETS:
        data, results = tmp_path / folder, tmp_path / f"{folder}_results"
        write_lasot(data, num_train=0, num_test=2, num_frames=2)
        found = sorted(path.parent for path in data.rglob("groundtruth.txt"))
        for tracker, of_tracker in {"whole": found, "part": found[:1]}.items():
            (results / tracker).mkdir(parents=True)
            for sequence in of_tracker:
                boxes = np.loadtxt(sequence / "groundtruth.txt", delimiter=",")
                np.savetxt(
                    results / tracker / f"{sequence.name}.txt",
                    boxes + np.array([0, 0, 1, 1]),
                    delimiter=",",
                    fmt="%.2f",
                )
    folders = [str(tmp_path), str(shared / "weights"), "--output", str(tmp_path / "output")]
    monkeypatch.setattr(sys, "argv", ["results.py", *folders, "--flip_test"])
    main()
    assert "flip_test: true" in (tmp_path / "output" / "lasot" / "part" / "config.yaml").read_text()
    printed = capsys.readouterr().out
    table = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    rows = {(row[0].removeprefix("| "), row[1], row[2].split()[0]) for row in table[2:]}
    assert len(table) == 2 + 6
    assert rows == {("NanoTrack v2", "closed loop", "2"), ("whole", "from files", "2"), ("part", "from files", "1")}
    assert "Sequences that lose more than 1.0 point" in printed
