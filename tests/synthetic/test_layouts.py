from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as run_length

from alpharefine.data.coco import COCO, decode_mask
from alpharefine.data.got10k import GOT10k
from alpharefine.data.images import box_of_mask, read_image, read_label_image
from alpharefine.data.lasot import LaSOT
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.errors import UserError
from alpharefine.synthetic import (
    generate_image,
    generate_sequence,
    write_coco,
    write_got10k,
    write_lasot,
    write_mask_video,
    write_saliency,
)
from alpharefine.synthetic.__main__ import main

SIZE = (96, 128)
TINY = (64, 80)


@pytest.fixture(scope="module")
def coco_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "coco"
    write_coco(root, num_train=12, num_val=3, frame_size=(120, 160), seed=4)
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


class TestLaSOT:
    @pytest.mark.parametrize("flat", [False, True], ids=["by class", "flat"])
    def test_the_reader_finds_what_was_generated(self, tmp_path, flat) -> None:
        root = tmp_path / "lasot"
        write_lasot(root, num_train=5, num_test=2, num_frames=24, frame_size=SIZE, seed=1, flat=flat)
        train, test = LaSOT(root, "train"), LaSOT(root, "test")
        assert train.names == ["ellipse-1", "polygon-2", "blob-3", "rectangle-4", "ellipse-5"]
        assert test.names == ["polygon-6", "blob-7"]
        assert (root / ("blob-3" if flat else "blob/blob-3")).is_dir()
        for index, record in enumerate([*train.records(), *test.records()]):
            sequence = generate_sequence(1, index, 24, SIZE)
            np.testing.assert_allclose(record.boxes_xywh, sequence.boxes_xywh, atol=0.005)
            assert record.frame_names == [f"{i:08d}.jpg" for i in range(1, 25)]
            assert np.array_equal(record.visible, ~(sequence.full_occlusion | sequence.out_of_view))
        last = read_image(test.frame_path("blob-7", "00000024.jpg")).astype(int)
        assert np.abs(last - sequence.frames[-1]).mean() < 6

    def test_absent_targets_are_flagged(self, tmp_path) -> None:
        index = next(i for i in range(40) if generate_sequence(0, i, 30, TINY).out_of_view.any())
        write_lasot(tmp_path / "lasot", num_train=index + 1, num_test=0, num_frames=30, frame_size=TINY)
        folder = LaSOT(tmp_path / "lasot").folder(generate_sequence(0, index, 1, TINY).name)
        gone = np.array((folder / "out_of_view.txt").read_text().strip().split(",")) == "1"
        rows = (folder / "groundtruth.txt").read_text().split()
        assert gone.any()
        assert {row for row, absent in zip(rows, gone, strict=True) if absent} == {"0.00,0.00,0.00,0.00"}

    def test_sequences_hold_the_files_of_the_real_data_set(self, tmp_path, shared) -> None:
        write_lasot(tmp_path / "lasot", num_train=1, num_test=0, num_frames=1, frame_size=TINY)
        write_got10k(tmp_path / "got10k", num_sequences=1, num_frames=1, frame_size=TINY)
        made, real = tmp_path / "lasot/ellipse/ellipse-1", shared / "data" / "lasot/car1/car1-1"
        assert {p.name for p in made.iterdir()} == {p.name for p in real.iterdir()}
        name = "train/GOT-10k_Train_000001"
        of_real = {p.name for p in (shared / "data" / "got10k" / name).iterdir() if p.suffix != ".jpg"}
        assert {p.name for p in (tmp_path / "got10k" / name).iterdir() if p.suffix != ".jpg"} == of_real


class TestGOT10k:
    def test_the_reader_finds_what_was_generated(self, tmp_path) -> None:
        write_got10k(tmp_path / "got10k", num_sequences=3, num_frames=24, frame_size=SIZE, seed=2)
        reader = GOT10k(tmp_path / "got10k")
        assert reader.names == [f"GOT-10k_Train_{i:06d}" for i in (1, 2, 3)]
        for index, record in enumerate(reader.records()):
            sequence = generate_sequence(2, 1_000_000 + index, 24, SIZE)
            np.testing.assert_allclose(record.boxes_xywh, sequence.boxes_xywh, atol=5e-5)
            assert len(record.frame_names) == 24
            folder = tmp_path / "got10k/train" / record.name
            cover = np.loadtxt(folder / "cover.label", dtype=int)
            cut = np.loadtxt(folder / "cut_by_image.label", dtype=int)
            assert cover[0] == 8
            assert np.abs(cover / 8 - sequence.visible_ratio).max() <= 1 / 16
            assert np.array_equal(cut == 1, sequence.cut_by_image)
            meta = (folder / "meta_info.ini").read_text()
            assert f"object_class: {sequence.shape}\n" in meta
            assert "resolution: (128, 96)\n" in meta

    def test_no_sequence_is_shared_with_lasot(self, tmp_path) -> None:
        write_got10k(tmp_path / "got10k", num_sequences=1, num_frames=2, frame_size=TINY)
        write_lasot(tmp_path / "lasot", num_train=1, num_test=0, num_frames=2, frame_size=TINY)
        ours = (tmp_path / "got10k/train/GOT-10k_Train_000001/00000001.jpg").read_bytes()
        assert ours != (tmp_path / "lasot/ellipse/ellipse-1/img/00000001.jpg").read_bytes()


