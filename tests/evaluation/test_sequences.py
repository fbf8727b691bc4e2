"""Which sequences are evaluated, and what is known of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from alpharefine.evaluation.sequences import SequenceSet

from alpharefine.data.images import read_image
from alpharefine.data.lasot import official_testing_set, official_training_set
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError


@pytest.fixture
def root(lasot_root: Path, tmp_path: Path) -> Path:
    return shutil.copytree(lasot_root, tmp_path / "lasot")


@pytest.fixture
def annotations(root: Path, tmp_path: Path) -> Path:
    """The official toolkit's annotations of the testing sequences, every box moved by a pixel."""
    folder = tmp_path / "annos"
    (folder / "absent").mkdir(parents=True)
    (folder / "att").mkdir()
    for name in names_of(root, "testing"):
        rows = read_rows(folder_of(root, name) / "groundtruth.txt") + np.array([1, 1, 0, 0])
        (folder / f"{name}.txt").write_text("\n".join(",".join(map(str, row)) for row in rows))
        (folder / "absent" / f"{name}.txt").write_text("\n".join("000010"))
        (folder / "att" / f"{name}.txt").write_text(",".join("10000000000001"))
    return folder


def names_of(root: Path, split: str) -> list[str]:
    return (root / f"{split}_set.txt").read_text().split()


def folder_of(root: Path, name: str) -> Path:
    return root / name.rpartition("-")[0] / name


# ---- names ---------------------------------------------------------------------------------------------------------


def test_the_splits_of_the_data_root(root: Path) -> None:
    assert SequenceSet(root, None).names == names_of(root, "testing")
    assert SequenceSet(root, None, "train").names == names_of(root, "training")
    assert len(names_of(root, "testing")) == 3


def test_the_official_splits_where_the_root_has_none(root: Path, annotations: Path) -> None:
    for split in ("testing", "training"):
        (root / f"{split}_set.txt").unlink()
    assert SequenceSet(root, None).names == SequenceSet(None, annotations).names == official_testing_set()
    assert SequenceSet(root, None, "train").names == official_training_set()


def test_a_file_of_names_and_names_alone(root: Path, annotations: Path, tmp_path: Path) -> None:
    first, _, third = names_of(root, "testing")
    (tmp_path / "few.txt").write_text(f"{third}\r\n{first}\n\n")
    for data_root, annotations_dir in ((root, None), (None, annotations), (root, annotations)):
        assert SequenceSet(data_root, annotations_dir, str(tmp_path / "few.txt")).names == [third, first]
        assert SequenceSet(data_root, annotations_dir, sequences=[third]).names == [third]


# ---- sequences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True])
def test_a_sequence_of_the_data_root(root: Path, flat: bool) -> None:
    name = names_of(root, "testing")[1]
    rows = read_rows(folder_of(root, name) / "groundtruth.txt")
    (folder_of(root, name) / "out_of_view.txt").write_text("0,0,0,1,0,0")
    (folder_of(root, name) / "full_occlusion.txt").write_text("0,1,0,0,0,0")
    if flat:
        folder_of(root, name).rename(root / name)
    sequence = SequenceSet(root, None).load(name)
    assert sequence.name == name
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, rows)
    assert sequence.truth.absent.tolist() == [False, True, False, True, False, False]
    assert sequence.frame_paths is not None
    assert [path.name for path in sequence.frame_paths] == [f"{i:08d}.jpg" for i in range(1, 7)]
    assert read_image(sequence.frame_paths[5]).shape == (48, 64, 3)


def test_a_sequence_of_annotations_alone(root: Path, annotations: Path) -> None:
    name = names_of(root, "testing")[0]
    sequence = SequenceSet(None, annotations).load(name)
    assert sequence.frame_paths is None
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, read_rows(annotations / f"{name}.txt"))
    assert sequence.truth.absent.tolist() == [False] * 4 + [True, False]


def test_annotations_come_before_the_data_root(root: Path, annotations: Path) -> None:
    name = names_of(root, "testing")[0]
    sequence = SequenceSet(root, annotations).load(name)
    assert sequence.frame_paths is not None
    assert len(sequence.frame_paths) == 6
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, read_rows(annotations / f"{name}.txt"))
    assert sequence.truth.absent.tolist() == [False] * 4 + [True, False]


def test_attributes(root: Path, annotations: Path) -> None:
    names = names_of(root, "testing")
    expected = dict.fromkeys(names[:2], ("IV", "ARC"))
    assert SequenceSet(None, annotations, sequences=names[:2]).attributes() == expected
    assert SequenceSet(root, None).attributes() is None
    shutil.rmtree(annotations / "att")
    assert SequenceSet(None, annotations).attributes() is None


# ---- bad input -----------------------------------------------------------------------------------------------------


