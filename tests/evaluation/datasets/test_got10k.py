"""GOT-10k: both splits, image sizes, cover, and the archive for the server."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from alpharefine.data.text import read_rows
from alpharefine.synthetic.benchmarks import write_got10k_benchmark
from tests.evaluation.datasets.checks import SIZE, expect_error, frame_names, loaded, opened, results_of, unpacked

VAL, TEST = "GOT-10k_Val_000001", "GOT-10k_Test_000001"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("got10k") / "data"
    write_got10k_benchmark(root, num_val=2, num_test=2, num_frames=11, frame_size=SIZE)
    return root


@pytest.fixture
def got10k_root(generated: Path, tmp_path: Path) -> Path:
    return shutil.copytree(generated, tmp_path / "got10k")


def test_validation(got10k_root: Path) -> None:
    (got10k_root / "val" / VAL / "cover.label").write_text("\n".join("88880012888"))
    dataset = opened("got10k", got10k_root, split="val")
    assert dataset.names == [VAL, "GOT-10k_Val_000002"]
    assert (dataset.scoring, dataset.default_protocol) == ("got10k", "got10k")
    sequence = loaded(dataset, VAL)
    assert frame_names(sequence) == [f"{i:08d}.jpg" for i in range(1, 12)]
    np.testing.assert_array_equal(sequence.truth.boxes_xywh, read_rows(got10k_root / "val" / VAL / "groundtruth.txt"))
    assert np.flatnonzero(sequence.truth.absent).tolist() == [4, 5]
    assert sequence.truth.image_size == SIZE


@pytest.mark.parametrize(
    ("meta", "size"), [("resolution: (1280, 720)", (720, 1280)), ("url: unknown", SIZE), (None, SIZE)]
)
def test_image_size(got10k_root: Path, meta: str | None, size: tuple[int, int]) -> None:
    path = got10k_root / "val" / VAL / "meta_info.ini"
    path.unlink() if meta is None else path.write_text(f"[METAINFO]\n{meta}\n")
    assert opened("got10k", got10k_root, split="val").load(VAL).truth.image_size == size


def test_test_split(got10k_root: Path) -> None:
    dataset = opened("got10k", got10k_root)
    assert dataset.names == [TEST, "GOT-10k_Test_000002"]
    assert dataset.scoring == "server"
    sequence = loaded(dataset, TEST)
    np.testing.assert_array_equal(
        sequence.truth.boxes_xywh[:1], read_rows(got10k_root / "test" / TEST / "groundtruth.txt")
    )
    assert np.isnan(sequence.truth.boxes_xywh[1:]).all()
    assert len(sequence) == 11


def test_names_choose_the_split(got10k_root: Path, tmp_path: Path) -> None:
    assert opened("got10k", got10k_root, sequences=(VAL,)).scoring == "got10k"
    assert opened("got10k", got10k_root, split="val", sequences=(TEST,)).scoring == "server"
    (tmp_path / "names.txt").write_text(f"{VAL}\n")
    assert loaded(opened("got10k", got10k_root, split=str(tmp_path / "names.txt")), VAL).truth.absent.shape == (11,)


def test_the_folder_of_a_split(got10k_root: Path) -> None:
    assert opened("got10k", got10k_root / "val", split="val").names == opened("got10k", got10k_root, split="val").names
    expect_error(lambda: opened("got10k", got10k_root / "val", split="test"), "is another split than `test`")


def test_folders_where_there_is_no_list(got10k_root: Path) -> None:
    (got10k_root / "val" / "list.txt").unlink()
    assert opened("got10k", got10k_root, split="val").names == [VAL, "GOT-10k_Val_000002"]


def test_archive(got10k_root: Path, tmp_path: Path) -> None:
    dataset = opened("got10k", got10k_root)
    boxes, times = results_of(dataset)
    dataset.pack(boxes, times, tmp_path / "deep" / "results.zip")
    files = unpacked(tmp_path / "deep" / "results.zip")
    assert sorted(files) == sorted(f"{name}/{name}_{kind}.txt" for name in dataset.names for kind in ("001", "time"))
    for name in dataset.names:
        np.testing.assert_allclose(files[f"{name}/{name}_001.txt"], boxes[name], atol=5e-5)
        np.testing.assert_allclose(files[f"{name}/{name}_time.txt"][:, 0], times[name] / 1000, atol=5e-9)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["results.zip"]


def test_an_incomplete_data_root_is_named(got10k_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = opened("got10k", got10k_root)
    dataset.pack(*results_of(dataset), tmp_path / "results.zip")
    assert "expects 180 sequences and this archive holds the 2" in caplog.text


def test_results_that_are_not_packed(got10k_root: Path, tmp_path: Path) -> None:
    dataset, path = opened("got10k", got10k_root), tmp_path / "results.zip"
    boxes, times = results_of(dataset)
    second = dataset.names[1]

    def expect(message: str, changed_boxes: dict, changed_times: dict) -> None:
        expect_error(lambda: dataset.pack(changed_boxes, changed_times, path), message)
        assert not path.exists()

    expect(f"all 2 sequences of the split, 1 are missing \\({second}\\)", {TEST: boxes[TEST]}, times)
    expect(f"Sequence {second}: .* each of the 11 frames, .* \\(10, 4\\)", {**boxes, second: boxes[second][:-1]}, times)
    expect(f"Sequence {second}: .* one time for each of the 11 frames, got 0", boxes, {TEST: times[TEST]})
    broken = np.where(np.arange(44).reshape(11, 4) == 9, np.nan, boxes[second])
    expect(f"Sequence {second}, row 3: a box must be finite", {**boxes, second: broken}, times)
    part = opened("got10k", got10k_root, sequences=(TEST,))
    expect_error(lambda: part.pack({TEST: boxes[TEST]}, times, path), f"1 are missing \\({second}\\)")
    val = opened("got10k", got10k_root, split="val")
    expect_error(lambda: val.pack(*results_of(val), path), "`--split test`")


def test_bad_input(got10k_root: Path) -> None:
    val, folder = opened("got10k", got10k_root, split="val"), got10k_root / "val" / VAL
    (folder / "cover.label").write_text("8\n8\n")
    expect_error(lambda: val.load(VAL), r"cover\.label must have one row for each frame, found 2 rows and 11 frames")
    (folder / "00000005.jpg").unlink()
    expect_error(
        lambda: val.load(VAL), r"11 rows and 10 frames in .* \(no frame between 00000004.jpg and 00000006.jpg\)"
    )
    path = got10k_root / "test" / TEST / "groundtruth.txt"
    path.write_text("1,1,5,5\n2,2,5,5\n")
    expect_error(lambda: opened("got10k", got10k_root).load(TEST), "must hold one row, .* got 2")
    expect_error(lambda: opened("got10k", got10k_root, split="train"), "must be 'test', 'val' or a file")
