"""The examples in the documentation run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv
import torch

from alpharefine.boxes import xywh_to_xyxy
from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.cli import train
from alpharefine.data.pairs import PairSource
from alpharefine.evaluation.config import DatasetConfig
from alpharefine.evaluation.datasets.registry import DATASETS, open_dataset
from alpharefine.models.heads import Grid
from alpharefine.synthetic import generate_crowd, write_lasot, write_saliency
from alpharefine.trackers.entry import TrackerRequest
from alpharefine.video.frames import open_source
from alpharefine.video.writer import VideoWriter
from tests.data.test_partial import own_videos, write_export
from tests.docs.pages import PAGES, ROOT, blocks, section

CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def example(title: str) -> dict[str, Any]:
    """Names that the example below a heading defines."""
    text = section(CONTRIBUTING, title)
    (code,) = [code for code in blocks(CONTRIBUTING, "python") if code in text]
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, title, "exec"), names)
    return names


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one sequence with ``img/`` and ``groundtruth.txt``."""
    root = tmp_path_factory.mktemp("clip") / "lasot"
    write_lasot(root, num_train=0, num_test=1, num_frames=20, frame_size=(48, 64), flat=True)
    return next(path.parent for path in root.glob("*/groundtruth.txt"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_is_valid(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, page.name, "exec")


def test_the_metrics_run(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(ROOT / "docs" / "protocols.md", "python")
    exec(compile(code, "protocols.md", "exec"), {})
    assert 0.8 < float(capsys.readouterr().out) < 1


def test_the_tracker_tracks() -> None:
    entry = example("Add a tracker")["ENTRY"]
    truth_xywh = np.array([[1.0, 2, 10, 12]] * 3)
    tracker = entry.load(TrackerRequest(entry.name)).open("a-1", truth_xywh)
    frame = np.zeros((48, 64, 3), np.uint8)
    tracker.initialize(frame, truth_xywh[0])
    assert tracker.track(frame).box_xywh.tolist() == [1, 2, 10, 12]
    tracker.set_box(np.array([3.0, 4, 5, 6]))
    assert tracker.track(frame).box_xywh.tolist() == [3, 4, 5, 6]
    tracker.close()


def test_the_evaluation_data_set_opens(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "clips", example("Add an evaluation data set")["Clips"])
    (tmp_path / "frames").mkdir()
    (tmp_path / "boxes").mkdir()
    (tmp_path / "frames" / "one").symlink_to(clip / "img")
    (tmp_path / "boxes" / "one.txt").write_text((clip / "groundtruth.txt").read_text())
    dataset = open_dataset(DatasetConfig("clips", tmp_path))
    assert dataset.names == ["one"]
    assert len(dataset.load("one")) == 20


def test_the_training_data_set_gives_pairs(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "one"
    folder.mkdir(parents=True)
    for path in [*(clip / "img").iterdir(), clip / "groundtruth.txt"]:
        (folder / path.name).write_bytes(path.read_bytes())
    reader = example("Add a training data set")["Clips"](tmp_path / "data")
    (record,) = reader.records()
    assert (record.name, len(record.frame_names)) == ("one", 20)
    assert reader.frame_path("one", record.frame_names[0]).is_file()
    PairSource(reader, tmp_path / "cache")


def test_the_head_predicts_corners() -> None:
    head = example("Add a head")["LinearHead"](8, Grid(256))
    corners = head(torch.zeros(2, 8, 16, 16))
    assert corners.scores.shape == (2, 2, 16, 16)
    torch.testing.assert_close(corners.crop_xyxy, torch.full((2, 4), 128.0))


def test_the_backend_refines() -> None:
    refiner = example("Add an inference backend")["refiner"]
    frame = np.zeros((200, 200, 3), np.uint8)
    box_xywh = np.array([80.0, 80, 40, 40])
    refiner.initialize(frame, box_xywh)
    np.testing.assert_allclose(refiner.refine(frame, box_xywh).box_xywh, box_xywh, atol=1e-6)


def test_the_detections_of_a_video_are_refined(tmp_path: Path) -> None:
    (code,) = blocks(ROOT / "docs" / "integrations.md", "python")
    names: dict[str, Any] = {}
    exec(compile(code, "integrations.md", "exec"), names)
    crowd, seen = generate_crowd(0, 2, 3, (120, 160)), []
    with VideoWriter(tmp_path / "in.mp4") as writer:
        for index, frame in enumerate(crowd.frames):
            writer.write(frame, index / 30)

    def detect(frame: np.ndarray) -> sv.Detections:
        seen.append(np.abs(frame[..., ::-1].astype(int) - crowd.frames[len(seen)]).mean())
        xyxy = xywh_to_xyxy(crowd.boxes_xywh[len(seen) - 1]).astype(np.float32)
        return sv.Detections(xyxy, confidence=np.full(2, 0.9, np.float32), class_id=np.zeros(2, int))

    names["refine_video"](str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4"), detect)
    assert max(seen) < 10, "the frames are BGR"
    assert len(list(open_source(str(tmp_path / "out.mp4")).frames())) == 3


def test_the_configuration_for_labeled_pictures_and_own_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_fitted: list[Any]
) -> None:
    data = ROOT / "docs" / "data.md"
    (config,) = [code for code in blocks(data, "yaml") if code in section(data, "Labeling tools")]
    write_export(tmp_path / "my_labels", "result.json", "images/a.png", segmentation=[])
    own_videos(tmp_path / "my_videos", clip=4, walk=5)
    (tmp_path / "my.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    train.main(["--config", "my.yaml", "--data.root", str(tmp_path), "--wandb", "off"])
    ((task, module, _),) = not_fitted
    assert task.network.heads == ("corner",)
    module.setup("fit")
    assert len(module.train_dataset) == 64
    assert {module.train_dataset[i].search.shape for i in range(4)} == {(3, 256, 256)}


def own_data_config(title: str) -> str:
    page = ROOT / "docs" / "own-data.md"
    (config,) = [code for code in blocks(page, "yaml") if code in section(page, title)]
    return config


@pytest.mark.parametrize(("title", "heads"), [("Pictures with masks", ("corner", "mask")), ("Boxes only", ("corner",))])
def test_the_configurations_for_own_pictures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    not_fitted: list[Any],
    capsys: pytest.CaptureFixture[str],
    title: str,
    heads: tuple[str, ...],
) -> None:
    for part in ("", "_val"):
        write_export(tmp_path / f"my_labels{part}", "result.json", "images/a.png", segmentation=[])
        write_saliency(tmp_path / f"pictures{part}", num_images=2, frame_size=(48, 64))
        (tmp_path / f"pictures{part}" / "ground_truth_mask").rename(tmp_path / f"pictures{part}" / "masks")
    (tmp_path / "my.yaml").write_text(own_data_config(title))
    monkeypatch.chdir(tmp_path)
    options = ["--name", "my_run", "--data.root", str(tmp_path), "--wandb", "off"]
    train.main(["--config", "demo_finetune.yaml", "--config", "my.yaml", *options])
    ((task, module, _),) = not_fitted
    assert task.network.heads == heads
    printed = blocks(ROOT / "docs" / "fine-tuning.md")[1]
    assert (printed in capsys.readouterr().out) == ("mask" in heads)
    shipped = load_checkpoint("ar18_cm").network.state_dict()
    for name, weights in task.network.corner_head.state_dict().items():
        torch.testing.assert_close(weights, shipped[f"corner_head.{name}"])
    module.setup("fit")
    assert len(module.train_dataset) == 4000
    assert module.train_dataset[0].search.shape == (3, 256, 256)
    assert len(module.val_dataset) == 500