@pytest.mark.filterwarnings(
    # pycocotools 2.0.11 has an __array__ without the `copy` argument that numpy 2 asks for.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
class TestCOCO:
    def annotations(self, root: Path, split: str) -> list[dict]:
        return json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())["annotations"]

    def test_polygons_run_lengths_and_crowds_occur(self, coco_root) -> None:
        every = self.annotations(coco_root, "train")
        plain = [a["segmentation"] for a in every if not a["iscrowd"]]
        crowds = [a["segmentation"] for a in every if a["iscrowd"]]
        assert sum(isinstance(s, list) for s in plain) > len(plain) / 2
        assert any(isinstance(s, dict) and isinstance(s["counts"], str) for s in plain)
        assert crowds
        assert all(isinstance(s["counts"], list) for s in crowds)

    def test_the_reader_finds_the_masks_that_were_generated(self, coco_root) -> None:
        records = list(COCO(coco_root, "train").records()) + list(COCO(coco_root, "val").records())
        assert len(records) > 30
        worst = 1.0
        for record in records:
            _, masks = generate_image(4, int(record.frame_names[0][:-4]) - 1, (120, 160))
            mask = masks[int(record.name) % 100]
            decoded = decode_mask(record.masks[0], (120, 160))
            worst = min(worst, (decoded & mask).sum() / (decoded | mask).sum())
            assert record.boxes_xywh[0].tolist() == box_of_mask(mask).tolist()
        assert worst > 0.99

    def test_crowds_join_the_last_two_objects(self, coco_root) -> None:
        crowd = next(a for a in self.annotations(coco_root, "train") if a["iscrowd"])
        _, masks = generate_image(4, crowd["image_id"] - 1, (120, 160))
        decoded = run_length.decode(run_length.frPyObjects(crowd["segmentation"], 120, 160))
        assert np.array_equal(decoded, masks[-1] | masks[-2])
        assert crowd["area"] == decoded.sum()

    def test_splits_share_no_image_and_no_id(self, coco_root) -> None:
        train, val = (
            json.loads((coco_root / f"annotations/instances_{s}2017.json").read_text()) for s in ("train", "val")
        )
        for kind in ("images", "annotations"):
            ids = [each["id"] for each in train[kind] + val[kind]]
            assert len(set(ids)) == len(ids)
        assert sorted(p.name for p in (coco_root / "val2017").iterdir()) == [f"{i:012d}.jpg" for i in (13, 14, 15)]


class TestMasks:
    def test_mask_video(self, tmp_path) -> None:
        write_mask_video(tmp_path / "davis", num_sequences=2, num_frames=4, frame_size=SIZE, seed=5)
        reader = MaskVideo(tmp_path / "davis", min_area=1)
        assert [(r.name, r.frame_names[0], len(r.frame_names)) for r in reader.records()] == [
            ("ellipse-1", "00000", 4),
            ("polygon-2", "00000", 4),
        ]
        sequence = generate_sequence(5, 2_000_001, 4, SIZE)
        assert np.array_equal(read_label_image(reader.mask_path("polygon-2", "00003")), sequence.masks[3])
        stored = cv2.imread(str(reader.mask_path("polygon-2", "00003")), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(stored)) == {0, 255}

    def test_saliency(self, tmp_path) -> None:
        write_saliency(tmp_path / "ecssd", num_images=3, frame_size=SIZE, seed=6)
        reader = Saliency(tmp_path / "ecssd", min_area=1)
        records = list(reader.records())
        assert [r.name for r in records] == ["0001", "0002", "0003"]
        assert records[2].boxes_xywh.tolist() == generate_sequence(6, 3_000_002, 1, SIZE).boxes_xywh.tolist()


