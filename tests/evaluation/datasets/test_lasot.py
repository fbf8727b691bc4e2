"""LaSOT and its extension subset: names, frames, ground truth, attributes, bad input."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alpharefine.data.images import read_image
from alpharefine.data.lasot import official_testing_set, official_training_set
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.base import EvaluationDataset
from alpharefine.evaluation.datasets.registry import open_dataset


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


def lasot(root: Path | None = None, annotations_dir: Path | None = None, **options: Any) -> EvaluationDataset:
    return open_dataset(DatasetConfig("lasot", root, annotations_dir, **options))


# ---- names ---------------------------------------------------------------------------------------------------------


def test_splits_of_the_data_root(root: Path) -> None:
    assert lasot(root).names == names_of(root, "testing")
    assert lasot(root, split="train").names == names_of(root, "training")
    assert len(names_of(root, "testing")) == 3


def test_official_splits_where_the_root_has_none(root: Path, annotations: Path) -> None:
    own = {*names_of(root, "testing"), *names_of(root, "training")}
    for split in ("testing", "training"):
        (root / f"{split}_set.txt").unlink()
    assert lasot(root).names == lasot(None, annotations).names == official_testing_set()
    assert set(lasot(root, split="train").names) == own
    (root / "airplane" / "airplane-2" / "img").mkdir(parents=True)
    assert lasot(root, split="train").names == official_training_set()


def test_a_file_of_names_and_names_alone(root: Path, annotations: Path, tmp_path: Path) -> None:
    first, _, third = names_of(root, "testing")
    (tmp_path / "few.txt").write_text(f"{third}\r\n{first}\n\n")
    for folders in ((root, None), (None, annotations), (root, annotations)):
        assert lasot(*folders, split=str(tmp_path / "few.txt")).names == [third, first]
        assert lasot(*folders, sequences=(third,)).names == [third]


def test_official_names_of_the_extension(root: Path) -> None:
    dataset = open_dataset(DatasetConfig("lasot_ext", root))
    assert dataset.names == names_of(root, "testing")
    (root / "testing_set.txt").unlink()
    names = open_dataset(DatasetConfig("lasot_ext", root)).names
    assert len(names) == len(set(names)) == 150
    assert (names[0], names[9], names[10], names[-1]) == ("atv-1", "atv-10", "badminton-1", "wingsuit-10")
    assert not set(names) & {*official_testing_set(), *official_training_set()}


# ---- sequences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["lasot", "lasot_ext"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_sequence_of_the_data_root(root: Path, flat: bool, dataset: str) -> None:
    name = names_of(root, "testing")[1]
    rows = read_rows(folder_of(root, name) / "groundtruth.txt")
    (folder_of(root, name) / "out_of_view.txt").write_text("0,0,0,1,0,0")
    (folder_of(root, name) / "full_occlusion.txt").write_text("0,1,0,0,0,0")
    if flat:
        folder_of(root, name).rename(root / name)
    sequence = pickle.loads(pickle.dumps(open_dataset(DatasetConfig(dataset, root)).load(name)))
    assert sequence.name == name
    assert len(sequence) == 6
    assert sequence.attributes == ()
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, rows)
    assert sequence.truth.absent.tolist() == [False, True, False, True, False, False]
    assert sequence.frame_paths is not None
    assert [path.name for path in sequence.frame_paths] == [f"{i:08d}.jpg" for i in range(1, 7)]
    assert read_image(sequence.frame_paths[5]).shape == (48, 64, 3)


def test_frames_are_ordered_by_number(root: Path) -> None:
    name = names_of(root, "testing")[0]
    for number in range(1, 7):
        (of(root, "img") / f"{number:08d}.jpg").rename(of(root, "img") / f"{2 * number}.jpg")
    sequence = lasot(root).load(name)
    assert sequence.frame_paths is not None
    assert [path.name for path in sequence.frame_paths] == [f"{i}.jpg" for i in (2, 4, 6, 8, 10, 12)]


def test_a_sequence_of_annotations_alone(root: Path, annotations: Path) -> None:
    name = names_of(root, "testing")[0]
    sequence = lasot(None, annotations).load(name)
    assert sequence.frame_paths is None
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, read_rows(annotations / f"{name}.txt"))
    assert sequence.truth.absent.tolist() == [False] * 4 + [True, False]
    assert sequence.attributes == ("IV", "ARC")


def test_annotations_replace_those_of_the_data_root(root: Path, annotations: Path) -> None:
    name = names_of(root, "testing")[0]
    sequence = lasot(root, annotations).load(name)
    assert sequence.frame_paths is not None
    assert len(sequence.frame_paths) == 6
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, read_rows(annotations / f"{name}.txt"))
    assert sequence.truth.absent.tolist() == [False] * 4 + [True, False]


def test_the_parent_of_the_annotation_folder(root: Path, annotations: Path) -> None:
    name = names_of(root, "testing")[0]
    assert lasot(None, annotations.parent).load(name).truth.absent.tolist() == [False] * 4 + [True, False]


def test_annotations_without_attributes(root: Path, annotations: Path) -> None:
    shutil.rmtree(annotations / "att")
    assert lasot(None, annotations).load(names_of(root, "testing")[0]).attributes == ()


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
        pytest.param(lambda root: shutil.rmtree(of(root, "img")), "img: no such folder", id="no folder of frames"),
        pytest.param(lambda root: of(root, "groundtruth.txt").unlink(), "groundtruth.txt: no such file", id="no boxes"),
        pytest.param(
            lambda root: of(root, "img/00000006.jpg").unlink(), "5 frames, 6 groundtruth_rows", id="too few frames"
        ),
        pytest.param(lambda root: of(root, "out_of_view.txt").write_text("0,0"), "2 out_of_view", id="too few flags"),
        pytest.param(emptied, "has no frames", id="no frames"),
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
    dataset = lasot(root)
    change(root)
    with pytest.raises(UserError, match=message) as caught:
        dataset.load(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_annotations_of_another_length(root: Path, annotations: Path) -> None:
    name = names_of(root, "testing")[0]
    for path in (annotations / f"{name}.txt", annotations / "absent" / f"{name}.txt"):
        path.write_text("\n".join([*path.read_text().splitlines(), path.read_text().splitlines()[0]]))
    with pytest.raises(UserError, match=rf"{name}\.txt must have one row for each frame, found 7 rows and 6 frames in"):
        lasot(root, annotations).load(name)


@pytest.mark.parametrize("with_toolkit", [False, True])
def test_annotations_that_end_before_the_video(
    root: Path, annotations: Path, with_toolkit: bool, caplog: pytest.LogCaptureFixture
) -> None:
    name = names_of(root, "testing")[0]
    truth = annotations / f"{name}.txt" if with_toolkit else folder_of(root, name) / "groundtruth.txt"
    for path in (truth, annotations / "absent" / f"{name}.txt"):
        path.write_text("\n".join(path.read_text().splitlines()[:4]))
    sequence = lasot(root, annotations if with_toolkit else None).load(name)
    assert sequence.frame_paths is not None
    assert len(sequence) == len(sequence.frame_paths) == len(sequence.truth.absent) == 4
    assert sequence.note == f"{truth} has 4 rows for 6 frames, so the sequence ends at frame 4"
    assert caplog.messages == [f"Sequence {name}: {sequence.note}."]


def test_a_sequence_without_flags(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = names_of(root, "testing")[0]
    for flags in ("full_occlusion.txt", "out_of_view.txt"):
        (folder_of(root, name) / flags).unlink()
    rows = (folder_of(root, name) / "groundtruth.txt").read_text().splitlines()
    (folder_of(root, name) / "groundtruth.txt").write_text("\n".join([*rows[:5], "0,0,0,0"]))
    assert lasot(root).load(name).truth.absent.tolist() == [False] * 5 + [True]
    assert "no flags of occlusion and view; all boxes are visible" in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("{}.txt", None, r"Sequence {} has no annotation .*{}\.txt"),
        ("absent/{}.txt", None, r"Sequence {} has no annotation .*absent/{}\.txt"),
        ("absent/{}.txt", "0,1", r"{}\.txt has 6 boxes and .*{}\.txt has 2 flags"),
        ("att/{}.txt", "0,1,0", r"{}\.txt must hold 14 flags, got 3"),
    ],
)
def test_bad_annotations(root: Path, annotations: Path, file: str, content: str | None, message: str) -> None:
    name = names_of(root, "testing")[0]
    path = annotations / file.format(name)
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=message.replace("{}", name)):
        lasot(None, annotations).load(name)


def test_no_folder_at_all() -> None:
    with pytest.raises(UserError, match=r"Give `--data_root`.*, or `--annotations_dir`"):
        lasot()


def test_folders_that_are_missing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`--data_root`: .*absent is not a folder"):
        lasot(tmp_path / "absent")
    with pytest.raises(UserError, match=r"`--annotations_dir`: .*testing_set.txt is not a folder"):
        lasot(root, root / "testing_set.txt")
    with pytest.raises(UserError, match="not a folder of LaSOT annotations"):
        lasot(None, root)


@pytest.mark.parametrize("split", ["val", "absent.txt", "."])
def test_an_unknown_split(root: Path, split: str) -> None:
    with pytest.raises(UserError, match=r"`--split` must be 'test', 'train' or a file"):
        lasot(root, split=split)


def test_the_training_split_of_the_official_annotations(annotations: Path) -> None:
    with pytest.raises(UserError, match="`--split train` needs `--data_root`"):
        lasot(None, annotations, split="train")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"], ids=["empty", "blank", "binary"])
def test_a_split_without_names(root: Path, tmp_path: Path, content: bytes) -> None:
    for path in (tmp_path / "own.txt", root / "testing_set.txt"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=path.name):
            lasot(root, split=str(path) if path.name == "own.txt" else "test")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a-1", "b-2", "a-1"), "a-1 is given more than once"),
        (("a/a-1",), "a/a-1 is a path"),
        (("../a-1",), r"\.\./a-1 is a path"),
        (("..",), r"\.\. is a path"),
    ],
)
def test_bad_names(root: Path, tmp_path: Path, names: Sequence[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        lasot(root, sequences=tuple(names))
    (tmp_path / "own.txt").write_text("\n".join(names))
    with pytest.raises(UserError, match=message):
        lasot(root, split=str(tmp_path / "own.txt"))
    (root / "testing_set.txt").write_text("\n".join(names))
    with pytest.raises(UserError, match=message):
        lasot(root)


def test_a_missing_sequence(root: Path) -> None:
    with pytest.raises(UserError, match="sequence zebra-99 is not in"):
        lasot(root, sequences=("zebra-99",)).load("zebra-99")
