"""Options of the refinement in an evaluation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from alpharefine import Refiner
from alpharefine.boxes import is_valid
from alpharefine.data.images import read_image
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from tests.cli.results import folder_of, run, tracker_in

NUM_FRAMES = 6


def test_boxes_of_masks_and_masks_as_pictures(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    command = ("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0])
    out = tmp_path / "out"
    run(*command, "--output_dir", out, "--box_from", "mask", "--mask_threshold", "0.4", "--save_masks")
    masks = [
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        for path in sorted((tracker_in(out) / f"refined/masks/{names[0]}").iterdir())
    ]
    boxes_xywh = read_rows(tracker_in(out) / "refined" / f"{names[0]}.txt")
    assert len(masks) == NUM_FRAMES - 1 == len(boxes_xywh) - 1
    frame = cv2.imread(str(folder_of(root, names[0]) / "img/00000001.jpg"))
    assert all(mask.shape == frame.shape[:2] and set(np.unique(mask)) <= {0, 255} for mask in masks)
    refiner = Refiner.from_checkpoint(checkpoint, device="cpu", box_from="mask", mask_threshold=0.4)
    truth = read_rows(folder_of(root, names[0]) / "groundtruth.txt")
    refiner.initialize(read_image(folder_of(root, names[0]) / "img/00000001.jpg"), truth[0])
    centre = truth[1][:2] + truth[1][2:] / 2
    base_xywh = np.concatenate([centre - truth[0][2:] / 2, truth[0][2:]])
    found = refiner.refine(read_image(folder_of(root, names[0]) / "img/00000002.jpg"), base_xywh, mask=True)
    np.testing.assert_array_equal(masks[0] > 0, found.mask > 0.4)
    np.testing.assert_allclose(boxes_xywh[1], found.box_xywh if found.refined else base_xywh)


def test_masks_are_those_of_the_refined_box(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    out, folder = tmp_path / "out", folder_of(root, names[0])
    run("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0],
        "--output_dir", out, "--save_masks", "--mask_threshold", "0.4")  # fmt: skip
    refiner = Refiner.from_checkpoint(checkpoint, device="cpu")
    truth = read_rows(folder / "groundtruth.txt")
    refiner.initialize(read_image(folder / "img/00000001.jpg"), truth[0])
    frame = read_image(folder / "img/00000002.jpg")
    base_xywh = np.concatenate([truth[1][:2] + truth[1][2:] / 2 - truth[0][2:] / 2, truth[0][2:]])
    found = refiner.refine(frame, base_xywh, mask=True)
    assert found.refined
    mask = cv2.imread(str(tracker_in(out) / f"refined/masks/{names[0]}/00000002.png"), cv2.IMREAD_GRAYSCALE) > 0
    around_xywh = found.raw_box_xywh if is_valid(found.raw_box_xywh) else found.box_xywh
    np.testing.assert_array_equal(mask, refiner.segment(frame, around_xywh) > 0.4)
    assert (mask != (found.mask > 0.4)).any(), "not that of the window about the rough box"


def test_settings_that_come_to_the_same_are_the_same(
    root: Path, names: list[str], tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0])
    out = tmp_path / "out"
    run(*command, "--output_dir", out)
    assert (
        f"{checkpoint}: checkpoint of train.py, epoch None; backbone resnet18, heads corner+mask"
        in capsys.readouterr().out
    )
    written = (tracker_in(out) / "refined" / f"{names[0]}.txt").stat().st_mtime_ns
    said = ("--geometry", "exact", "--box_from", "corner", "--precision", "auto", "--min_feedback_score", "0.2")
    run(*command, "--output_dir", out, *said)
    assert (tracker_in(out) / "refined" / f"{names[0]}.txt").stat().st_mtime_ns == written
    with pytest.raises(UserError, match=r"holds a run with other settings \(precision: (16|32) there, bf16 now\)"):
        run(*command, "--output_dir", out, "--precision", "bf16")
    with pytest.raises(UserError, match=r"`--precision` applies only to refinement, which requires `--ckpt`"):
        run("--tracker", "oracle", "--data_root", root, "--precision", "32", "--output_dir", tmp_path / "base")


def test_a_geometry_in_place_of_the_checkpoints(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    command = ("--tracker", "oracle", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0])
    for geometry in ("exact", "original"):
        run(*command, "--output_dir", tmp_path / geometry, "--geometry", geometry)
    run(*command, "--output_dir", tmp_path / "own")
    boxes = {
        name: read_rows(tracker_in(tmp_path / name) / "refined" / f"{names[0]}.txt")
        for name in ("exact", "original", "own")
    }
    np.testing.assert_array_equal(boxes["own"], boxes["exact"])
    assert np.abs(boxes["original"] - boxes["exact"]).max() > 0.1


def test_a_second_look_by_a_switch(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    command = ("--tracker", "oracle", "--no-feedback", "--data_root", root, "--ckpt", checkpoint)
    command = (*command, "--sequences", names[0], "--output_dir", tmp_path / "out")
    run(*command)
    once = read_rows(tracker_in(tmp_path / "out") / "refined" / f"{names[0]}.txt")
    with pytest.raises(UserError, match=r"other settings \(flip_test: False there, True now\)"):
        run(*command, "--flip_test")
    run(*command, "--flip_test", "--overwrite")
    twice = read_rows(tracker_in(tmp_path / "out") / "refined" / f"{names[0]}.txt")
    assert np.abs(twice - once).max() > 0.1