class TestWriting:
    def test_files_do_not_depend_on_the_number_of_processes(self, tmp_path) -> None:
        for name, num_workers in (("one", 1), ("two", 2)):
            write_lasot(tmp_path / name, 3, 1, num_frames=3, frame_size=TINY, num_workers=num_workers)
        assert files_of(tmp_path / "one") == files_of(tmp_path / "two")

    def test_an_error_leaves_nothing_behind(self, tmp_path, monkeypatch) -> None:
        written = []
        monkeypatch.setattr(cv2, "imwrite", lambda path, *_: written.append(path) or len(written) < 5)
        with pytest.raises(UserError, match=r"00000002\.jpg: cannot write this image"):
            write_lasot(tmp_path / "lasot", 3, 1, num_frames=3, frame_size=TINY)
        assert len(written) == 5
        assert list(tmp_path.iterdir()) == []

    def test_an_error_in_another_process_arrives_and_leaves_nothing_behind(self, tmp_path) -> None:
        with pytest.raises(UserError, match="must be at least 48, got 8"):
            write_saliency(tmp_path / "ecssd", 2, frame_size=(8, 8), num_workers=2)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match="must be an empty folder or not exist"):
            write_saliency(tmp_path, 1, frame_size=TINY)
        assert files_of(tmp_path) == {"notes.txt": b"mine"}

    def test_an_empty_folder_is_filled(self, tmp_path) -> None:
        root = tmp_path / "ecssd"
        root.mkdir()
        write_saliency(root, 1, frame_size=TINY)
        assert sorted(files_of(root)) == ["ground_truth_mask/0001.png", "images/0001.jpg"]
        assert list(tmp_path.iterdir()) == [root]

    @pytest.mark.parametrize(
        ("write", "counts"),
        [
            (write_lasot, {"num_test": -1}),
            (write_got10k, {"num_sequences": 0}),
            (write_coco, {"num_val": -1}),
            (write_mask_video, {"num_sequences": 0}),
            (write_saliency, {"num_images": 0}),
            (write_saliency, {"num_workers": 0}),
        ],
    )
    def test_counts_out_of_range(self, tmp_path, write, counts) -> None:
        with pytest.raises(UserError, match=f"`{next(iter(counts))}` must be at least"):
            write(tmp_path / "root", **counts)
        assert list(tmp_path.iterdir()) == []


class TestCommand:
    ONE_OF_EACH = (
        *("--lasot_train=1", "--lasot_test=1", "--got10k=1", "--coco=1", "--coco_val=1", "--davis=1", "--ecssd=1"),
        *("--frames=2", "--num_workers=1", "--frame_size=[48,64]"),
    )

    def test_all_data_sets(self, tmp_path, capsys) -> None:
        assert main([str(tmp_path / "data"), *self.ONE_OF_EACH]) == 0
        assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
            "coco",
            "davis2016",
            "ecssd",
            "got10k",
            "lasot",
        ]
        assert "LaSOT: 100%" in capsys.readouterr().err

    def test_a_count_of_zero_leaves_a_data_set_out(self, tmp_path) -> None:
        zeros = [f"--{name}=0" for name in ("lasot_train", "lasot_test", "got10k", "coco", "coco_val", "davis")]
        assert main([str(tmp_path), *zeros, "--ecssd=1", "--num_workers=1", "--frame_size=[48,64]"]) == 0
        assert [p.name for p in tmp_path.iterdir()] == ["ecssd"]

    def test_videos_of_photographs_on_request(self, tmp_path) -> None:
        zeros = [
            f"--{name}=0" for name in ("lasot_train", "lasot_test", "got10k", "coco", "coco_val", "davis", "ecssd")
        ]
        assert main([str(tmp_path), *zeros, "--photos=2", "--frames=2", "--num_workers=1", "--frame_size=[48,64]"]) == 0
        assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "photos_train"]
        assert LaSOT(tmp_path / "photos", "test").names == ["astronaut-1", "coffee-2"]
        assert len(list(MaskVideo(tmp_path / "photos_train").records())) == 2

    def test_a_mistake_is_one_line_and_exit_code_2(self, tmp_path, capsys) -> None:
        (tmp_path / "ecssd").mkdir()
        (tmp_path / "ecssd" / "mine").touch()
        assert main([str(tmp_path), *self.ONE_OF_EACH]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert [p.name for p in tmp_path.iterdir()] == ["ecssd"]
