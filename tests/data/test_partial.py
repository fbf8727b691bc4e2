"""Data sets as people have them: partial downloads, other suffixes, plain numbers, exports of labeling tools."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from alpharefine.boxes import is_valid
from alpharefine.data.coco import COCO, decode_mask
from alpharefine.data.got10k import GOT10k
from alpharefine.data.imagenet import ImageNetVID
from alpharefine.data.index import open_index
from alpharefine.data.lasot import LaSOT, official_testing_set, official_training_set
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.data.pairs import PairSource
from alpharefine.data.reader import Reader
from alpharefine.data.trackingnet import TrackingNet
from alpharefine.errors import UserError
from tests.data.imagenet_trees import write_annotation

NUMBERS = [1, 2, 9, 10, 11, 100]
SIZE = (24, 32)


def write_frames(folder: Path, suffix: str = ".jpg", numbers: list[int] = NUMBERS) -> None:
    """Write frames whose gray value is their number, and files that are no frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        write_picture(folder / f"{number}{suffix}", number)
    for name in (f"._1{suffix}", f".2{suffix}", "Thumbs.db"):
        (folder / name).write_bytes(b"junk")
    (folder / "@eaDir").mkdir(exist_ok=True)


def write_picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, content = cv2.imencode(path.suffix.lower(), np.full((*SIZE, 3), value, np.uint8))
    assert ok
    path.write_bytes(content)


def write_boxes(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{number},1,5,6\n" for number in NUMBERS))


def lasot(root: Path, suffix: str) -> Reader:
    write_frames(root / "cat-1" / "img", suffix)
    write_boxes(root / "cat-1" / "groundtruth.txt")
    (root / "training_set.txt").write_text("cat-1\n")
    return LaSOT(root)


def got10k(root: Path, suffix: str) -> Reader:
    write_frames(root / "train" / "a", suffix)
    write_boxes(root / "train" / "a" / "groundtruth.txt")
    (root / "train" / "@eaDir").mkdir()
    return GOT10k(root)


def trackingnet(root: Path, suffix: str) -> Reader:
    write_frames(root / "TRAIN_0" / "frames" / "a", suffix)
    write_boxes(root / "TRAIN_0" / "anno" / "a.txt")
    (root / "TRAIN_0" / "anno" / "._a.txt").write_bytes(b"\xff")
    return TrackingNet(root)


def mask_video(root: Path, suffix: str) -> Reader:
    write_frames(root / "JPEGImages" / "a", suffix)
    for number in NUMBERS:
        label = np.zeros(SIZE, np.uint8)
        label[1:7, number % 20 : number % 20 + 5] = 255
        path = root / "Annotations" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label).save(path)
    (root / "Annotations" / "a" / "._1.png").write_bytes(b"junk")
    (root / "Annotations" / "@eaDir").mkdir()
    return MaskVideo(root, min_area=1)


def imagenet_vid(root: Path, suffix: str) -> Reader:
    write_frames(root / "Data/VID/train/a/b", suffix)
    for number in NUMBERS:
        box = (number % 20, 1, number % 20 + 4, 6)
        write_annotation(root / f"Annotations/VID/train/a/b/{number}.xml", [(0, box, False)], video=True)
    (root / "Annotations/VID/train/a/b/._1.xml").write_bytes(b"\xff")
    return ImageNetVID(root)


