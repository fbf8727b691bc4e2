"""`alpharefine check` finds every defect that is put into a data root, and none in a whole one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from alpharefine.cli.main import main
from alpharefine.data.kinds import READERS, Kind, detect_kinds
from alpharefine.errors import UserError
from alpharefine.synthetic.benchmarks import write_tnl2k, write_videos
from tests.data.test_partial import write_export


def check(capsys: pytest.CaptureFixture[str], *arguments: str, processes: int = 1) -> tuple[list[str], str]:
    """Lines that are printed, and the message of the error if there is one."""
    try:
        main(["check", *arguments, f"--processes={processes}"])
        message = ""
    except UserError as error:
        message = str(error)
    return capsys.readouterr().out.splitlines(), message


def spoiled(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def test_whole_data_sets_have_no_defects(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, message = check(capsys, str(data_root), processes=2)
    assert message == ""
    assert len(lines) == 1
    assert lines[0].startswith("No defects in ")
    assert {kind for kind, _ in detect_kinds(data_root)} == {"got10k", "lasot", "coco", "mask_video", "saliency"}


@pytest.mark.parametrize("processes", [1, 2])
def test_every_defect_of_a_lasot_root(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], processes: int
) -> None:
    root = spoiled(data_root / "lasot", tmp_path / "lasot")
    folder = root / "ellipse" / "ellipse-1"
    for number in (3, 9):
        cut(folder / "img" / f"{number:08d}.jpg")
    cv2.imwrite(str(folder / "img" / "00000012.jpg"), np.zeros((40, 50, 3), np.uint8))
    rows = (folder / "groundtruth.txt").read_text().splitlines()
    rows[4], rows[6], rows[7] = "1,2,3", "x", "5000,5,10,10"
    (folder / "groundtruth.txt").write_text("\n".join(rows))
    (folder / "out_of_view.txt").write_text("0,7")
    lines, message = check(capsys, str(root), "--kind=lasot", processes=processes)
    damaged = "this image is damaged (the JPEG end marker is missing, so the file is cut); restore it."
    assert sorted(line.replace(str(folder), "") for line in lines) == [
        "/groundtruth.txt, row 5: a row must be 4 numbers, got '1,2,3'; correct the file.",
        "/groundtruth.txt, row 7: a row must be 4 numbers, got 'x'; this looks like a header: remove this line.",
        f"/img/00000003.jpg: {damaged}",
        f"/img/00000009.jpg: {damaged}",
        "/img/00000012.jpg: all frames must have the same size, got 50x40 pixels, and 96x72 in 00000001.jpg.",
        "/out_of_view.txt: a flag must be 0 or 1, got '7'; correct the file.",
    ]
    assert message.startswith("6 defects in ")


def test_boxes_are_compared_with_the_frames(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = spoiled(data_root / "lasot", tmp_path / "lasot")
    path = root / "ellipse" / "ellipse-1" / "groundtruth.txt"
    rows = path.read_text().splitlines()
    rows[7] = "5000,5,10,10"
    path.write_text("\n".join(rows))
    lines, _ = check(capsys, str(root), "--kind=lasot")
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}, row 8: the box 5000,5,10,10 is outside of the frame of ")
    corners = np.array([[float(v) for v in row.split(",")] for row in path.read_text().splitlines()])
    path.write_text("\n".join(f"{60 + x},{40 + y},{80 + x},{60 + y}" for x, y in corners[:, :2] % 9))
    lines, _ = check(capsys, str(root), "--kind=lasot")
    assert any("boxes leave the frame, first" in line and "may be x1,y1,x2,y2 or centers" in line for line in lines)
    path.write_text("0.1,0.2,0.3,0.4\n" * len(rows))
    lines, _ = check(capsys, str(root), "--kind=lasot")
    assert lines == [f"{path}, row 1: boxes must be x,y,w,h in pixels, but all values are between 0 and 1."]


def test_a_missing_frame_and_a_missing_sequence(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = spoiled(data_root / "got10k", tmp_path / "got10k")
    names = (root / "train" / "list.txt").read_text().split()
    (root / "train" / names[0] / "00000005.jpg").unlink()
    shutil.rmtree(root / "train" / names[1])
    lines, message = check(capsys, str(root))
    assert any("(no frame between 00000004.jpg and 00000006.jpg)" in line for line in lines)
    assert any(names[1] in line for line in lines)
    assert message.endswith("each printed above.")


def test_masks(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = spoiled(data_root / "davis2016", tmp_path / "davis2016")
    masks = root / "Annotations" / "480p" / "ellipse-1"
    cut(masks / "00001.png")
    cut(masks / "00003.png")
    cv2.imwrite(str(masks / "00004.png"), np.full((8, 9), 255, np.uint8))
    lines, _ = check(capsys, str(root))
    assert [sum(f"{number:05d}.png: " in line for line in lines) for number in (1, 2, 3)] == [1, 0, 1]
    shutil.rmtree(root)
    spoiled(data_root / "davis2016", root)
    cv2.imwrite(str(masks / "00004.png"), np.full((8, 9), 255, np.uint8))
    lines, _ = check(capsys, str(root))
    assert any(
        line.startswith(f"{masks / '00004.png'}: mask and frame must have the same size, got 9x8") for line in lines
    )


def test_every_object_of_coco(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = spoiled(data_root / "coco", tmp_path / "coco")
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [1, 2, 3]
    content["annotations"][1]["image_id"] = -5
    content["annotations"][2]["bbox"] = [-50, 2, 10, 10]
    (root / "train2017" / content["images"][3]["file_name"]).unlink()
    path.write_text(json.dumps(content))
    lines, message = check(capsys, str(root))
    text = "\n".join(lines)
    assert message.startswith("4 defects"), text
    for word in ("annotation 100 is malformed", "KeyError(-5)", "the box -50,2,10,10 is outside", "does not exist"):
        assert word in text


def test_own_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_videos(tmp_path / "clips", num_sequences=2, num_frames=12, frame_size=(48, 64))
    assert check(capsys, str(tmp_path / "clips"))[1] == ""
    path = tmp_path / "clips" / "ellipse-1" / "groundtruth.txt"
    path.write_text("x,y,w,h\n" + path.read_text())
    cut(tmp_path / "clips" / "ellipse-1" / "4.jpg")
    lines, message = check(capsys, str(tmp_path / "clips"))
    assert message.startswith("2 defects in 2 sequences with 24 pictures")
    assert "4.jpg" in lines[1]
    assert lines[0].startswith(f"{path}, row 1: ")


def test_clips_with_first_boxes_are_no_got10k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_videos(tmp_path / "clips", num_sequences=2, num_frames=12, only_first=True, frame_size=(48, 64))
    assert check(capsys, str(tmp_path / "clips"))[1] == ""
    (tmp_path / "clips" / "ellipse-1" / "groundtruth.txt").write_text("5,5,9,9\n" * 8)
    lines, _ = check(capsys, str(tmp_path / "clips"))
    assert len(lines) == 1
    assert "has 8 rows for 12 frames" in lines[0]


def test_official_videos_may_end_without_annotation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_tnl2k(tmp_path / "tnl2k", num_sequences=1, num_frames=12, frame_size=(48, 64))
    (path,) = (tmp_path / "tnl2k").glob("*/groundtruth.txt")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    assert check(capsys, str(tmp_path / "tnl2k"), "--kind=tnl2k")[1] == ""
    assert f"{path} has 8 rows for 12 frames" in caplog.text


def test_pictures_of_another_size_than_their_annotation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_export(tmp_path, "result.json", "images/a.png", segmentation=[])
    path = tmp_path / "images" / "a.png"
    height, width = cv2.imread(str(path)).shape[:2]
    for size, remedy in (
        ((width, height), r"it may be stored turned \(EXIF\), or the annotation has width and height exchanged"),
        ((9, 9), "restore it"),
    ):
        cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
        lines, _ = check(capsys, str(tmp_path))
        (line,) = (line for line in lines if "the annotation is of" in line)
        assert re.fullmatch(
            rf"{path}: the annotation is of {width}x{height} pixels, got {size[1]}x{size[0]}; {remedy}\.", line
        )


def test_damage_that_only_the_decoder_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_videos(tmp_path / "clips", num_sequences=1, num_frames=3, frame_size=(240, 320))
    path = tmp_path / "clips" / "ellipse-1" / "2.jpg"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :][:400] = b""
    middle = len(content) // 2
    content[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    path.write_bytes(content)
    lines, _ = check(capsys, str(tmp_path / "clips"))
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: the decoder reports damage (Corrupt JPEG data")


def test_the_data_sets_of_a_configuration(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(
        "data:\n  train:\n    one: {kind: got10k, path: got10k}\n  val:\n    two: {kind: lasot, path: lasot}\n"
    )
    lines, message = check(capsys, str(data_root), f"--config={config}")
    assert (message, lines[0][:11]) == ("", "No defects ")
    config.write_text("data:\n  train:\n    one: {kind: got10k, path: absent}\n  val: {}\n")
    lines, message = check(capsys, str(data_root), f"--config={config}")
    assert "absent does not exist" in lines[0]
    assert message.startswith("1 defects in 0 sequences")


def test_a_configuration_has_the_data_sets_of_the_base(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "got10k").symlink_to(data_root / "got10k")
    lines, message = check(capsys, str(tmp_path), "--config=ar34_cm.yaml")
    absent = [line.split(" does not exist")[0] for line in lines]
    assert absent == [f"{kind}: folder {tmp_path / path}" for kind, path in (
        ("LaSOT", "lasot"), ("COCO", "coco"), ("GOT-10k", "got10k/val"), ("COCO", "coco"),
    )]  # fmt: skip
    assert message.startswith("4 defects in ")


def test_a_data_set_that_cannot_be_opened_does_not_stop_the_others(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled(data_root / "coco", tmp_path / "coco")
    spoiled(data_root / "lasot", tmp_path / "lasot")
    (tmp_path / "coco" / "annotations" / "instances_train2017.json").write_text("{")
    (tmp_path / "lasot" / "ellipse" / "ellipse-1" / "img" / "00000002.jpg").write_bytes(b"")
    lines, message = check(capsys, str(tmp_path))
    assert "instances_train2017.json is not a COCO instances file" in lines[0]
    assert "00000002.jpg: " in lines[1]
    assert message.startswith("2 defects in ")


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has none of the known layouts" in check(capsys, str(tmp_path))[1]
    assert "is not a folder" in check(capsys, str(tmp_path / "absent"))[1]
    assert "exclude each other" in check(capsys, str(tmp_path), "--kind=lasot", "--config=base.yaml")[1]
    assert re.match(
        r"`--kind` must be one of .*saliency.*otb100.*, got films; ", check(capsys, str(tmp_path), "--kind=films")[1]
    )
    assert check(capsys, str(tmp_path), "--kind=salincy")[1].endswith("got salincy; did you mean saliency?")


def test_the_kinds_are_those_of_training() -> None:
    assert set(READERS) == set(get_args(Kind))


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("result.json", "images/a.png"),
        ("annotations/instances_default.json", "images/a.png"),
        ("train/_annotations.coco.json", "train/a.png"),
    ],
    ids=["Label Studio", "CVAT", "Roboflow"],
)
def test_exports_of_labeling_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, image: str) -> None:
    write_export(tmp_path, file, image, segmentation=[])
    lines, message = check(capsys, str(tmp_path))
    assert (message, lines[0][:11]) == ("", "No defects ")
    cut(tmp_path / image)
    lines, message = check(capsys, str(tmp_path))
    assert len(lines) == 1
    assert lines[0].startswith(str(tmp_path / image))
