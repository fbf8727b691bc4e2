"""Readers of ImageNet VID, ImageNet DET and TrackingNet on small trees in the official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.imagenet import ImageNetDET, ImageNetVID
from alpharefine.data.index import open_index
from alpharefine.data.pairs import PairDataset, PairSource
from alpharefine.data.reader import Reader
from alpharefine.data.trackingnet import TrackingNet
from alpharefine.errors import UserError
from tests.data.imagenet_trees import SIZE, Annotated, write_annotation, write_image


@pytest.fixture
def vid(tmp_path: Path) -> Path:
    """A video of 24 frames. Track 0 is present throughout and occluded in frame 3. Track 2 has a gap after frame 5."""
    root, video = tmp_path / "vid", "ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000"
    for i in range(24):
        objects: list[Annotated] = [(0, (10 + i, 5, 29 + i, 44), i == 3)]
        if 2 <= i <= 5 or i >= 8:
            objects.append((2, (1, 2, 10, 20), False))
        if i == 0:
            objects.append((3, (0, 0, SIZE[1] - 1, SIZE[0] - 1), False))
        write_annotation(root / f"Annotations/VID/train/{video}/{i:06d}.xml", objects, video=True)
        write_image(root / f"Data/VID/train/{video}/{i:06d}.JPEG", 10 * i)
    return root


@pytest.fixture
def det(tmp_path: Path) -> Path:
    """Images of one part with class folders and one without."""
    root = tmp_path / "det"
    for name, objects in {
        "ILSVRC2013_train/n01/n01_7": [(0, (3, 4, 22, 33), False)],
        "ILSVRC2014_train_0000/ILSVRC2014_train_00000001": [(0, (0, 0, 9, 19), False), (0, (40, 30, 59, 49), False)],
        "ILSVRC2014_train_0000/ILSVRC2014_train_00000002": [(0, (0, 0, SIZE[1] - 1, SIZE[0] - 1), False)],
    }.items():
        write_annotation(root / f"Annotations/DET/train/{name}.xml", objects, video=False)
        write_image(root / f"Data/DET/train/{name}.JPEG")
    return root


@pytest.fixture
def trackingnet(tmp_path: Path) -> Path:
    root = tmp_path / "trackingnet"
    for part, name in ((0, "aaa_0"), (10, "bbb_0"), (2, "ccc_0")):
        for i in range(24):
            write_image(root / f"TRAIN_{part}/frames/{name}/{i}.jpg", 10 * i)
        rows = "".join(f"{5 + i}.00,6.50,20.00,30.00\n" for i in range(24))
        (root / f"TRAIN_{part}/anno").mkdir()
        (root / f"TRAIN_{part}/anno/{name}.txt").write_text(rows)
    return root


def test_vid_has_a_sequence_a_track_up_to_its_first_gap(vid: Path) -> None:
    first, second = ImageNetVID(vid).records()
    assert (first.object_id, second.object_id) == (1, 3)
    assert first.frame_names == [f"{i:06d}" for i in range(24)]
    np.testing.assert_array_equal(first.boxes_xywh, [[10 + i, 5, 20, 40] for i in range(24)])
    assert np.flatnonzero(~first.visible).tolist() == [3]
    assert second.frame_names == ["000002", "000003", "000004", "000005"]
    assert second.times.tolist() == [2, 3, 4, 5]
    assert second.visible.all()


def test_boxes_end_behind_their_last_pixel(vid: Path, det: Path) -> None:
    """Defect 18: the original code treats the last pixel as the border."""
    assert next(ImageNetVID(vid, inclusive=False).records()).boxes_xywh[0].tolist() == [10, 5, 19, 39]
    assert next(ImageNetDET(det, inclusive=False).records()).boxes_xywh[0].tolist() == [3, 4, 19, 29]


def test_det_has_a_sequence_an_object_wherever_it_lies(det: Path) -> None:
    """Defect 15: the original code multiplies x, y, w and h, and omits most boxes away from the top-left corner."""
    reader = ImageNetDET(det)
    records = list(reader.records())
    assert [record.name for record in records] == ["ILSVRC2013_train/n01", *["ILSVRC2014_train_0000"] * 2]
    boxes = [record.boxes_xywh[0].tolist() for record in records]
    assert boxes == [[3, 4, 20, 30], [0, 0, 10, 20], [40, 30, 20, 20]]
    assert [record.object_id for record in records] == [1, 1, 2]
    assert not reader.is_video


def test_trackingnet_orders_frames_by_number(trackingnet: Path) -> None:
    records = list(TrackingNet(trackingnet).records())
    assert [record.name for record in records] == ["TRAIN_0/aaa_0", "TRAIN_2/ccc_0", "TRAIN_10/bbb_0"]
    assert records[0].frame_names == [str(i) for i in range(24)]
    assert records[0].boxes_xywh[11].tolist() == [16, 6.5, 20, 30]
    assert [record.name for record in TrackingNet(trackingnet, parts=[10]).records()] == ["TRAIN_10/bbb_0"]


@pytest.mark.parametrize("kind", ["vid", "det", "trackingnet"])
def test_pairs_can_be_drawn(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(kind)
    reader: Reader = {"vid": ImageNetVID, "det": ImageNetDET, "trackingnet": TrackingNet}[kind](root)
    index = open_index(reader, tmp_path / "cache")
    for s in range(len(index)):
        for frame in index.frame_names[index.frames(s)]:
            assert reader.frame_path(str(index.names[s]), str(frame)).is_file()
    pair = PairDataset([PairSource(reader, tmp_path / "cache")], [1.0], PairAugmentation(), 4)[0]
    assert pair.search.shape == (3, 256, 256)
    assert not pair.has_mask


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "cannot read this annotation .*; restore it"),
        ("<annotation></annotation>", r"\(element size/width is missing\)"),
        (
            "<annotation><size><width>8</width><height>9</height></size><object/></annotation>",
            "element bndbox/xmin is missing",
        ),
        ("<annotation><size><width>8</width><height>tall</height></size></annotation>", "'tall'"),
    ],
    ids=["cut short", "without a size", "without a box", "a word for a number"],
)
def test_a_bad_annotation_is_named(det: Path, text: str, message: str) -> None:
    (det / "Annotations/DET/train/ILSVRC2013_train/n01/n01_7.xml").write_text(text)
    with pytest.raises(UserError, match=rf"n01_7\.xml: .*{message}"):
        list(ImageNetDET(det).records())


def test_missing_folders_and_frames(trackingnet: Path, vid: Path) -> None:
    with pytest.raises(
        UserError, match=r"TrackingNet: folder .*TRAIN_5/anno does not exist; check the data root, or choose"
    ):
        TrackingNet(trackingnet, parts=[0, 5])
    with pytest.raises(UserError, match=r"TrackingNet: folder .*vid/TRAIN_0/anno does not exist"):
        TrackingNet(vid)
    with pytest.raises(UserError, match=r"ImageNetDET: folder .*vid/Annotations/DET/train does not exist"):
        ImageNetDET(vid)
    (trackingnet / "TRAIN_0/frames/aaa_0/11.jpg").unlink()
    with pytest.raises(UserError, match=r"aaa_0: every frame must have one annotation, found 23 frames, 24 boxes"):
        list(TrackingNet(trackingnet).records())
