"""Files of the authors' code through the command: their boxes, and how others are refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from alpharefine.cli import evaluate
from alpharefine.data.text import read_rows
from alpharefine.errors import UserError
from tests.checkpoints.test_original import UNKNOWN, golden, shapes, writer

pytestmark = pytest.mark.parity

__all__ = ["golden", "writer"]  # fixtures

CASES = (4, 7, 14)  # those of which a box in order comes out


@pytest.fixture(scope="module")
def root(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden cases as sequences of two frames, and boxes of a tracker that are those to refine."""
    root = tmp_path_factory.mktemp("cases")
    (root / "published").mkdir()
    with np.load(golden / "refine_original.npz") as arrays:
        for case in CASES:
            name, folder = f"case-{case}", root / "case" / f"case-{case}"
            (folder / "img").mkdir(parents=True)
            boxes_xywh = np.stack([arrays["template_box"][case], arrays["box"][case]])
            for path in (folder / "groundtruth.txt", root / "published" / f"{name}.txt"):
                np.savetxt(path, boxes_xywh, delimiter=",")
            for flags in ("full_occlusion", "out_of_view"):
                (folder / f"{flags}.txt").write_text("0,0")
            for number, frame in enumerate((arrays["template_frame"][case], arrays["frame"][case]), start=1):
                bgr = cv2.cvtColor(arrays[f"frame_{frame}"], cv2.COLOR_RGB2BGR)
                png = cv2.imencode(".png", bgr)[1].tobytes()  # readers look at the content, and JPEG would change it
                (folder / "img" / f"{number:08d}.jpg").write_bytes(png)
    (root / "testing_set.txt").write_text("".join(f"case-{case}\n" for case in CASES))
    return root


def run(root: Path, ckpt: Path, out: Path) -> None:
    options = {
        "tracker": "replay",
        "results_dir": root / "published",
        "data_root": root,
        "ckpt": ckpt,
        "output_dir": out,
    }
    evaluate.main([f"--{name}={value}" for name, value in options.items()])


@pytest.mark.parametrize("fmt", ["legacy", "zip"])
def test_the_originals_boxes(writer, golden: Path, root: Path, tmp_path: Path, capsys, fmt: str) -> None:
    ckpt = tmp_path / "SEcmnet_ep0040-c.pth.tar"
    writer.write(ckpt, shapes(golden, "ar34_cm"), fmt=fmt, location="cuda:0", optimizer="none")
    run(root, ckpt, tmp_path / "out")
    told = capsys.readouterr().out.splitlines()[0]
    assert told.startswith(f"{ckpt}: checkpoint of the authors' code: SEcmnet, epoch 40, network from its constructor")
    assert "backbone resnet34, heads corner+mask, neck pixel" in told
    with np.load(golden / "refine_original.npz") as arrays:
        for case in CASES:
            rows = read_rows(tmp_path / "out" / "published" / "refined" / f"case-{case}.txt")
            np.testing.assert_allclose(rows[1], arrays["refined_clipped"][case], atol=1e-2)
    settings = json.loads((tmp_path / "out" / "published" / "refined" / "settings.json").read_text())["stamp"]
    assert (settings["geometry"], settings["precision"], settings["min_feedback_score"]) == ("original", "32", 0)


def test_what_the_file_does_not_tell_is_said(writer, golden: Path, root: Path, tmp_path: Path, capsys) -> None:
    writer.write(tmp_path / "ar18.pth.tar", shapes(golden, "ar18_cm"), constructor=UNKNOWN)
    run(root, tmp_path / "ar18.pth.tar", tmp_path / "out")
    told = capsys.readouterr().out
    assert "(unknown constructor SEcm_r18:SEcm_resnet18)" in told
    assert told.count("Ambiguous checkpoint: assuming neck=pixel") == 1


@pytest.mark.parametrize("kind", ["call", "nested", "method"])
def test_malicious_files(writer, golden: Path, root: Path, tmp_path: Path, kind: str) -> None:
    ckpt, marker = tmp_path / "bad.pth.tar", tmp_path / "marker"
    writer.write(ckpt, shapes(golden, "ar18_cm"), malicious=str(marker), malicious_kind=kind)
    with pytest.raises(UserError, match=r"bad\.pth\.tar asks for .* it may be malicious"):
        run(root, ckpt, tmp_path / "out")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello", "cut short or no checkpoint at all"),
        (
            {"epoch": 1, "state_dict": {"a": torch.zeros(2)}, "hyper_parameters": {"lr": 1}},
            "not a checkpoint of a refin",
        ),
        ({"model": {"a": torch.zeros(2)}}, r"not a checkpoint of a refinement network \(it holds a\)"),
    ],
    ids=["text", "Lightning", "torch"],
)
def test_files_of_something_else(root: Path, tmp_path: Path, content: object, message: str) -> None:
    ckpt = tmp_path / "other.ckpt"
    if isinstance(content, str):
        ckpt.write_text(content)
    else:
        torch.save(content, ckpt)
    with pytest.raises(UserError, match=message) as caught:
        run(root, ckpt, tmp_path / "out")
    assert "\n" not in str(caught.value)
