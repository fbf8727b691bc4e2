from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_length

from alpharefine.data.coco import COCO, decode_mask
from alpharefine.data.got10k import GOT10k
from alpharefine.data.images import read_image, read_label_image
from alpharefine.data.lasot import LaSOT, official_testing_set, official_training_set
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.data.reader import Reader, SequenceRecord
from alpharefine.errors import UserError
from alpharefine.notes import note

SIZE = (24, 32)


def write_frame(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))


def write_palette(path: Path, label: np.ndarray) -> None:
    """Write a palette PNG in which two colors have the same gray value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label.astype(np.uint8)).convert("P")
    image.putdata(label.ravel().tolist())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 65, 0, 200, 200, 200] + [0] * 756)
    image.save(path)


def write_gray(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask.astype(np.uint8) * 255)


def rectangle(x: int, y: int, w: int, h: int, value: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[y : y + h, x : x + w] = value
    return mask


def only(reader: Reader) -> SequenceRecord:
    (record,) = reader.records()
    return record


class TestLaSOT:
    def write(self, folder: Path, rows: str, occluded: str, out_of_view: str) -> None:
        for number in range(1, 5):
            write_frame(folder / "img" / f"{number:08d}.jpg")
        (folder / "groundtruth.txt").write_text(rows)
        (folder / "full_occlusion.txt").write_text(occluded)
        (folder / "out_of_view.txt").write_text(out_of_view)

    @pytest.mark.parametrize("folder", ["cat/cat-1", "cat-1"], ids=["nested", "flat"])
    def test_what_counts_as_visible(self, tmp_path: Path, folder: str) -> None:
        self.write(tmp_path / folder, "1,2,3,4\n5,6,7,8\n9,9,0,3\n2.5,3,4,5\n", "0,1,0,0", "0,0,0,1")
        (tmp_path / "testing_set.txt").write_text("cat-1\n")
        reader = LaSOT(tmp_path, "test")
        record = only(reader)
        assert record.name == "cat-1"
        assert record.boxes_xywh.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 0, 3], [2.5, 3, 4, 5]]
        assert record.visible.tolist() == [True, False, False, False]
        assert record.times.tolist() == [0, 1, 2, 3]
        assert reader.frame_path("cat-1", "00000004.jpg") == tmp_path / folder / "img/00000004.jpg"
        assert reader.read("cat-1")[2].tolist() == [False, True, False, True]

    def test_a_first_frame_without_target_is_read(self, tmp_path: Path) -> None:
        self.write(tmp_path / "cat-1", "0,0,0,0\n5,6,7,8\n9,9,3,3\n2,3,4,5\n", "0,0,0,0", "1,0,0,0")
        (tmp_path / "training_set.txt").write_text("cat-1\n")
        assert only(LaSOT(tmp_path)).visible.tolist() == [False, True, True, True]

    def test_the_official_protocol(self) -> None:
        train, test = official_training_set(), official_testing_set()
        assert (len(set(train)), len(set(test))) == (1120, 280) == (len(train), len(test))
        assert not set(train) & set(test)
        classes = {name.rpartition("-")[0] for name in train + test}
        assert len(classes) == 70
        assert Counter(name.rpartition("-")[0] for name in train) == dict.fromkeys(classes, 16)
        assert Counter(name.rpartition("-")[0] for name in test) == dict.fromkeys(classes, 4)
        assert set(train + test) == {f"{c}-{n}" for c in classes for n in range(1, 21)}

    def test_the_official_lists_stand_in_for_missing_ones(self, tmp_path: Path) -> None:
        assert LaSOT(tmp_path, "train").names == official_training_set()
        assert LaSOT(tmp_path, "test").names == official_testing_set()

    @pytest.mark.parity
    def test_the_toolkits_testing_set(self, shared: Path) -> None:
        with tarfile.open(shared / "lasot" / "annos_test280.tar.xz") as archive:
            member = next(m for m in archive if m.name.endswith("testing_set.txt"))
            names = archive.extractfile(member)
            assert names is not None
            assert sorted(official_testing_set()) == sorted(names.read().decode().split())

    @pytest.mark.parity
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_real_sequences(self, shared: Path, split: str) -> None:
        root = shared / "data" / "lasot"
        records = list(LaSOT(root, split).records())
        assert [r.name for r in records] == (root / f"{split}ing_set.txt").read_text().split()
        for record in records:
            folder = root / record.name.rpartition("-")[0] / record.name
            boxes_xywh = np.loadtxt(folder / "groundtruth.txt", delimiter=",", ndmin=2)
            absent = sum(np.loadtxt(folder / f, delimiter=",") for f in ("full_occlusion.txt", "out_of_view.txt")) > 0
            np.testing.assert_array_equal(record.boxes_xywh, boxes_xywh)
            assert record.visible.sum() == (~absent & (boxes_xywh[:, 2] > 0) & (boxes_xywh[:, 3] > 0)).sum()
            assert len(record.frame_names) == len(list((folder / "img").iterdir()))
        assert sum(len(r.frame_names) for r in records) == {"train": 400, "test": 1293}[split]


class TestGOT10k:
    def write(self, folder: Path, absence: str, cover: str) -> None:
        for number in range(1, 5):
            write_frame(folder / f"{number:08d}.jpg")
        (folder / "groundtruth.txt").write_text("1,2,3,4\n5,6,7,8\n9,9,3,3\n2,3,0,5\n")
        (folder / "absence.label").write_text(absence)
        (folder / "cover.label").write_text(cover)
        (folder.parent / "list.txt").write_text(f"{folder.name}\n")

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_what_counts_as_visible(self, tmp_path: Path, split: str) -> None:
        self.write(tmp_path / split / "a", "0\n1\n0\n0\n", "1\n8\n0\n8\n")
        for root in (tmp_path, tmp_path / split):
            reader = GOT10k(root, split)
            record = only(reader)
            assert record.visible.tolist() == [True, False, False, False]
            assert record.frame_names == [f"{i:08d}.jpg" for i in range(1, 5)]
            assert reader.frame_path("a", "00000001.jpg") == tmp_path / split / "a/00000001.jpg"

    def names(self, tmp_path: Path, num_names: int) -> dict[str, list[str]]:
        (tmp_path / "train").mkdir(exist_ok=True)
        names = [f"GOT-10k_Train_{i:06d}" for i in range(1, num_names + 1)]
        (tmp_path / "train" / "list.txt").write_text("\n".join(names))
        return {split: GOT10k(tmp_path, split).names for split in ("train", "train_without_holdout", "holdout")}

    @pytest.mark.parametrize(
        ("num_names", "num_holdout"), [(9335, 1401), (180, 27), (100, 15), (31, 5), (20, 3), (7, 2), (2, 1)]
    )
    def test_holdout_and_rest_partition_the_training_set(
        self, tmp_path: Path, num_names: int, num_holdout: int
    ) -> None:
        names = self.names(tmp_path, num_names)
        assert len(names["holdout"]) == num_holdout
        assert len(names["train_without_holdout"]) == num_names - num_holdout
        assert sorted(names["train_without_holdout"] + names["holdout"]) == names["train"]
        assert names["train_without_holdout"] == sorted(names["train_without_holdout"])
        assert self.names(tmp_path, num_names) == names

    def test_the_holdout_is_that_of_every_release(self, tmp_path: Path) -> None:
        assert [name[-2:] for name in self.names(tmp_path, 31)["holdout"]] == ["01", "06", "12", "22", "24"]

    def test_the_holdout_is_spread_over_the_list(self, tmp_path: Path) -> None:
        names = self.names(tmp_path, 9335)
        numbers = np.array([int(name[-6:]) for name in names["holdout"]])
        assert (np.histogram(numbers, bins=10, range=(1, 9336))[0] > 90).all()

    @pytest.mark.parity
    def test_real_sequences(self, shared: Path) -> None:
        root = shared / "data" / "got10k"
        records = list(GOT10k(root).records())
        assert len(records) == 31
        for record in records:
            folder = root / "train" / record.name
            boxes_xywh = np.loadtxt(folder / "groundtruth.txt", delimiter=",")
            absent, cover = np.loadtxt(folder / "absence.label"), np.loadtxt(folder / "cover.label")
            assert (
                record.visible.tolist() == ((absent == 0) & (cover > 0) & (boxes_xywh[:, 2:] > 0).all(axis=1)).tolist()
            )
            assert len(record.frame_names) == len(list(folder.glob("*.jpg")))


CROWD = {"counts": [0, 24 * 32], "size": list(SIZE)}


class TestCOCO:
    def write(self, root: Path, segmentations: list[object], split: str = "train2017", prefix: str = "") -> None:
        """Write images of one object each. `CROWD` segmentations are crowds."""
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        images = [
            {"id": 7 + i, "file_name": f"{prefix}{7 + i:012d}.jpg", "height": SIZE[0], "width": SIZE[1]}
            for i in range(len(segmentations))
        ]
        annotations = [
            {
                "id": 100 + i,
                "image_id": 7 + i,
                "bbox": [4, 6, 8, 10],
                "segmentation": segmentation,
                "iscrowd": int(segmentation is CROWD),
            }
            for i, segmentation in enumerate(segmentations)
        ]
        for image in images:
            write_frame(root / split / image["file_name"])
        content = {"images": images, "annotations": annotations}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))

    def segmentations(self) -> list[object]:
        mask = rectangle(4, 6, 8, 10)
        flat = np.concatenate([[0], mask.ravel(order="F"), [0]])
        starts, ends = np.flatnonzero(np.diff(flat) == 1), np.flatnonzero(np.diff(flat) == -1)
        edges = np.stack([starts, ends], axis=1).ravel()
        counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
        compressed = run_length.encode(np.asfortranarray(mask))["counts"].decode()
        return [
            [[4, 6, 12, 6, 12, 16, 4, 16]],
            [[4, 6, 8, 6, 8, 16, 4, 16], [8, 6, 12, 6, 12, 16, 8, 16]],
            [[4, 6, 12, 6, 12, 16, 4, 16], [1, 1, 30, 20]],
            {"counts": compressed, "size": list(SIZE)},
            {"counts": counts, "size": list(SIZE)},
        ]

    def test_every_form_of_mask(self, tmp_path: Path) -> None:
        self.write(tmp_path, [*self.segmentations(), CROWD])
        records = list(COCO(tmp_path).records())
        assert [r.name for r in records] == ["100", "101", "102", "103", "104"]
        for record in records:
            assert record.boxes_xywh.tolist() == [[4, 6, 8, 10]]
            assert record.visible.tolist() == [True]
            assert record.mask_sizes.tolist() == [list(SIZE)]
            assert record.masks is not None
            mask = decode_mask(record.masks[0], SIZE)
            assert mask.dtype == np.uint8
            assert np.array_equal(mask, rectangle(4, 6, 8, 10))

    @pytest.mark.parametrize("segmentation", [[], [[]], [[1, 1, 9, 9]]], ids=["nothing", "no point", "a line"])
    def test_an_object_without_mask_is_not_visible(self, tmp_path: Path, segmentation: object) -> None:
        self.write(tmp_path, [segmentation])
        record = only(COCO(tmp_path))
        assert record.visible.tolist() == [False]
        assert record.masks is not None
        assert not decode_mask(record.masks[0], SIZE).any()

    def test_an_object_without_box_is_not_visible(self, tmp_path: Path) -> None:
        self.write(tmp_path, self.segmentations()[:1])
        file = tmp_path / "annotations/instances_train2017.json"
        file.write_text(file.read_text().replace("[4, 6, 8, 10]", "[4, 6, 0, 10]"))
        assert only(COCO(tmp_path)).visible.tolist() == [False]

    def test_years_and_splits(self, tmp_path: Path) -> None:
        for year, prefix in ((2017, ""), (2014, "COCO_{}2014_")):
            for split in ("train", "val"):
                self.write(tmp_path, self.segmentations()[:1], f"{split}{year}", prefix.format(split))
                reader = COCO(tmp_path, split, year)
                record = only(reader)
                expected = tmp_path / f"{split}{year}" / f"{prefix.format(split)}000000000007.jpg"
                assert reader.frame_path(record.name, record.frame_names[0]) == expected
                assert read_image(expected).shape == (*SIZE, 3)

    @pytest.mark.parity
    @pytest.mark.parametrize(("split", "num_objects"), [("train", 1394), ("val", 377)])
    def test_real_images(self, shared: Path, split: str, num_objects: int) -> None:
        reader = COCO(shared / "data" / "coco", split)
        content = json.loads(reader.annotation_file.read_text())
        annotations = {str(a["id"]): a for a in content["annotations"] if not a["iscrowd"]}
        records = list(reader.records())
        assert len(records) == len(annotations) == num_objects
        differing = 0
        for record in records:
            annotation = annotations[record.name]
            assert record.boxes_xywh.tolist() == [annotation["bbox"]]
            assert record.masks is not None
            area = decode_mask(record.masks[0], tuple(record.mask_sizes[0].tolist())).sum()
            differing += bool(abs(area - annotation["area"]) > 0.05 * annotation["area"] + 20)
        assert differing < 0.02 * num_objects


class TestMaskVideo:
    def test_gray_masks_hold_one_object(self, tmp_path: Path) -> None:
        masks = [rectangle(2, 3, 12, 10), rectangle(4, 3, 12, 10), rectangle(4, 3, 3, 3), rectangle(0, 0, 0, 0)]
        for i, mask in enumerate(masks):
            write_frame(tmp_path / f"JPEGImages/480p/cow/{i:05d}.jpg")
            write_gray(tmp_path / f"Annotations/480p/cow/{i:05d}.png", mask)
        record = only(MaskVideo(tmp_path))
        assert (record.name, record.object_id) == ("cow", 1)
        assert record.boxes_xywh.tolist() == [[2, 3, 12, 10], [4, 3, 12, 10], [4, 3, 3, 3], [0, 0, 0, 0]]
        assert record.visible.tolist() == [True, True, False, False]
        assert only(MaskVideo(tmp_path, min_area=9)).visible.tolist() == [True, True, True, False]
        assert only(MaskVideo(tmp_path, min_area=121)).visible.tolist() == [False] * 4

    def test_palette_masks_hold_several_objects(self, tmp_path: Path) -> None:
        for i in range(2):
            write_frame(tmp_path / f"JPEGImages/480p/cow/{i:05d}.jpg")
        both = np.maximum(rectangle(2, 3, 10, 10), rectangle(15, 4, 11, 12, value=2))
        write_palette(tmp_path / "Annotations/480p/cow/00000.png", both)
        write_palette(tmp_path / "Annotations/480p/cow/00001.png", rectangle(16, 4, 11, 12, value=2))
        reader = MaskVideo(tmp_path)
        first, second = reader.records()
        assert (first.name, first.object_id, second.name, second.object_id) == ("cow", 1, "cow", 2)
        assert first.boxes_xywh.tolist() == [[2, 3, 10, 10], [0, 0, 0, 0]]
        assert first.visible.tolist() == [True, False]
        assert second.boxes_xywh.tolist() == [[15, 4, 11, 12], [16, 4, 11, 12]]
        assert np.array_equal(read_label_image(reader.mask_path("cow", "00000")), both)

    def test_youtube_vos_keeps_frame_numbers(self, tmp_path: Path) -> None:
        for number in range(0, 100, 5):
            write_frame(tmp_path / f"JPEGImages/0a1b/{number:05d}.jpg")
            if number % 25 == 0:
                write_palette(tmp_path / f"Annotations/0a1b/{number:05d}.png", rectangle(2, 3, 12, 10))
        record = only(MaskVideo(tmp_path))
        assert record.frame_names == ["00000", "00025", "00050", "00075"]
        assert record.times.tolist() == [0, 25, 50, 75]
        assert MaskVideo(tmp_path).frame_path("0a1b", "00025") == tmp_path / "JPEGImages/0a1b/00025.jpg"

    def test_frames_without_numbers_are_counted(self, tmp_path: Path) -> None:
        for stem in ("c", "a", "b"):
            write_frame(tmp_path / f"JPEGImages/cow/{stem}.jpg")
            write_gray(tmp_path / f"Annotations/cow/{stem}.png", rectangle(2, 3, 12, 10))
        assert only(MaskVideo(tmp_path)).times.tolist() == [0, 1, 2]

    @pytest.mark.parity
    def test_real_sequences(self, shared: Path) -> None:
        root = shared / "data" / "davis2016"
        records = {r.name: r for r in MaskVideo(root).records()}
        assert len(records) == 14
        record = records["blackswan"]
        assert len(record.frame_names) == len(list((root / "JPEGImages/480p/blackswan").iterdir()))
        mask = cv2.imread(str(root / "Annotations/480p/blackswan/00003.png"), cv2.IMREAD_GRAYSCALE)
        assert record.boxes_xywh[3].tolist() == list(cv2.boundingRect(mask))


class TestSaliency:
    @pytest.mark.parametrize("folder", ["gt", "ground_truth_mask", "masks"])
    def test_names_of_the_masks_folder(self, tmp_path: Path, folder: str) -> None:
        for stem, size in (("0001", 12), ("0002", 5)):
            write_frame(tmp_path / f"images/{stem}.jpg")
            write_gray(tmp_path / folder / f"{stem}.png", rectangle(3, 2, size, size))
        reader = Saliency(tmp_path)
        first, second = reader.records()
        assert first.boxes_xywh.tolist() == [[3, 2, 12, 12]]
        assert (first.visible.tolist(), second.visible.tolist()) == ([True], [False])
        assert reader.mask_path("0001", "0001") == tmp_path / folder / "0001.png"
        assert reader.frame_path("0001", "0001") == tmp_path / "images/0001.jpg"

    @pytest.mark.parametrize(
        ("images", "masks"), [("DUTS-TR-Image", "DUTS-TR-Mask"), ("Imgs", "Imgs")], ids=["DUTS", "MSRA10K"]
    )
    def test_folders_of_other_names(self, tmp_path: Path, images: str, masks: str) -> None:
        write_frame(tmp_path / images / "a.jpg")
        write_gray(tmp_path / masks / "a.png", rectangle(3, 2, 12, 12))
        reader = Saliency(tmp_path, images=images, masks=masks)
        assert only(reader).boxes_xywh.tolist() == [[3, 2, 12, 12]]
        assert reader.frame_path("a", "a").is_file()
        assert reader.mask_path("a", "a").is_file()
        with pytest.raises(UserError, match="must contain a mask folder nothing; set its name with `masks`"):
            Saliency(tmp_path, images=images, masks="nothing")

    def test_every_label_of_a_palette_mask_is_the_object(self, tmp_path: Path) -> None:
        write_frame(tmp_path / "images/a.jpg")
        write_palette(tmp_path / "gt/a.png", np.maximum(rectangle(3, 2, 12, 12, 2), rectangle(3, 2, 5, 5, 3)))
        record = only(Saliency(tmp_path))
        assert record.object_id == 0
        assert record.boxes_xywh.tolist() == [[3, 2, 12, 12]]
        assert record.visible.tolist() == [True]

    @pytest.mark.parity
    def test_real_images(self, shared: Path) -> None:
        root = shared / "data" / "ecssd"
        records = list(Saliency(root).records())
        assert len(records) == 200
        assert all(r.visible.all() for r in records)
        mask = cv2.imread(str(root / "ground_truth_mask" / f"{records[9].name}.png"), cv2.IMREAD_GRAYSCALE)
        assert records[9].boxes_xywh[0].tolist() == list(cv2.boundingRect((mask > 127).astype(np.uint8)))


class TestImages:
    def test_red_is_first(self, tmp_path: Path) -> None:
        Image.new("RGB", (9, 7), (250, 10, 20)).save(tmp_path / "red.png")
        image = read_image(tmp_path / "red.png")
        assert image.shape == (7, 9, 3)
        assert image[3, 4].tolist() == [250, 10, 20]

    def test_a_gray_image_has_three_channels(self, tmp_path: Path) -> None:
        Image.new("L", (9, 7), 80).save(tmp_path / "gray.png")
        assert read_image(tmp_path / "gray.png").tolist() == np.full((7, 9, 3), 80).tolist()

    def test_an_image_is_not_rotated_for_display(self, tmp_path: Path) -> None:
        rotated = Image.Exif()
        rotated[0x112] = 6
        Image.new("RGB", (9, 7)).save(tmp_path / "camera.jpg", exif=rotated)
        assert read_image(tmp_path / "camera.jpg").shape == (7, 9, 3)

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
    def test_masks_of_any_mode_are_cut_at_half_gray(self, tmp_path: Path, mode: str) -> None:
        gray = Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
        (gray.point(lambda v: 255 * (v > 127)) if mode == "1" else gray).convert(mode).save(tmp_path / "mask.png")
        assert read_label_image(tmp_path / "mask.png").tolist() == [[0, 0, 1, 1]]


def test_a_split_folder_of_got10k_is_not_taken_for_another_split(data_root: Path) -> None:
    folder = data_root / "got10k" / "train"
    assert GOT10k(folder, "train_without_holdout").names == GOT10k(data_root / "got10k", "train_without_holdout").names
    with pytest.raises(
        UserError, match=r"GOT-10k: .*got10k/train is not the folder of split `val`; give its parent folder"
    ):
        GOT10k(folder, "val")


def test_gray_labels_are_not_taken_for_shades(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 0]], dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "gray.png"), labels)
    with pytest.raises(
        UserError, match=r"gray\.png: a grayscale mask must be brighter than 127 .* its maximum is 2; save"
    ):
        read_label_image(tmp_path / "gray.png")
    cv2.imwrite(str(tmp_path / "black.png"), 0 * labels)
    assert read_label_image(tmp_path / "black.png").tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_only_the_first_process_prints_a_note(
    variable: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for process in ("1", "0", "0"):
        monkeypatch.setenv(variable, process)
        note(f"{variable}: a remark.")
        assert len(caplog.messages) == (process == "0")
