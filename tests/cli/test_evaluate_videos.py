"""Videos that an evaluation draws: of which sequences, what is on them, and how they are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from alpharefine.data.images import read_image
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from alpharefine.report import videos
from alpharefine.video.drawing import BASE, MASK_COLOR, REFINED, TRUTH
from alpharefine.video.frames import open_source
from tests.cli.results import files_in, metrics_in, run

NUM_FRAMES = 6


def videos_in(out: Path) -> list[str]:
    return files_in(out / "videos") if (out / "videos").is_dir() else []


def has_color(frame: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(frame[80:].astype(int) - color).max(-1) < 60).sum() > 20)  # below the legend


def published(root: Path, names: list[str], folder: Path) -> None:
    """Write boxes that are the farther from the truth, the later the sequence."""
    folder.mkdir(parents=True)
    for shift, name in zip((0, 3, 12), names, strict=True):
        boxes_xywh = read_rows(root / name.rpartition("-")[0] / name / "groundtruth.txt")
        boxes_xywh[1:, 0] += shift
        np.savetxt(folder / f"{name}.txt", boxes_xywh, delimiter=",")


def test_the_best_and_the_worst_by_gain(
    root: Path, names: list[str], tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run("--tracker", "mil", "--data_root", root, "--ckpt", checkpoint, "--baseline", "--output_dir", out,
        "--save_video", "best,worst")  # fmt: skip
    runs = metrics_in(out)["trackers"]["mil"]["runs"]
    gains = {
        name: runs["refined"]["sequences"][name]["success_auc"] - runs["base"]["sequences"][name]["success_auc"]
        for name in names
    }
    expected = {max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__)}
    assert len(expected) == 2
    assert videos_in(out) == sorted(f"mil/{name}.mp4" for name in expected)
    assert f"2 videos in {out / 'videos'}\n" in capsys.readouterr().out
    for name in expected:
        frames = list(open_source(str(out / "videos" / "mil" / f"{name}.mp4")).frames())
        assert len(frames) == NUM_FRAMES
        np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(NUM_FRAMES) / 30, atol=1e-4)
        assert frames[0].pixels.shape == (480, 640, 3), "enlarged from 64x48"
        scene = cv2.resize(read_image(root / name.rpartition("-")[0] / name / "img/00000004.jpg"), (640, 480))
        assert np.median(np.abs(frames[3].pixels[200:].astype(int) - scene[200:])) < 12
        for color in (BASE.color, REFINED.color, TRUTH.color):
            assert any(has_color(frame.pixels, color) for frame in frames[1:])


def test_named_sequences_of_several_trackers(root: Path, names: list[str], tmp_path: Path) -> None:
    for tracker, order in (("a", names), ("b", names[::-1])):
        published(root, order, tmp_path / "published" / tracker)
    out = tmp_path / "out"
    arguments = (
        "--tracker",
        "replay",
        "--results_dir",
        tmp_path / "published",
        "--data_root",
        root,
        "--output_dir",
        out,
    )
    run(*arguments, "--save_video", f"{names[1]},best")
    expected = (("a", names[0]), ("a", names[1]), ("b", names[1]), ("b", names[2]))
    assert videos_in(out) == sorted(f"{tracker}/{name}.mp4" for tracker, name in expected)
    assert json.loads((out / "metrics.json").read_text())["complete"]
    frames = list(open_source(str(out / "videos" / "a" / f"{names[1]}.mp4")).frames())
    assert any(has_color(frame.pixels, BASE.color) for frame in frames)
    assert not any(has_color(frame.pixels, REFINED.color) for frame in frames)


def test_saved_masks_are_drawn(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--tracker", "self", "--data_root", root, "--ckpt", checkpoint, "--sequences", names[0],
                 "--save_masks", "--output_dir", out, "--save_video", names[0])  # fmt: skip
    run(*arguments)
    for path in (out / "self" / "refined" / "masks" / names[0]).iterdir():
        mask = np.zeros((48, 64), np.uint8)
        mask[30:, 40:] = 255
        cv2.imwrite(str(path), mask)
    run(*arguments)  # nothing is to be run; the video is drawn again
    frames = list(open_source(str(out / "videos" / "self" / f"{names[0]}.mp4")).frames())
    corner = [frame.pixels[350:470, 450:630].astype(float).mean((0, 1)) for frame in frames]
    for frame in corner[1:]:
        assert frame[2] - corner[0][2] > 0.2 * (MASK_COLOR[2] - corner[0][2])


@pytest.mark.exhaustive
def test_two_processes_draw_once(root: Path, names: list[str], tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / "out"
    run("--tracker", "self", "--data_root", root, "--ckpt", checkpoint, "--devices", 2, "--save_masks", "--output_dir",
        out, "--save_video", "worst")  # fmt: skip
    assert len(videos_in(out)) == 1
    for name in names:
        assert len(list((out / "self" / "refined" / "masks" / name).iterdir())) == NUM_FRAMES - 1
    assert not list(out.glob(".masks-*"))


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        ("bset", (), "`--save_video`: 'bset' is not a chosen sequence; use 'best'"),
        ("nothing", (), "`--save_video`: 'nothing' is not a chosen sequence; give best, worst or the name of one"),
        ("NAME0,NAME1x", (), "`--save_video`: 'NAME1x' is not a chosen sequence; use 'NAME1'"),
        ("NAME1", ("--sequences", "NAME0"), "`--save_video`: 'NAME1' is not a chosen sequence"),
    ],
)
def test_unknown_names_stop_before_anything_runs(
    root: Path, names: list[str], tmp_path: Path, chosen: str, options: tuple[str, ...], message: str
) -> None:
    def filled(text: str) -> str:
        return text.replace("NAME0", names[0]).replace("NAME1", names[1])

    with pytest.raises(UserError, match=filled(message)):
        run("--tracker", "oracle", "--data_root", root, "--output_dir", tmp_path / "out", *map(filled, options),
            "--save_video", filled(chosen))  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_sequences_without_scores_have_no_rank(root: Path, names: list[str], tmp_path: Path) -> None:
    clip = shutil.copytree(root / names[0].rpartition("-")[0] / names[0], tmp_path / "clip")
    first_row = (clip / "groundtruth.txt").read_text().splitlines()[0]
    (clip / "groundtruth.txt").write_text(f"{first_row}\n")
    arguments = ("--tracker", "mil", "--dataset", "folder", "--data_root", clip, "--output_dir", tmp_path / "out")
    with pytest.raises(UserError, match="`--save_video best`: the sequences of folder have no scores here; give names"):
        run(*arguments, "--save_video", "best")
    run(*arguments, "--save_video", "clip")
    assert videos_in(tmp_path / "out") == ["mil/clip.mp4"]


def test_boxes_without_frames_have_no_video(root: Path, names: list[str], tmp_path: Path) -> None:
    published(root, names, tmp_path / "published")
    for folder in ("absent", "att"):
        (tmp_path / "annos" / folder).mkdir(parents=True)
    for name in names:
        shutil.copy(root / name.rpartition("-")[0] / name / "groundtruth.txt", tmp_path / "annos" / f"{name}.txt")
        (tmp_path / "annos" / "absent" / f"{name}.txt").write_text("0,0,0,0,0,0")
        (tmp_path / "annos" / "att" / f"{name}.txt").write_text(",".join("0" * 14))
    with pytest.raises(UserError, match=r"`--save_video` reads the frames of .*: give `--data_root`"):
        run("--tracker", "replay", "--results_dir", tmp_path / "published", "--annotations_dir", tmp_path / "annos",
            "--sequences", ",".join(names), "--output_dir", tmp_path / "out", "--save_video", names[0])  # fmt: skip


def test_a_frame_that_is_lost_leaves_no_video(
    root: Path, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = videos.draw_frame

    def lose(boxes: Any, index: int, width: int) -> np.ndarray:
        if index == 3:
            raise UserError("00000004.jpg: no such file")
        return draw(boxes, index, width)

    monkeypatch.setattr(videos, "draw_frame", lose)
    with pytest.raises(UserError, match=r"00000004\.jpg"):
        run("--tracker", "oracle", "--data_root", root, "--output_dir", tmp_path / "out", "--save_video", names[0])
    assert metrics_in(tmp_path / "out")["complete"]
    assert not videos_in(tmp_path / "out")