def of(root: Path, name: str) -> Path:
    """A file of the first testing sequence."""
    return folder_of(root, names_of(root, "testing")[0]) / name


def with_first_row(text: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        path = of(root, "groundtruth.txt")
        path.write_text("\n".join([text, *path.read_text().splitlines()[1:]]))

    return change


def emptied(root: Path) -> None:
    for path in (of(root, "groundtruth.txt"), of(root, "full_occlusion.txt"), of(root, "out_of_view.txt")):
        path.write_text("")
    for path in of(root, "img").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda root: shutil.rmtree(of(root, ".")), "is not in .*lasot", id="no folder"),
        pytest.param(lambda root: shutil.rmtree(of(root, "img")), "img does not exist", id="no frames' folder"),
        pytest.param(lambda root: of(root, "groundtruth.txt").unlink(), "groundtruth.txt: no such file", id="no boxes"),
        pytest.param(
            lambda root: of(root, "img/00000006.jpg").unlink(), "5 frames, 6 groundtruth_rows", id="a frame too few"
        ),
        pytest.param(lambda root: of(root, "out_of_view.txt").write_text("0,0"), "2 out_of_view", id="flags too few"),
        pytest.param(emptied, "has no frames", id="nothing in it"),
        pytest.param(with_first_row("1,2,3"), "row 1: a row must be 4 numbers, got '1,2,3'", id="three numbers"),
        pytest.param(with_first_row("1,2,3,w"), "row 1: a row must be 4 numbers, got '1,2,3,w'", id="a letter"),
        pytest.param(with_first_row("5,5,0,9"), r"first frame has no target .* 5,5,0,9\)", id="no width"),
        pytest.param(with_first_row("5,5,9,-1"), r"first frame has no target .* 5,5,9,-1\)", id="negative height"),
        pytest.param(with_first_row("0,0,0,0"), r"first frame has no target .* 0,0,0,0\)", id="no target"),
        pytest.param(with_first_row("nan,5,9,9"), r"first frame has no target .* nan,5,9,9\)", id="not a number"),
    ],
)
def test_a_bad_sequence(root: Path, change: Callable[[Path], object], message: str) -> None:
    name = names_of(root, "testing")[0]
    sequences = SequenceSet(root, None)
    change(root)
    with pytest.raises(UserError, match=message) as caught:
        sequences.load(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_annotations_of_another_length(root: Path, annotations: Path) -> None:
    name = names_of(root, "testing")[0]
    for path in (annotations / f"{name}.txt", annotations / "absent" / f"{name}.txt"):
        path.write_text("\n".join(path.read_text().splitlines()[:5]))
    with pytest.raises(UserError, match=f"{name}: .* found 6 frames, 5 annotation_rows"):
        SequenceSet(root, annotations).load(name)


def test_no_folder_at_all() -> None:
    with pytest.raises(UserError, match=r"Give `--data_root`.*, or `--annotations_dir`"):
        SequenceSet(None, None)


def test_folders_that_are_not_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`--data_root`: .*absent is not a folder"):
        SequenceSet(tmp_path / "absent", None)
    with pytest.raises(UserError, match=r"`--annotations_dir`: .*testing_set.txt is not a folder"):
        SequenceSet(root, root / "testing_set.txt")
    with pytest.raises(UserError, match="not a folder of LaSOT annotations"):
        SequenceSet(None, root)


@pytest.mark.parametrize("split", ["val", "absent.txt", "."])
def test_a_split_that_is_neither_name_nor_file(root: Path, split: str) -> None:
    with pytest.raises(UserError, match="`--split` must be 'test', 'train' or a file"):
        SequenceSet(root, None, split)


def test_the_training_split_of_the_official_annotations(annotations: Path) -> None:
    with pytest.raises(UserError, match="`--split train` needs `--data_root`"):
        SequenceSet(None, annotations, "train")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"], ids=["empty", "blank", "binary"])
def test_a_split_without_names(root: Path, tmp_path: Path, content: bytes) -> None:
    for path in (tmp_path / "own.txt", root / "testing_set.txt"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=path.name):
            SequenceSet(root, None, str(path) if path.name == "own.txt" else "test")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a-1", "b-2", "a-1"], "a-1 stands there more than once"),
        (["a/a-1"], "a/a-1 is a path"),
        (["../a-1"], r"\.\./a-1 is a path"),
    ],
)
def test_names_that_are_none(root: Path, tmp_path: Path, names: Sequence[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SequenceSet(root, None, sequences=names)
    (tmp_path / "own.txt").write_text("\n".join(names))
    with pytest.raises(UserError, match=message):
        SequenceSet(root, None, str(tmp_path / "own.txt"))


def test_a_sequence_that_is_not_there(root: Path) -> None:
    with pytest.raises(UserError, match="sequence zebra-99 is not in"):
        SequenceSet(root, None, sequences=["zebra-99"]).load("zebra-99")
