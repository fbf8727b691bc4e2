"""OTB-100: official names and attributes, frame ranges, several targets of one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.evaluation.datasets.otb100 import FRAME_RANGES, OTB100, official_attributes
from alpharefine.synthetic.benchmarks import write_otb100
from tests.evaluation.datasets.checks import SIZE, expect_error, frame_names, loaded, opened

NAMES = ("Basketball", "David", "Jogging-1", "Jogging-2", "BlurCar1")


@pytest.fixture
def otb_root(tmp_path: Path) -> Path:
    write_otb100(tmp_path / "data", NAMES, num_frames=12, frame_size=SIZE)
    return tmp_path / "data"


def empty_sequence(root: Path, name: str, frames: range, num_rows: int) -> None:
    (root / name / "img").mkdir(parents=True)
    for number in frames:
        (root / name / "img" / f"{number:04d}.jpg").touch()
    rows = np.arange(1, num_rows + 1)[:, None] + np.zeros((1, 4))
    np.savetxt(root / name / "groundtruth_rect.txt", rows, fmt="%d", delimiter="\t")


def test_official_names(otb_root: Path) -> None:
    names = opened("otb100", otb_root).names
    assert len(names) == len(set(names)) == 100
    assert {"Human4-2", "Jogging-1", "Jogging-2", "Skating2-1", "Skating2-2"} < set(names)
    assert len({name.partition("-")[0] for name in names}) == 98
    assert set(FRAME_RANGES) < set(names)


def test_attributes() -> None:
    attributes = official_attributes()
    assert attributes["Basketball"] == ("IV", "OCC", "DEF", "OPR", "BC")
    assert attributes["FaceOcc1"] == ("OCC",)
    assert {short for each in attributes.values() for short in each} == set(OTB100.attribute_names)
    # The numbers of sequences in the legends of published attribute plots.
    counts = [sum(short in each for each in attributes.values()) for short in OTB100.attribute_names]
    assert counts == [38, 64, 49, 44, 29, 39, 51, 63, 14, 31, 9]


def test_sequences(otb_root: Path) -> None:
    dataset = opened("otb100", otb_root, sequences=NAMES)
    assert (dataset.names, dataset.scoring, dataset.default_protocol) == (list(NAMES), "one_pass", "lasot")
    for name in NAMES:  # commas, tabs and spaces in turn
        sequence = loaded(dataset, name)
        assert len(sequence) == 12
        assert not sequence.truth.absent.any()
    assert frame_names(loaded(dataset, "Jogging-2"))[0] == "0001.jpg"
    assert frame_names(loaded(dataset, "BlurCar1"))[0] == "0247.jpg"
    assert loaded(dataset, "David").attributes == ("IV", "SV", "OCC", "DEF", "MB", "IPR", "OPR")


def test_each_target_has_its_own_annotation(otb_root: Path) -> None:
    (otb_root / "Jogging" / "groundtruth_rect.2.txt").write_text("7,7,9,9\n" * 12)
    dataset = opened("otb100", otb_root, sequences=("Jogging-1", "Jogging-2"))
    first, second = dataset.load("Jogging-1"), dataset.load("Jogging-2")
    assert second.truth.boxes_xywh[5].tolist() == [7, 7, 9, 9] != first.truth.boxes_xywh[5].tolist()
    assert frame_names(first) == frame_names(second)


@pytest.mark.parametrize(
    ("name", "frames", "num_rows", "first", "last"),
    [
        ("David", range(1, 771), 471, (300, 1), (770, 471)),
        ("David", range(300, 771), 471, (300, 1), (770, 471)),
        ("Football1", range(1, 82), 74, (1, 1), (74, 74)),
        ("Freeman3", range(1, 475), 460, (1, 1), (460, 460)),
        ("Freeman4", range(1, 298), 283, (1, 1), (283, 283)),
        ("Diving", range(1, 232), 215, (1, 1), (215, 215)),
        ("Tiger1", range(1, 355), 354, (6, 6), (354, 354)),
        ("Board", range(1, 699), 698, (1, 1), (698, 698)),
    ],
)
def test_frame_ranges(
    tmp_path: Path, name: str, frames: range, num_rows: int, first: tuple[int, int], last: tuple[int, int]
) -> None:
    empty_sequence(tmp_path, name, frames, num_rows)
    sequence = opened("otb100", tmp_path, sequences=(name,)).load(name)
    assert (frame_names(sequence)[0], sequence.truth.boxes_xywh[0, 0]) == (f"{first[0]:04d}.jpg", first[1])
    assert (frame_names(sequence)[-1], sequence.truth.boxes_xywh[-1, 0]) == (f"{last[0]:04d}.jpg", last[1])
    assert len(sequence) == last[0] - first[0] + 1


def test_names_of_five_digits(otb_root: Path) -> None:
    folder = otb_root / "Basketball" / "img"
    for number in range(1, 13):
        (folder / f"{number:04d}.jpg").rename(
            folder / f"{number + 9990:05d}.jpg" if number > 9 else folder / f"{number + 9990:04d}.jpg"
        )
    names = frame_names(opened("otb100", otb_root, sequences=("Basketball",)).load("Basketball"))
    assert (names[0], names[-1]) == ("9991.jpg", "10002.jpg")


def test_bad_input(otb_root: Path, tmp_path: Path) -> None:
    expect_error(lambda: opened("otb100", otb_root, sequences=("jogging-1",)), "'jogging-1' is not .*; use 'Jogging-1'")
    dataset = opened("otb100", otb_root, sequences=NAMES)
    (otb_root / "David" / "img" / "0311.jpg").unlink()
    expect_error(lambda: dataset.load("David"), r"groundtruth_rect\.txt must have one row .* 12 rows and 11 frames in")
    (otb_root / "Basketball" / "groundtruth_rect.txt").unlink()
    expect_error(lambda: dataset.load("Basketball"), r"groundtruth_rect\.txt: no such file")
    expect_error(lambda: opened("otb100", tmp_path / "absent"), "`--data_root`: .*absent is not a folder")
