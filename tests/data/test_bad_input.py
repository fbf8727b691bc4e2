"""Errors in a data set give a one-line message with the file, the rule and the remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpharefine.data.coco import COCO
from alpharefine.data.got10k import GOT10k
from alpharefine.data.images import read_image
from alpharefine.data.lasot import LaSOT
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.data.reader import Reader
from alpharefine.errors import UserError

Spoil = Callable[[Path], object]


def write(path: str, content: str | bytes) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda root: (root / path).write_bytes(data)


def remove(path: str) -> Spoil:
    def act(root: Path) -> None:
        shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()

    return act


def empty(path: str) -> Spoil:
    def act(root: Path) -> None:
        shutil.rmtree(root / path)
        (root / path).mkdir()

    return act


def expect_one_line(source: Path, target: Path, read: Callable[[Path], Reader], spoil: Spoil, message: str) -> None:
    shutil.copytree(source, target)
    spoil(target)
    with pytest.raises(UserError, match=message) as raised:
        list(read(target).records())
    assert "\n" not in str(raised.value)
    assert str(target) in str(raised.value)


LASOT = {
    "no data set": (remove(""), r"LaSOT: folder .*lasot does not exist; check the data root"),
    "no class": (
        remove("ellipse"),
        r"sequence ellipse-1 is not in .*; add the folder ellipse/ellipse-1 or ellipse-1, or list",
    ),
    "no frames folder": (remove("ellipse/ellipse-1/img"), r"ellipse-1/img: no such folder; the frames"),
    "empty split": (write("training_set.txt", "\n"), r"training_set\.txt: this list names no sequence; it must name"),
    "split no text": (write("training_set.txt", b"\xff\xd8"), r"training_set\.txt is not a text file .*; restore"),
    "no boxes": (remove("ellipse/ellipse-1/groundtruth.txt"), r"groundtruth\.txt: no such file; restore"),
    "no flags": (remove("ellipse/ellipse-1/out_of_view.txt"), r"out_of_view\.txt: no such file; restore"),
    "row of three": (
        write("ellipse/ellipse-1/groundtruth.txt", "1,2,3,4\n1,2,3\n"),
        r"groundtruth\.txt, row 2: a row must be 4 numbers, got '1,2,3'; correct",
    ),
    "frame missing": (
        remove("ellipse/ellipse-1/img/00000005.jpg"),
        r"ellipse-1: every frame must have one annotation, found 21 frames, 22 groundtruth_rows, .*; restore",
    ),
    "no frame": (empty("ellipse/ellipse-1/img"), r"ellipse-1/img has no frames .*; restore"),
    "flag missing": (
        write("ellipse/ellipse-1/full_occlusion.txt", ",".join("0" * 21)),
        r"ellipse-1: every frame must have one annotation, .* 21 full_occlusion, 22 out_of_view; restore",
    ),
    "one flag for all": (write("ellipse/ellipse-1/full_occlusion.txt", "0"), r"1 full_occlusion, 22 out_of_view"),
    "flag 2": (
        write("ellipse/ellipse-1/full_occlusion.txt", ",".join(["0", "2"] * 11)),
        r"full_occlusion\.txt: a flag must be 0 or 1, got '2'; correct",
    ),
}

GOT10K = {
    "no split": (remove("train"), r"GOT-10k: folder .*train does not exist; check the data root"),
    "one label file": (remove("train/GOT-10k_Train_000001/cover.label"), r"cover\.label: no such file; restore"),
    "empty list": (write("train/list.txt", ""), r"list\.txt: this list names no sequence; it must name at least one"),
    "no sequence": (remove("train/GOT-10k_Train_000001"), r"GOT-10k: folder .*Train_000001 does not exist; check"),
    "row of letters": (
        write("train/GOT-10k_Train_000001/groundtruth.txt", "a,b,c,d\n"),
        r"groundtruth\.txt, row 1: a row must be 4 numbers, got 'a,b,c,d'; this looks like a header: remove",
    ),
    "rows missing": (
        write("train/GOT-10k_Train_000001/groundtruth.txt", "1,2,3,4\n"),
        r"Train_000001: every frame must have one annotation, found 20 frames, 1 groundtruth_rows, 20 absence, 20",
    ),
    "flag yes": (
        write("train/GOT-10k_Train_000001/absence.label", "0\n" * 19 + "yes\n"),
        r"absence\.label: a flag must be 0 or 1, got 'yes'; correct",
    ),
    "no cover": (remove("train/GOT-10k_Train_000001/cover.label"), r"cover\.label: no such file; restore"),
    "cover of two": (
        write("train/GOT-10k_Train_000001/cover.label", "8 8\n" * 20),
        r"cover\.label, row 1: a row must be 1 number, got '8 8'; correct",
    ),
}

MASK_VIDEO = {
    "no frames": (remove("JPEGImages"), r"MaskVideo: folder .*JPEGImages does not exist; check"),
    "no masks": (remove("Annotations"), r"MaskVideo: folder .*Annotations/480p does not exist; check"),
    "no videos": (empty("Annotations/480p"), r"Annotations/480p must contain at least one sequence, found none"),
    "mask without frame": (
        remove("JPEGImages/480p/ellipse-1/00002.jpg"),
        r"ellipse-1: mask 00002\.png has no frame .*00002\.jpg; restore the frame, or remove the mask",
    ),
    "mask does not decode": (
        write("Annotations/480p/ellipse-1/00002.png", "no image"),
        r"00002\.png: cannot read this mask .*; restore",
    ),
}

SALIENCY = {
    "no images": (remove("images"), r"Saliency: folder .*images does not exist; check"),
    "empty": (empty("images"), r"images has no frames .*, found an empty folder; restore"),
    "no masks": (remove("ground_truth_mask"), r"must contain a mask folder gt or ground_truth_mask or masks; set"),
    "mask missing": (
        remove("ground_truth_mask/0002.png"),
        r"ecssd/images: image .*\.jpg has no mask .*\.png; restore the mask",
    ),
    "mask of another name": (
        lambda root: (root / "ground_truth_mask/0002.png").rename(root / "ground_truth_mask/9.png"),
        r"ecssd/images: image .*0002\.jpg has no mask .*0002\.png; restore the mask",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), LASOT.values(), ids=LASOT)
def test_lasot(data_root: Path, tmp_path: Path, spoil: Spoil, message: str) -> None:
    expect_one_line(data_root / "lasot", tmp_path / "lasot", LaSOT, spoil, message)


@pytest.mark.parametrize(("spoil", "message"), GOT10K.values(), ids=GOT10K)
def test_got10k(data_root: Path, tmp_path: Path, spoil: Spoil, message: str) -> None:
    expect_one_line(data_root / "got10k", tmp_path / "got10k", GOT10k, spoil, message)


@pytest.mark.parametrize(("spoil", "message"), MASK_VIDEO.values(), ids=MASK_VIDEO)
def test_mask_video(data_root: Path, tmp_path: Path, spoil: Spoil, message: str) -> None:
    expect_one_line(data_root / "davis2016", tmp_path / "davis2016", MaskVideo, spoil, message)


@pytest.mark.parametrize(("spoil", "message"), SALIENCY.values(), ids=SALIENCY)
def test_saliency(data_root: Path, tmp_path: Path, spoil: Spoil, message: str) -> None:
    expect_one_line(data_root / "ecssd", tmp_path / "ecssd", Saliency, spoil, message)


ANNOTATIONS = "annotations/instances_train2017.json"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(remove("train2017"), r"COCO: .*train2017 does not exist; check the data root", id="no images"),
        pytest.param(remove(ANNOTATIONS), r"COCO: .*train2017\.json does not exist; check the data root", id="no file"),
        pytest.param(write(ANNOTATIONS, '{"images": [{"id'), r"\.json is not a COCO instances file .*; rest", id="cut"),
        pytest.param(write(ANNOTATIONS, b"\xff\xd8"), r"\.json is not a COCO instances file .*; rest", id="no text"),
        pytest.param(write(ANNOTATIONS, "[]"), r"\.json is not a COCO instances file .*; restore", id="a list"),
    ],
)
def test_coco_files(data_root: Path, tmp_path: Path, spoil: Spoil, message: str) -> None:
    expect_one_line(data_root / "coco", tmp_path / "coco", COCO, spoil, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda c: c.pop("annotations"), r"is not a COCO instances file \(KeyError\('annot", id="no list"),
        pytest.param(
            lambda c: c["annotations"].clear(), r"must contain at least one object that is not a crowd", id="empty list"
        ),
        pytest.param(
            lambda c: c["images"].clear(), r"annotation 100 is malformed \(KeyError\(1\)\); rest", id="images"
        ),
    ],
)
def test_coco_content(
    data_root: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    def spoil(root: Path) -> None:
        content = json.loads((root / ANNOTATIONS).read_text())
        change(content)
        (root / ANNOTATIONS).write_text(json.dumps(content))

    expect_one_line(data_root / "coco", tmp_path / "coco", COCO, spoil, rf"instances_train2017\.json:? {message}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"image_id": -5}, r"KeyError\(-5\)", id="no such image"),
        pytest.param({"bbox": [1, 2, 3]}, "ValueError", id="box of three"),
        pytest.param({"bbox": "wide"}, "ValueError", id="box of letters"),
        pytest.param({"segmentation": 5}, "TypeError", id="a number for a mask"),
        pytest.param({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "ValueError", id="odd polygon"),
        pytest.param({"segmentation": {"counts": [6912]}}, r"KeyError\('size'\)", id="no size"),
        pytest.param(
            {"segmentation": {"counts": [5, 5], "size": [72, 96]}},
            "the run lengths sum to 10 instead of 6912",
            id="short",
        ),
        pytest.param({"segmentation": {"counts": "P", "size": [72, 96]}}, "Invalid RLE mask", id="broken run lengths"),
        pytest.param(
            {"segmentation": {"counts": [6912], "size": [96, 72]}},
            r"the mask size is \[96, 72\], the image size is \[72, 96\]",
            id="mask of another size",
        ),
    ],
)
def test_coco_annotation(data_root: Path, tmp_path: Path, fields: dict[str, object], message: str) -> None:
    def spoil(root: Path) -> None:
        content = json.loads((root / ANNOTATIONS).read_text())
        content["annotations"][0].update(fields)
        (root / ANNOTATIONS).write_text(json.dumps(content))

    message = rf"instances_train2017\.json: annotation 100 is malformed \(.*{message}.*\); restore"
    expect_one_line(data_root / "coco", tmp_path / "coco", COCO, spoil, message)


@pytest.mark.parametrize(
    ("data_set", "read", "message"),
    [
        (
            "got10k",
            lambda root: GOT10k(root, "test"),
            "GOT-10k: `split` must be one of train, val, train_without_holdout, holdout",
        ),
        ("lasot", lambda root: LaSOT(root, "val"), "LaSOT: `split` must be one of train, test, got 'val'"),
        ("coco", lambda root: COCO(root, "trainval"), "COCO: `split` must be one of train, val, got 'trainval'"),
        ("coco", lambda root: COCO(root, year=2015), "COCO: `year` must be one of 2014, 2017, got 2015"),
    ],
)
def test_an_unknown_split(data_root: Path, data_set: str, read: Callable[[Path], Reader], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(data_root / data_set)


@pytest.mark.parametrize("content", [b"", b"no image"], ids=["empty", "text"])
def test_a_frame_that_does_not_decode(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg: cannot decode this image; restore it"):
        read_image(tmp_path / "a.jpg")


def test_a_missing_frame(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jpg: this image does not exist; restore it"):
        read_image(tmp_path / "a.jpg")


def test_mask_images_of_a_data_set_without_any(data_root: Path) -> None:
    with pytest.raises(TypeError, match="GOT10k has no mask images"):
        GOT10k(data_root / "got10k").mask_path("a", "b")
