from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from alpharefine.data import reader
from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.bad_samples import BadSamples
from alpharefine.data.pairs import PairBatch
from alpharefine.errors import UserError
from datamodules import COCODataModule, GOT10kDataModule, LaSOTDataModule, PairDataModule, Source
from tests.training_runs import run

HOLDOUT = {"got10k": Source("got10k", "got10k", options={"split": "holdout"})}
ALL = {
    "got10k": Source("got10k", "got10k", options={"split": "train_without_holdout"}),
    "lasot": Source("lasot", "lasot"),
    "coco": Source("coco", "coco", weight=2),
    "davis": Source("mask_video", "davis2016", options={"min_area": 50}),
    "saliency": Source("saliency", "ecssd"),
}
SMALL = {"batch_size": 4, "num_workers": 0, "pairs_per_epoch": 12, "val_pairs": 6}


class _Progress:
    """Progress of a trainer that has done no batch."""

    def __init__(self) -> None:
        self.current = SimpleNamespace(completed=0)


def ready(module: PairDataModule, world_size: int = 1, rank: int = 0) -> PairDataModule:
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=_Progress()))
    module.trainer = SimpleNamespace(
        world_size=world_size, global_rank=rank, accelerator=None, validating=False, fit_loop=fit_loop
    )
    module.prepare_data()
    return module


def crops(loader: Iterable[PairBatch]) -> list[bytes]:
    """Return the search crops of a loader."""
    return [crop.numpy().tobytes() for batch in loader for crop in batch.search]


def epoch_of(loader: DataLoader[PairBatch], epoch: int) -> list[bytes]:
    loader.sampler.set_epoch(epoch)
    return crops(loader)


class TestPlace:
    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_epoch_and_position_are_those_at_the_first_batch(self, data_root: Path, num_workers: int) -> None:
        module = ready(PairDataModule(str(data_root), ALL, HOLDOUT, **(SMALL | {"num_workers": num_workers})))
        loader = module.train_dataloader()
        whole = epoch_of(loader, 3)
        loader.sampler.set_epoch(0)
        early = iter(loader)  # as Lightning does, before it restores the epoch and the position
        loader.sampler.set_epoch(3)
        module.trainer.fit_loop.epoch_loop.batch_progress.current.completed = 1
        assert crops(early) == whole[4:]
        module.trainer.fit_loop.epoch_loop.batch_progress.current.completed = 0
        assert crops(loader) == whole
        assert len(loader) == 3

    def test_validation_starts_at_its_beginning(self, data_root: Path) -> None:
        module = ready(PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL))
        module.trainer.fit_loop.epoch_loop.batch_progress.current.completed = 1
        assert len(crops(module.val_dataloader())) == 6

    def test_a_batch_is_described_by_its_frames(self, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ready(PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL), world_size=2, rank=1)
        module.train_dataloader().sampler.set_epoch(1)
        read: list[Path] = []
        read_picture = reader.read_picture
        monkeypatch.setattr(reader, "read_picture", lambda path: read.append(path) or read_picture(path))
        text = module.describe_batch(0)
        assert re.match(r"pairs 13: .*; 15: .*; 17: .*; and 1 more, to pair 19$", text)
        for index in (13, 15, 17):
            module.train_dataset[index]
        assert all(str(path) in text for path in read)


def test_only_training_frames_are_decoded_at_reduced_resolution(data_root: Path) -> None:
    module = PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL)
    assert all(source.reduced for source in module.train_dataset.sources)
    assert not any(source.reduced for source in module.val_dataset.sources)