WRITERS = {
    "lasot": lasot,
    "got10k": got10k,
    "trackingnet": trackingnet,
    "mask_video": mask_video,
    "imagenet_vid": imagenet_vid,
}


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".JPEG", ".png", ".bmp", ".Jpeg"])
@pytest.mark.parametrize("name", WRITERS)
def test_frames_are_in_the_order_of_their_numbers(
    tmp_path: Path, name: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    if name == "imagenet_vid" and suffix == ".Jpeg":
        suffix = ".JPEG"
    reader = WRITERS[name](tmp_path, suffix)
    (record,) = reader.records()
    assert [Path(frame).stem for frame in record.frame_names] == [str(number) for number in NUMBERS]
    expected = [number % 20 for number in NUMBERS] if name in ("mask_video", "imagenet_vid") else NUMBERS
    assert record.boxes_xywh[:, 0].tolist() == expected
    for frame, number in zip(record.frame_names, NUMBERS, strict=True):
        path = reader.frame_path(record.name, frame)
        assert path.name == f"{number}{suffix}"
    if name not in ("lasot", "got10k"):  # which number frames by position
        assert record.times.tolist() == NUMBERS


@pytest.mark.parametrize("name", ["lasot", "got10k", "trackingnet"])
def test_gaps_repeats_and_suffixes_are_named(tmp_path: Path, name: str) -> None:
    reader = WRITERS[name](tmp_path, ".jpg")
    folder = reader.frame_path(*{"lasot": ("cat-1", "1.jpg"), "got10k": ("a", "1.jpg")}.get(name, ("TRAIN_0/a", "1")))
    folder = folder.parent
    (folder / "10.jpg").unlink()
    with pytest.raises(UserError, match=r"5 frames, .*\(no frame between 2\.jpg and 9\.jpg\); restore"):
        list(reader.records())
    shutil.copy(folder / "9.jpg", folder / "009.jpg")
    with pytest.raises(UserError, match=r"frames .*9\.jpg and .*9\.jpg have the same number"):
        list(reader.records())
    for path in folder.glob("*.jpg"):
        path.rename(path.with_suffix(".webp"))
    with pytest.raises(UserError, match=r"has no frames .*, found .*\.webp"):
        list(reader.records())


def test_masks_of_one_color_but_different_ones_are_two_objects(tmp_path: Path) -> None:
    reader = mask_video(tmp_path, ".jpg")
    path = tmp_path / "Annotations" / "a" / "9.png"
    Image.fromarray(np.array(Image.open(path)) // 2).save(path)
    with pytest.raises(UserError, match=r"the target is 255,255,255 in 1\.png and 127,127,127 in 9\.png, which may be"):
        list(reader.records())


def test_duts_has_masks_of_two_suffixes(tmp_path: Path) -> None:
    for stem, image, mask in (("a", ".jpg", ".png"), ("b", ".jpg", ".jpg"), ("c", ".PNG", ".JPG")):
        write_picture(tmp_path / "images" / f"{stem}{image}", 9)
        write_picture(tmp_path / "masks" / f"{stem}{mask}", 255)
    reader = Saliency(tmp_path)
    records = list(reader.records())
    assert [record.name for record in records] == ["a", "b", "c"]
    assert all(record.visible.all() for record in records)
    assert [reader.mask_path(stem, stem).name for stem in "abc"] == ["a.png", "b.jpg", "c.JPG"]
    write_picture(tmp_path / "images" / "a.png", 9)
    with pytest.raises(UserError, match=r"a\.jpg and a\.png have one name|a\.png and a\.jpg have one name"):
        list(reader.records())


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    for stem in "ab":
        write_picture(tmp_path / "Imgs" / f"{stem}.jpg", 9)
        write_picture(tmp_path / "Imgs" / f"{stem}.png", 255)
    reader = Saliency(tmp_path, images="Imgs", masks="Imgs")
    assert [record.name for record in reader.records()] == ["a", "b"]
    (tmp_path / "Imgs" / "a.png").unlink()
    with pytest.raises(UserError, match=r"image a\.jpg has no mask .*a\.png"):
        list(reader.records())


# ---- partial downloads ---------------------------------------------------------------------------------------------


def copied(data_root: Path, name: str, target: Path) -> Path:
    shutil.copytree(data_root / name, target / name)
    return target / name


def test_got10k_without_a_list_and_labels(data_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = copied(data_root, "got10k", tmp_path)
    names = GOT10k(root).names
    (root / "train" / "list.txt").unlink()
    for path in root.glob("train/*/*.label"):
        path.unlink()
    for folder in (root, root / "train"):
        records = list(GOT10k(folder).records())
        assert [record.name for record in records] == sorted(names)
        assert all((record.visible == is_valid(record.boxes_xywh)).all() for record in records)
    assert [message.partition(": ")[2].partition(" ")[2] for message in caplog.messages] == [
        f"does not exist; using the {len(names)} folders of the split.",
        "in " + f"{root / 'train'} have no absence.label and cover.label; all boxes are visible.",
    ]


@pytest.mark.parametrize("name", ["got10k", "lasot", "trackingnet"])
def test_missing_sequences_are_skipped_and_counted(
    data_root: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    if name == "trackingnet":
        trackingnet(tmp_path, ".jpg")
        write_boxes(tmp_path / "TRAIN_0" / "anno" / "b.txt")
        root, make, gone = tmp_path, TrackingNet, "TRAIN_0/b"
    else:
        root = copied(data_root, name, tmp_path)
        make = {"got10k": GOT10k, "lasot": LaSOT}[name]  # type: ignore[assignment]
        gone = make(root).names[1]
        shutil.rmtree(next(path for path in root.rglob(gone) if path.is_dir()))
    names = make(root).names
    with pytest.raises(UserError):
        list(make(root).records())
    reader = make(root, missing="skip")
    assert reader.names == [each for each in names if each != gone]
    assert len(list(reader.records())) >= len(names) - 1
    assert f"1 of {len(names)} listed sequences are missing and skipped" in caplog.text
    with pytest.raises(UserError, match="`missing` must be one of error, skip, got 'drop'"):
        make(root, missing="drop")  # type: ignore[arg-type]


def test_some_classes_of_lasot_without_flags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        write_frames(tmp_path / "airplane" / f"airplane-{number}" / "img")
        write_boxes(tmp_path / "airplane" / f"airplane-{number}" / "groundtruth.txt")
    reader = LaSOT(tmp_path, missing="skip")
    assert all(record.visible.all() for record in reader.records())
    assert reader.names == ["airplane-2"]  # airplane-1 is a test sequence
    assert "1119 of 1120 listed sequences are missing and skipped" in caplog.text
    with pytest.raises(UserError, match="or set the option `missing: skip`"):
        list(LaSOT(tmp_path).records())


def test_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of the 1120 listed sequences exists"):
        LaSOT(tmp_path, missing="skip")


@pytest.mark.parametrize(
    ("name", "make"),
    [("got10k", GOT10k), ("lasot", LaSOT), ("coco", COCO), ("davis2016", MaskVideo), ("ecssd", Saliency)],
)
def test_the_root_one_level_too_high(
    data_root: Path, tmp_path: Path, name: str, make: Callable[[Path], Reader], caplog: pytest.LogCaptureFixture
) -> None:
    root = copied(data_root, name, tmp_path / "above")
    assert make(tmp_path / "above").root == root
    assert f"using {root}, the only folder in {tmp_path / 'above'} with the layout" in caplog.text
    shutil.copytree(root, tmp_path / "above" / "other")
    with pytest.raises(UserError, match=rf"above holds several data sets of this layout \({name}, other\)"):
        make(tmp_path / "above")


# ---- COCO ----------------------------------------------------------------------------------------------------------


def write_export(root: Path, file: str, image: str, name: str | None = None, **fields: Any) -> None:
    write_picture(root / image, 9)
    annotation = {"id": 1, "image_id": 0, "category_id": 0, "bbox": [4.0, 6.0, 8.0, 10.0], "area": 80, **fields}
    entry = {"id": 0, "width": SIZE[1], "height": SIZE[0], "file_name": name or Path(image).name}
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps({"images": [entry], "annotations": [annotation], "categories": []}))


EXPORTS = {
    "Label Studio": ("result.json", "images/a.png", "images/a.png", {"images": "images"}),
    "Label Studio, backslashes": ("result.json", "images/a.png", "images\\1\\a.png", {"images": "images"}),
    "Label Studio, path of the server": (
        "result.json",
        "images/a.png",
        "../../label-studio/data/media/upload/1/a.png",
        {"images": "images"},
    ),
    "Label Studio, root of the names": ("result.json", "images/a.png", "images/a.png", {}),
    "CVAT": ("annotations/instances_default.json", "images/a.png", "a.png", {"images": "images"}),
    "CVAT with subsets": (
        "annotations/instances_default.json",
        "images/default/a.png",
        "a.png",
        {"images": "images/default"},
    ),
    "CVAT with subsets, images one level up": (
        "annotations/instances_default.json",
        "images/default/a.png",
        "a.png",
        {"images": "images"},
    ),
    "Roboflow": ("train/_annotations.coco.json", "train/a_jpg.rf.0f.jpg", "a_jpg.rf.0f.jpg", {}),
}


@pytest.mark.parametrize("tool", EXPORTS)
@pytest.mark.parametrize("masks", [False, True])
def test_exports_of_labeling_tools(tmp_path: Path, tool: str, masks: bool) -> None:
    file, image, name, options = EXPORTS[tool]
    write_export(tmp_path, file, image, name, segmentation=[[4, 6, 12, 6, 12, 16, 4, 16]] if masks else [])
    reader = COCO(tmp_path, annotations=file, masks=masks, **options)
    (record,) = reader.records()
    assert record.visible.all()
    assert reader.frame_path(record.name, record.frame_names[0]) == tmp_path / image
    assert record.boxes_xywh.tolist() == [[4, 6, 8, 10]]
    if masks:
        assert record.masks is not None
        assert decode_mask(record.masks[0], SIZE)[6:16, 4:12].all()


@pytest.mark.parametrize("fields", [{}, {"segmentation": None}, {"segmentation": []}], ids=["absent", "null", "empty"])
def test_objects_without_masks(tmp_path: Path, fields: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    write_export(tmp_path, "annotations/instances_train2017.json", "train2017/a.jpg", **fields)
    (record,) = COCO(tmp_path, masks=False).records()
    assert record.visible.tolist() == [True]
    assert record.masks is None
    (record,) = COCO(tmp_path).records()
    assert record.visible.tolist() == [False]
    assert "set the option `masks: false` to use the boxes" in caplog.text


def test_a_crowd_is_omitted(tmp_path: Path) -> None:
    write_export(tmp_path, "annotations/instances_train2017.json", "train2017/a.jpg", iscrowd=1)
    with pytest.raises(UserError, match="must contain at least one object that is not a crowd"):
        list(COCO(tmp_path, masks=False).records())


def test_a_missing_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape("by the options `annotations` and `images`.")):
        COCO(tmp_path)
    write_export(tmp_path, "result.json", "images/a.png")
    with pytest.raises(UserError, match=re.escape("(found: `annotations: result.json`, `images: images`).")):
        COCO(tmp_path)


def test_boxes_in_parts_of_the_frame_are_refused(tmp_path: Path) -> None:
    reader = lasot(tmp_path, ".jpg")
    (tmp_path / "cat-1" / "groundtruth.txt").write_text("0.1,0.2,0.3,0.4\n" * len(NUMBERS))
    with pytest.raises(
        UserError, match="boxes must be x,y,w,h in pixels, but all 6 of sequence cat-1 are between 0 and"
    ):
        open_index(reader, tmp_path / "cache")


def test_corners_in_a_coco_file_are_refused(tmp_path: Path) -> None:
    height, width = SIZE
    write_export(tmp_path, "result.json", "images/a.png", bbox=[width - 9.0, height - 8.0, width - 1.0, height - 1.0])
    reader = COCO(tmp_path, annotations="result.json", images="images", masks=False)
    with pytest.raises(UserError, match=r"result.json: annotation 1: `bbox` must be x,y,w,h .* fits it as x1,y1,x2,y2"):
        list(reader.records())


def own_videos(root: Path, **num_frames: int) -> Path:
    """Write videos in LaSOT's layout, named ``<name>-1``."""
    for name, number in num_frames.items():
        for frame in range(1, number + 1):
            write_picture(root / f"{name}-1" / "img" / f"{frame}.png", 9)
        (root / f"{name}-1" / "groundtruth.txt").write_text("4,6,8,10\n" * number)
    return root


def test_own_videos_in_the_layout_of_lasot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = own_videos(tmp_path / "videos", clip=3, walk=2)
    assert LaSOT(root).names == ["clip-1", "walk-1"]
    assert caplog.messages == [f"LaSOT: {root} has no sequence of the official splits; using the 2 sequences in it."]
    assert LaSOT(root, "test").names == official_testing_set()
    own_videos(root, dog=2)  # dog-1 is a training sequence of LaSOT
    assert "walk-1" not in LaSOT(root).names
    (root / "training_set.txt").write_text("walk-1\ndog-1\n")
    assert LaSOT(root).names == ["walk-1", "dog-1"]


def test_videos_that_are_too_short_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = own_videos(tmp_path / "videos", clip=20, walk=12, jump=19)
    assert PairSource(LaSOT(root), tmp_path).sequences.tolist() == [0]
    assert f"LaSOT: 2 of 3 sequences in {root} are shorter than 20 frames and not used" in caplog.text
    caplog.clear()
    assert len(PairSource(LaSOT(root), tmp_path, min_frames=12).sequences) == 3
    assert "not used" not in caplog.text


def test_benchmarks_are_no_own_videos(tmp_path: Path) -> None:
    root = own_videos(tmp_path / "extension", atv=2, walk=2)
    assert "walk-1" not in LaSOT(root).names
    root = own_videos(tmp_path / "videos", clip=2, walk=2)
    (root / "testing_set.txt").write_text("walk-1\n")
    assert LaSOT(root).names == ["clip-1"]
    (root / "testing_set.txt").write_text("walk-1\nclip-1\n")
    assert LaSOT(root).names == official_training_set()


@pytest.mark.parametrize("size", [{"width": None}, {"width": None, "height": None}])
def test_a_coco_file_without_sizes(tmp_path: Path, size: dict[str, None]) -> None:
    write_export(tmp_path, "result.json", "images/a.png", bbox=[20.0, 20.0, 30.0, 23.0])
    content = json.loads((tmp_path / "result.json").read_text())
    content["images"][0] |= size
    (tmp_path / "result.json").write_text(json.dumps(content))
    reader = COCO(tmp_path, annotations="result.json", images="images", masks=False)
    assert [record.boxes_xywh.tolist() for record in reader.records()] == [[[20, 20, 30, 23]]]
    assert not reader.part_files("0").sizes


def test_got10k_is_known_by_its_labels_or_names(tmp_path: Path) -> None:
    for name, label in (("a", "absence.label"), ("GOT-10k_Val_000001", None), ("b", None)):
        folder = tmp_path / name / "val" / name
        write_frames(folder)
        write_boxes(folder / "groundtruth.txt")
        if label:
            (folder / label).write_text("0")
        assert GOT10k.fits(tmp_path / name) == (name != "b")
