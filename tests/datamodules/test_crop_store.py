"""The data module of a crop store writes it once, holds sequences out, and trains through `train.py`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import train
from alpharefine.data.pair_recipe import PairRecipe
from alpharefine.data.pairs import PairBatch
from alpharefine.errors import UserError
from datamodules import CropStoreDataModule, Source
from tests.training_runs import read_metrics

TRAIN = {
    "got10k": Source("got10k", "got10k"),
    "davis": Source("mask_video", "davis2016"),
    "ecssd": Source("saliency", "ecssd", weight=0.5),
}

CONFIG = """
model: {backbone: resnet18, backbone_weights: null}
data:
  class_path: datamodules.CropStoreDataModule
  init_args:
    train:
      davis: {kind: mask_video, path: davis2016}
      ecssd: {kind: saliency, path: ecssd}
    holdout: {davis: [%s]}
    cutouts: {ecssd: 1, davis: 1}
    max_frames: 3
    batch_size: 2
    pairs_per_epoch: 4
    val_pairs: 2
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 1
  precision: 32-true
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  callbacks:
    - {class_path: alpharefine.training.averaging.WeightAverage}
    - {class_path: alpharefine.training.averaging.HalfPrecisionExport, init_args: {folder: %s}}
wandb: 'off'
"""


def video(data_root: Path) -> str:
    """Name of the first video with masks."""
    return sorted(path.name for path in (data_root / "davis2016" / "JPEGImages" / "480p").iterdir())[0]


def made(
    data_root: Path, folder: Path, held: str, num_processes: int = 1, rank: int = 0, **changed: object
) -> CropStoreDataModule:
    """A module that is set up, as the trainer would."""
    options = {"recipe": PairRecipe(), "max_frames": 3, "batch_size": 2, "pairs_per_epoch": 4, "val_pairs": 2}
    module = CropStoreDataModule(
        str(data_root),
        str(folder / "store"),
        TRAIN,
        {"davis": [held]},
        {"davis": 1.0, "ecssd": 1.0},
        cache_dir=str(folder / "cache"),
        **(options | changed),  # type: ignore[arg-type]
    )
    module.trainer = SimpleNamespace(
        world_size=num_processes,
        global_rank=rank,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        fit_loop=SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(completed=0)))
        ),
    )
    module.prepare_data()
    module.setup("fit")
    return module


def test_batches_do_not_depend_on_the_number_of_processes(data_root: Path, tmp_path: Path) -> None:
    module = made(data_root, tmp_path, video(data_root))
    loader = module.train_dataloader()
    first, again = list(loader), list(loader)
    assert len(first) == len(loader) == 2
    assert all(isinstance(batch, PairBatch) and len(batch.search) == 2 for batch in first)
    assert torch.equal(first[0].search, again[0].search)
    assert not torch.equal(first[0].search, first[1].search)
    second = next(iter(made(data_root, tmp_path, video(data_root), 2, 1).train_dataloader()))
    assert torch.equal(second.search, first[1].search)
    loader.sampler.set_epoch(1)
    assert not torch.equal(next(iter(loader)).search, first[0].search)
    fixed = module.val_dataloader()
    batch = next(iter(fixed))
    fixed.sampler.set_epoch(1)
    assert torch.equal(next(iter(fixed)).search, batch.search)
    assert batch.has_mask.all()


def test_held_out_sequences_are_validated_alone(data_root: Path, tmp_path: Path) -> None:
    module = made(data_root, tmp_path, video(data_root))
    store = module._train_pairs.store
    held = {n for n in range(len(store.names)) if store.sequence_name(n) == video(data_root)}
    assert {n for n, prob in enumerate(module._val_pairs._videos._probs) if prob > 0} == held
    composer = module._train_pairs._composer
    assert composer is not None
    for choice in (module._train_pairs._videos, composer._cutouts):
        assert not held & {n for n, prob in enumerate(choice._probs) if prob > 0}


def test_faults_are_named(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no sequence nothing"):
        made(data_root, tmp_path, "nothing")
    with pytest.raises(UserError, match="labels of the geometry `exact`"):
        made(data_root, tmp_path, video(data_root), geometry="original")
    with pytest.raises(UserError, match="must give each process a batch of 2"):
        made(data_root, tmp_path, video(data_root), pairs_per_epoch=1).train_dataloader()
    module = made(data_root, tmp_path, video(data_root))
    module.holdout = {"more": ["a"]}
    with pytest.raises(UserError, match=r"`data\.store`: .* has no data set more, only davis, ecssd, got10k; write"):
        module.setup("fit")
    with pytest.raises(UserError, match=r"`data\.cutouts`: coco is not in `data\.train`"):
        CropStoreDataModule(str(data_root), str(tmp_path), TRAIN, {}, {"coco": 1.0})


def test_epoch_and_position_are_those_at_the_first_batch(data_root: Path, tmp_path: Path) -> None:
    module = made(data_root, tmp_path, video(data_root))
    loader = module.train_dataloader()
    loader.sampler.set_epoch(2)
    second = list(loader)[1]
    loader.sampler.set_epoch(0)
    early = iter(loader)
    loader.sampler.set_epoch(2)
    module.trainer.fit_loop.epoch_loop.batch_progress.current.completed = 1
    (batch,) = early
    assert torch.equal(batch.search, second.search)
    assert module.describe_batch(1) == f"batch 5 of the crop store {tmp_path / 'store'}"


def test_bad_frames_are_left_out_of_the_store(data_root: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    shutil.copytree(data_root, root)
    bad = sorted((root / "ecssd").rglob("*.jpg"))[0]
    bad.write_bytes(b"no picture")
    with pytest.raises(UserError, match=str(bad)):
        made(root, tmp_path / "a", video(root))
    shutil.rmtree(tmp_path / "a")
    module = made(root, tmp_path / "a", video(root), on_bad_sample="skip")
    assert f"ecssd/{bad.stem}" not in module._train_pairs.store.names
    assert re.findall(r"skipped: (\S+): ", capsys.readouterr().err) == [str(bad)]
    assert module.bad_samples.num_bad == 1


def test_it_trains_through_the_command(data_root: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG % (video(data_root), tmp_path / "weights"))
    options = [f"--config={config}", f"--data.root={data_root}", f"--data.store={tmp_path / 'store'}"]
    train.main([*options, f"--output_dir={tmp_path}"])
    assert (tmp_path / "tiny" / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "weights" / "000002.safetensors").is_file()
    metrics = (tmp_path / "tiny" / "logs" / "version_0" / "metrics.csv").read_text()
    assert all(name in metrics for name in ("train/pairs_per_s", "val/iou", "val/mask_iou"))
    # A resumed run has the losses of an undisturbed one.
    train.main([*options, f"--output_dir={tmp_path}", "--resume", "--trainer.max_epochs=2"])
    train.main([*options, f"--output_dir={tmp_path}", "--name=straight", "--trainer.max_epochs=2"])
    resumed = [row for row in read_metrics(tmp_path / "tiny", 1) if "train/loss" in row]
    straight = [row for row in read_metrics(tmp_path / "straight") if "train/loss" in row]
    assert [row["train/loss"] for row in resumed] == [row["train/loss"] for row in straight[2:]]