class TestBadSamples:
    @pytest.fixture
    def damaged(self, data_root: Path, tmp_path: Path) -> Path:
        """Copy of the LaSOT videos."""
        shutil.copytree(data_root / "lasot", tmp_path / "lasot")
        return tmp_path

    def module(self, root: Path, **changed: object) -> PairDataModule:
        sources = {"lasot": Source("lasot", "lasot")}
        return PairDataModule(str(root), sources, sources, **(SMALL | {"pairs_per_epoch": 40} | changed))

    def frames(self, root: Path) -> list[Path]:
        return sorted((root / "lasot").rglob("*.jpg"))

    def test_an_error_by_default(self, damaged: Path) -> None:
        for path in self.frames(damaged):
            path.write_bytes(b"")
        with pytest.raises(UserError, match=r"\.jpg: "):
            list(ready(self.module(damaged)).train_dataloader())

    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_skip(self, damaged: Path, capsys, num_workers: int) -> None:
        whole = crops(ready(self.module(damaged)).train_dataloader())
        module = ready(self.module(damaged, on_bad_sample="skip", num_workers=num_workers))
        read = module.train_dataset.describe(5).split(" and ")[0]
        Path(read).write_bytes(b"no picture")
        affected = [n for n in range(40) if read in module.train_dataset.describe(n)]
        assert 1 <= len(affected) < 10
        skipped = crops(module.train_dataloader())
        assert len(skipped) == 40
        assert [n for n in range(40) if skipped[n] != whole[n]] == affected
        assert module.bad_samples.num_bad >= len(affected)
        assert module.bad_samples.num_read == 40 + module.bad_samples.num_bad
        assert re.findall(r"skipped: (\S+): ", capsys.readouterr().err) == [read]
        assert crops(ready(self.module(damaged, on_bad_sample="skip")).train_dataloader()) == skipped

    def test_too_many(self, damaged: Path) -> None:
        for path in self.frames(damaged)[::4]:
            path.write_bytes(b"")
        module = ready(self.module(damaged, on_bad_sample="skip"))
        with pytest.raises(
            UserError,
            match=r"`data\.on_bad_sample`: \d+ of \d+ samples, from [4-9] files, .*; at most 0\.1%",
        ):
            list(module.train_dataloader())

    def test_all_bad(self, damaged: Path) -> None:
        loader = ready(self.module(damaged, on_bad_sample="skip")).train_dataloader()
        for path in self.frames(damaged):
            path.unlink()
        with pytest.raises(UserError, match=r"\.jpg"):
            list(loader)

    def test_the_share(self, capsys) -> None:
        counted = BadSamples("skip")
        for n in range(3):
            counted.add(1, [f"{n}.jpg: bad"])  # a few files are tolerated in a short run
        counted.add(10_000, ["0.jpg: bad"])
        counted.add(10, ["3.jpg: bad"] * 5)
        assert (counted.num_read, counted.num_bad) == (10_013, 9)
        assert len(capsys.readouterr().err.splitlines()) == 4
        with pytest.raises(UserError, match=r"11 of 10015 samples, from 5 files, .* The first: 0\.jpg: bad"):
            counted.add(2, ["4.jpg: bad"] * 2)


class TestBatches:
    def test_shapes_types_and_ranges(self, data_root: Path) -> None:
        module = ready(PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL))
        batches = list(module.train_dataloader())
        assert len(batches) == 3
        for batch in batches:
            assert isinstance(batch, PairBatch)
            assert batch.template.shape == batch.search.shape == (4, 3, 256, 256)
            assert batch.template.dtype == batch.search.dtype == batch.mask.dtype == torch.uint8
            assert (batch.target_xyxy.shape, batch.target_xyxy.dtype) == ((4, 4), torch.float32)
            assert (batch.mask.shape, batch.has_mask.shape, batch.has_mask.dtype) == ((4, 256, 256), (4,), torch.bool)
            assert 0 <= batch.target_xyxy.min() <= batch.target_xyxy.max() <= 256
            assert (batch.target_xyxy[:, 2:] > batch.target_xyxy[:, :2]).all()
            assert batch.mask.max() <= 1
            assert torch.equal(batch.mask.flatten(1).any(1), batch.has_mask)
        assert {bool(flag) for batch in batches for flag in batch.has_mask} == {True, False}

    def test_epochs_differ_and_a_fresh_module_repeats_them(self, data_root: Path) -> None:
        first, second = (
            ready(PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL)).train_dataloader() for _ in range(2)
        )
        epochs = [epoch_of(first, epoch) for epoch in (0, 1)]
        assert len(set(epochs[0] + epochs[1])) == 24
        assert [epoch_of(second, epoch) for epoch in (1, 0)] == epochs[::-1]

    def test_another_seed_trains_on_other_pairs_and_validates_on_the_same(self, data_root: Path) -> None:
        one, other = (ready(PairDataModule(str(data_root), ALL, HOLDOUT, seed=seed, **SMALL)) for seed in (0, 1))
        assert not set(crops(one.train_dataloader())) & set(crops(other.train_dataloader()))
        assert crops(one.val_dataloader()) == crops(other.val_dataloader())

    def test_validation_is_the_same_each_time(self, data_root: Path) -> None:
        module = ready(PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL))
        loader = module.val_dataloader()
        first = epoch_of(loader, 0)
        assert len(first) == 6
        assert epoch_of(loader, 3) == first == crops(module.val_dataloader())

    def test_validation_jitters_and_changes_no_color(self, data_root: Path) -> None:
        wild = PairAugmentation(gray_prob=1, brightness=1, contrast=1, blur_prob=1, flip_prob=1)
        colorful = ready(PairDataModule(str(data_root), ALL, HOLDOUT, augmentation=wild, **SMALL))
        plain = ready(
            PairDataModule(str(data_root), ALL, HOLDOUT, augmentation=PairAugmentation().jitter_only(), **SMALL)
        )
        assert crops(colorful.val_dataloader()) == crops(plain.val_dataloader())
        assert len(set(crops(plain.val_dataloader()))) == 6

    def test_processes_share_an_epoch(self, data_root: Path) -> None:
        parts = [
            ready(PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL), world_size=2, rank=rank) for rank in (0, 1)
        ]
        alone = ready(PairDataModule(str(data_root), ALL, HOLDOUT, **{**SMALL, "batch_size": 2}))
        train = [crops(part.train_dataloader()) for part in parts]
        assert [len(part) for part in train] == [4, 4]  # 6 each, and the last batch of 2 is dropped
        assert set(train[0] + train[1]) < set(crops(alone.train_dataloader()))
        val = [crops(part.val_dataloader()) for part in parts]
        assert sorted(val[0] + val[1]) == sorted(crops(alone.val_dataloader()))


