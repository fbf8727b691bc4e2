"""The original's recipe on small trees of its seven data sets, each in its official layout."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.cli import train
from alpharefine.cli.configs import CONFIGS
from alpharefine.crops import OriginalWindow
from alpharefine.synthetic import write_coco, write_got10k, write_lasot, write_mask_video, write_saliency
from datamodules import PairDataModule
from datamodules.pairs import Source
from tests.data.imagenet_trees import write_annotation, write_image

CONFIG = CONFIGS / "ar34_cm_original.yaml"
WEIGHTS = {"lasot": 1, "got10k": 1, "coco": 1, "imagenet_vid": 1, "imagenet_det": 1, "youtube_vos": 2, "saliency": 3}
SIZE = (72, 96)


def write_coco_2014(root: Path) -> None:
    """Rename generated COCO 2017 to the names of 2014."""
    write_coco(root, num_train=3, num_val=2, frame_size=SIZE)
    for split in ("train", "val"):
        old, new = root / f"{split}2017", root / f"{split}2014"
        old.rename(new)
        annotations = root / "annotations" / f"instances_{split}2017.json"
        content = json.loads(annotations.read_text())
        for picture in content["images"]:
            name = f"COCO_{split}2014_{picture['file_name']}"
            (new / picture["file_name"]).rename(new / name)
            picture["file_name"] = name
        annotations.unlink()
        (root / "annotations" / f"instances_{split}2014.json").write_text(json.dumps(content))


def write_imagenet(vid: Path, det: Path) -> None:
    video = "ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000"
    for i in range(20):
        write_annotation(vid / f"Annotations/VID/train/{video}/{i:06d}.xml", [(0, (9, 5, 28, 40), False)], video=True)
        write_image(vid / f"Data/VID/train/{video}/{i:06d}.JPEG", 10 * i)
    for name in ("ILSVRC2013_train/n01440764/n01440764_10026", "ILSVRC2014_train_0000/ILSVRC2014_train_00000001"):
        write_annotation(det / f"Annotations/DET/train/{name}.xml", [(0, (30, 20, 49, 49), False)], video=False)
        write_image(det / f"Data/DET/train/{name}.JPEG")


def write_youtube_vos(root: Path) -> None:
    """Write every fifth frame of two videos, with palette masks."""
    write_mask_video(root, num_sequences=2, num_frames=6, frame_size=(144, 192))
    for folder in ("JPEGImages", "Annotations"):
        for k, video in enumerate(sorted((root / folder / "480p").iterdir())):
            moved = video.rename(root / folder / f"{k:010x}")
            for picture in sorted(moved.iterdir(), reverse=True):
                picture.rename(picture.with_stem(f"{5 * int(picture.stem):05d}"))
        (root / folder / "480p").rmdir()
    for path in root.glob("Annotations/*/*.png"):
        picture = Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8), mode="P")
        picture.putpalette([0, 0, 0, 236, 95, 103, *[0] * 762])
        picture.save(path)
    (root / "meta.json").write_text(json.dumps({"videos": {}}))


def write_merged_saliency(root: Path) -> None:
    write_saliency(root, num_images=4, frame_size=SIZE)
    (root / "ground_truth_mask").rename(root / "gt")
    for picture in [*(root / "images").iterdir(), *(root / "gt").iterdir()]:
        picture.rename(picture.with_stem(f"{int(picture.stem):08d}"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    write_lasot(root / "lasot", num_train=2, num_test=1, num_frames=20, frame_size=SIZE)
    write_got10k(root / "got10k", num_sequences=7, num_frames=20, frame_size=SIZE)
    write_coco_2014(root / "coco")
    write_imagenet(root / "imagenet_vid", root / "imagenet_det")
    (root / "youtube_vos").mkdir()
    write_youtube_vos(root / "youtube_vos" / "train")
    write_merged_saliency(root / "saliency")
    return root


def test_every_data_set_is_found_and_drawn_from_by_its_weight(root: Path) -> None:
    options = yaml.safe_load(CONFIG.read_text())["data"]["init_args"]
    sources = {name: {k: Source(**source) for k, source in options[name].items()} for name in ("train", "val")}
    module = PairDataModule(str(root), **sources, geometry="original")
    module.prepare_data()
    module.setup("fit")
    assert {name: source.weight for name, source in module.train_sources.items()} == WEIGHTS
    dataset = module.train_dataset
    np.testing.assert_allclose(dataset.probabilities, np.array(list(WEIGHTS.values())) / 10)
    assert dataset.geometry.window is OriginalWindow
    rng = np.random.default_rng(0)
    for name, source in zip(WEIGHTS, dataset.sources, strict=True):
        template, search = (frame.load() for frame in source.draw(rng))
        assert (search.mask is not None) == (name in ("youtube_vos", "saliency")), name
        assert (template.box_xywh[2:] > 0).all(), name
    vid, det, youtube_vos = (dataset.sources[list(WEIGHTS).index(name)].index for name in list(WEIGHTS)[3:6])
    assert vid.boxes_xywh[0].tolist() == [9, 5, 19, 35]
    assert det.boxes_xywh.tolist() == [[30, 20, 19, 29]] * 2
    assert set(youtube_vos.times.tolist()) == {0, 5, 10, 15, 20, 25}
    drawn = [int(dataset[i].has_mask) for i in range(40)]
    assert 0.3 < np.mean(drawn) < 0.7, "half of the pairs have masks"


@pytest.mark.slow
def test_the_recipe_trains(root: Path, tmp_path: Path) -> None:
    options = {
        "config": CONFIG.name,
        "output_dir": tmp_path,
        "data.root": root,
        "data.pairs_per_epoch": 4,
        "data.val_pairs": 2,
        "data.batch_size": 2,
        "data.num_workers": 0,
        "model.backbone_weights": "null",
        "trainer.max_epochs": 1,
        "trainer.log_every_n_steps": 1,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "wandb": "off",
    }
    train.main([f"--{name}={value}" for name, value in options.items()])
    with (tmp_path / "ar34_cm_original/logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("train/loss_corner", "train/loss_mask"):
        losses = [float(row[name]) for row in rows if row[name]]
        assert len(losses) == 2
        assert np.isfinite(losses).all()
    rates = {float(row[name]) for row in rows for name in row if name.startswith("lr-AdamW") and row[name]}
    assert rates == {1e-3}
    network = load_checkpoint(tmp_path / "ar34_cm_original/checkpoints/last.ckpt").network
    assert network.geometry == "original"
    assert network.heads == ("corner", "mask")
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