class Recorder(pl.LightningModule):
    """Record the search crops of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[bytes]]] = {"train": [], "val": []}

    def on_train_epoch_start(self) -> None:
        self.seen["train"].append([])

    def on_validation_epoch_start(self) -> None:
        self.seen["val"].append([])

    def training_step(self, batch: PairBatch) -> torch.Tensor:
        self.seen["train"][-1] += crops([batch])
        return self.weight * 0

    def validation_step(self, batch: PairBatch) -> None:
        self.seen["val"][-1] += crops([batch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_moves_the_epochs_on(data_root: Path) -> None:
    module, recorder = PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL), Recorder()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, enable_model_summary=False, **quiet)
    trainer.fit(recorder, datamodule=module)
    train, val = recorder.seen["train"], recorder.seen["val"]
    assert len(set(train[0] + train[1])) == 24
    assert val[0] == val[1]
    assert train[0] == crops(ready(PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL)).train_dataloader())


class TestOneDataSet:
    def test_got10k(self, data_root: Path, tmp_path: Path) -> None:
        shutil.copytree(data_root / "got10k", tmp_path / "got10k")
        shutil.copytree(data_root / "got10k/train", tmp_path / "got10k/val")
        module = ready(GOT10kDataModule(str(tmp_path / "got10k"), **SMALL))
        folders = [dataset.sources[0].reader.folder.name for dataset in (module.train_dataset, module.val_dataset)]
        assert folders == ["train", "val"]
        assert len(crops(module.train_dataloader())) == 12
        assert len(crops(module.val_dataloader())) == 6

    def test_lasot(self, data_root: Path) -> None:
        val = {"got10k": Source("got10k", "../got10k", options={"split": "holdout"})}
        module = ready(LaSOTDataModule(str(data_root / "lasot"), val, **SMALL))
        assert module.train_dataset.sources[0].reader.names == ["ellipse-1", "polygon-2", "blob-3"]
        assert len(crops(module.train_dataloader())) == 12
        assert len(crops(module.val_dataloader())) == 6

    def test_coco(self, data_root: Path) -> None:
        module = ready(COCODataModule(str(data_root / "coco"), **SMALL))
        images = [d.sources[0].reader.image_folder.name for d in (module.train_dataset, module.val_dataset)]
        assert images == ["train2017", "val2017"]
        assert all(batch.has_mask.all() for batch in module.train_dataloader())

    def test_coco_2014(self, data_root: Path) -> None:
        with pytest.raises(UserError, match=r"COCO: .*train2014 does not exist"):
            COCODataModule(str(data_root / "coco"), year=2014).prepare_data()


class TestMistakes:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            pytest.param(
                Source("got10k", "got10k", options={"year": 2017}),
                r"`data\.\w+\.mine` \(`got10k`\): `options` must be one of split, missing, got 'year'",
                id="an option of another reader",
            ),
            pytest.param(
                Source("coco", "coco", options={"root": "x"}),
                r"\(`coco`\): `options` must be one of split, year, masks, annotations, images, got 'root'",
                id="the root as an option",
            ),
            pytest.param(
                Source("lasot", "lasot", options={"split": "val"}),
                "LaSOT: `split` must be one of train, test, got 'val'",
                id="a split that there is not",
            ),
            pytest.param(
                Source("imagenet", "imagenet"),
                r"`data\.\w+\.mine`: `kind` must be one of got10k, lasot, .*, imagenet_det, got 'imagenet'",
                id="a kind that there is not",
            ),
            pytest.param(
                Source("got10k", "got"), r"GOT10k: folder .*/got does not exist; check the data root", id="a wrong path"
            ),
            pytest.param(
                Source("got10k", "got10k", weight=0),
                "The `weight` of a data set must be finite and not negative",
                id="no weight",
            ),
        ],
    )
    @pytest.mark.parametrize("place", ["train", "val"])
    def test_sources(self, data_root: Path, source: Source, message: str, place: str) -> None:
        sources = {"train": HOLDOUT, "val": HOLDOUT, place: {"mine": source}}
        with pytest.raises(UserError, match=message):
            PairDataModule(str(data_root), **sources).prepare_data()

    @pytest.mark.parametrize(("train", "val"), [({}, HOLDOUT), (HOLDOUT, {})])
    def test_no_source(self, data_root: Path, train: dict[str, Source], val: dict[str, Source]) -> None:
        with pytest.raises(UserError, match=r"`data\.train` and `data\.val` must each contain at least one data set"):
            PairDataModule(str(data_root), train, val).prepare_data()

    @pytest.mark.parametrize(
        ("name", "value", "least"),
        [("batch_size", 0, 1), ("num_workers", -1, 0), ("pairs_per_epoch", 0, 1), ("val_pairs", -3, 1)],
    )
    def test_numbers(self, data_root: Path, name: str, value: int, least: int) -> None:
        with pytest.raises(UserError, match=rf"`data\.{name}` must be at least {least}, got {value}\."):
            PairDataModule(str(data_root), HOLDOUT, HOLDOUT, **(SMALL | {name: value}))

    def test_coco_without_its_masks(self, data_root: Path) -> None:
        sources = {"coco": Source("coco", "coco", options={"masks": False})}
        module = ready(PairDataModule(str(data_root), sources, HOLDOUT, **SMALL))
        assert not module.has_masks
        assert not any(batch.has_mask.any() or batch.mask.any() for batch in module.train_dataloader())
        assert PairDataModule(str(data_root), {"coco": Source("coco", "coco")}, HOLDOUT, **SMALL).has_masks

    def test_lasots_test_sequences_are_not_trained_on(self, data_root: Path) -> None:
        test = {"lasot": Source("lasot", "lasot", options={"split": "test"})}
        PairDataModule(str(data_root), HOLDOUT, test).prepare_data()
        with pytest.raises(
            UserError, match=r"`data\.train\.lasot`: the LaSOT test split must not be used for training"
        ):
            PairDataModule(str(data_root), test, HOLDOUT).prepare_data()

    def test_an_epoch_of_less_than_a_batch(self, data_root: Path) -> None:
        module = ready(PairDataModule(str(data_root), ALL, HOLDOUT, **SMALL), world_size=4)
        with pytest.raises(
            UserError, match=r"must give each process at least one batch of 4 pairs, got 3; increase it"
        ):
            module.train_dataloader()
        assert len(module.val_dataloader()) == 1

    def test_augmentation(self, data_root: Path) -> None:
        with pytest.raises(UserError, match=r"`augmentation\.flip_prob` must be in 0\.\.1\.0, got 2\."):
            PairDataModule(str(data_root), HOLDOUT, HOLDOUT, augmentation=PairAugmentation(flip_prob=2)).prepare_data()

    def test_max_gap(self, data_root: Path) -> None:
        with pytest.raises(UserError, match="`max_gap` must be at least 1 frame, got 0"):
            PairDataModule(str(data_root), HOLDOUT, HOLDOUT, max_gap=0).prepare_data()


class TestPaths:
    def test_home_absolute_paths_and_the_cache(
        self, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(data_root.parent))
        sources = {"got10k": Source("got10k", str(data_root / "got10k"))}
        module = PairDataModule("~", sources, sources, cache_dir=str(tmp_path / "mine"), **SMALL)
        module.prepare_data()
        assert len(list((tmp_path / "mine/index").iterdir())) == 1


def test_a_process_ends_although_its_workers_ignore_the_first_sigterm(tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
from multiprocessing import active_children
from torch.utils.data import DataLoader
from datamodules.pairs import _end_workers_at_exit, _start_worker
_end_workers_at_exit()
iterator = iter(DataLoader(range(8), num_workers=2, worker_init_fn=_start_worker, persistent_workers=True))
next(iterator)
os.kill(active_children()[0].pid, signal.SIGKILL)
try:
    time.sleep(60)
except RuntimeError:  # torch reports the killed worker
    sys.exit(2)
"""
    done = run("-c", program, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
