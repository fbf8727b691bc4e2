from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.accelerators import CUDAAccelerator

import train
from alpharefine.errors import UserError
from alpharefine.training.checkpoint_io import WholeCheckpointIO
from alpharefine.training.task import RefineTask
from datamodules import CropStoreDataModule, PairDataModule

PROJECT = Path(train.__file__).parent
CONFIGS = sorted(path.name for path in train.CONFIGS.glob("*.yaml"))

SMALL = Path(__file__).parent / "conf" / "small.yaml"


def arguments(data_root: Path, output_dir: Path, *flags: str, **changed: object) -> list[str]:
    """The command line of a small training; a double underscore in a name stands for a point."""
    options = {"config": SMALL, "data.root": data_root, "output_dir": output_dir}
    options |= {name.replace("__", "."): value for name, value in changed.items()}
    return [f"--{name}={value}" for name, value in options.items()] + list(flags)


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def read_checkpoint(run_dir: Path, name: str = "last") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return checkpoint


def read_metrics(run_dir: Path, version: int = 0) -> list[dict[str, float]]:
    with (run_dir / "logs" / f"version_{version}" / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def assert_equal_states(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture
def not_fitted(monkeypatch) -> list[tuple[RefineTask, PairDataModule, Path | None]]:
    """Parse and build, but do not train; gets what would have been trained."""
    built = []

    def fit(self, model, datamodule, ckpt_path) -> None:
        built.append((model, datamodule, ckpt_path))

    monkeypatch.setattr(pl.Trainer, "fit", fit)
    for module in (PairDataModule, CropStoreDataModule):
        monkeypatch.setattr(module, "prepare_data", lambda _: None)
    return built


@pytest.fixture(scope="module")
def trained(data_root, tmp_path_factory) -> Path:
    """The folder of a run of two epochs with two steps each."""
    output_dir = tmp_path_factory.mktemp("trained")
    train.main(arguments(data_root, output_dir))
    return output_dir / "small"


class TestTraining:
    def test_files_of_a_run(self, trained) -> None:
        files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
        logs = "logs/version_0"
        assert {f"{logs}/metrics.csv", f"{logs}/config.yaml"} <= files
        assert {f for f in files if f.endswith(".ckpt")} == {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}

    def test_metrics(self, trained) -> None:
        rows = read_metrics(trained)
        steps = [row for row in rows if "train/loss" in row]
        assert [(row["epoch"], row["step"]) for row in steps] == [(0, 0), (0, 1), (1, 2), (1, 3)]
        for row in steps:
            weighted = row["train/loss_corner"] + 1000 * row["train/loss_mask"]
            assert row["train/loss"] == pytest.approx(weighted, rel=1e-5)
        rates = [row["lr-AdamW/pg1"] for row in rows if "lr-AdamW/pg1" in row]
        assert rates == pytest.approx([1e-3, 5e-4])
        validations = [row for row in rows if "val/iou" in row]
        assert len(validations) == 2
        assert all(0 <= row["val/iou"] <= 1 and 0 <= row["val/mask_iou"] <= 1 for row in validations)

    def test_the_resolved_configuration_is_kept(self, trained, data_root) -> None:
        config = yaml.safe_load((trained / "logs" / "version_0" / "config.yaml").read_text())
        assert config["model"]["backbone"] == "resnet18"
        assert config["model"]["lr"] == 1e-3  # a default
        assert config["data"]["init_args"]["root"] == str(data_root)
        assert config["data"]["init_args"]["batch_size"] == 2
        assert config["seed_everything"] == 0

    def test_the_kept_configuration_starts_another_run(self, trained, not_fitted) -> None:
        kept = str(trained / "logs" / "version_0" / "config.yaml")
        train.main(["--config", kept, "--name", "again"])
        ((task, *_),) = not_fitted
        assert dict(task.hparams) == read_checkpoint(trained)["hyper_parameters"]

    def test_the_checkpoint_counts_and_rebuilds(self, trained) -> None:
        checkpoint = read_checkpoint(trained)
        assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 4)
        task = RefineTask.load_from_checkpoint(trained / "checkpoints" / "last.ckpt")
        assert task.network.heads == ("corner", "mask")
        assert task.hparams["lr_step"] == 1

    def test_a_finished_run_is_not_overwritten(self, trained, data_root) -> None:
        before = (trained / "checkpoints" / "last.ckpt").stat().st_mtime_ns
        with pytest.raises(UserError, match=r"small holds a run; go on with `--resume`, or give another `--name`"):
            train.main(arguments(data_root, trained.parent))
        assert (trained / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before

    def test_not_even_where_a_launcher_numbers_the_processes(self, trained, data_root, monkeypatch) -> None:
        monkeypatch.setenv("LOCAL_RANK", "0")
        with pytest.raises(UserError, match="holds a run"):
            train.main(arguments(data_root, trained.parent))

    def test_resuming_continues_as_if_never_interrupted(self, trained, data_root, tmp_path) -> None:
        train.main(arguments(data_root, tmp_path, trainer__max_epochs=1))
        assert read_checkpoint(tmp_path / "small")["global_step"] == 2
        train.main(arguments(data_root, tmp_path, "--resume"))
        resumed, expected = read_checkpoint(tmp_path / "small"), read_checkpoint(trained)
        assert (resumed["epoch"], resumed["global_step"]) == (1, 4)
        assert_equal_states(resumed["state_dict"], expected["state_dict"], 1e-6)
        second = [row for row in read_metrics(trained) if row["step"] >= 2]
        assert read_metrics(tmp_path / "small", version=1) == [pytest.approx(row, rel=1e-4) for row in second]

    def test_there_must_be_something_to_resume(self, data_root, tmp_path) -> None:
        with pytest.raises(UserError, match=r"`--resume`: no checkpoint .*last.ckpt; check `--name`"):
            train.main(arguments(data_root, tmp_path, "--resume"))

    def test_best_and_last_checkpoint(self, data_root, tmp_path, monkeypatch) -> None:
        ious = iter([0.3, 0.5, 0.4, 0.2, 0.1])
        monkeypatch.setattr("alpharefine.metrics.BoxIoU.compute", lambda _: torch.tensor(next(ious)))
        monkeypatch.setattr(RefineTask, "forward", lambda self, batch: tiny_prediction(self, batch))
        one_step = {"data__pairs_per_epoch": 2, "data__val_pairs": 1}
        epochs = []
        for flags, max_epochs in (((), 3), (("--resume",), 5)):
            train.main(arguments(data_root, tmp_path, *flags, trainer__max_epochs=max_epochs, **one_step))
            epochs.append([read_checkpoint(tmp_path / "small", name)["epoch"] for name in ("best", "last")])
        assert epochs == [[1, 2], [1, 4]]


def tiny_prediction(task: RefineTask, batch: Any) -> Any:
    """A prediction that needs no network to run; one convolution gets a gradient."""
    from alpharefine.models import Corners, Prediction

    num = len(batch.search)
    bias = task.network.corner_head.top_left[-1].bias
    crop_xyxy = torch.tensor([[64.0, 64, 192, 192]]).expand(num, 4) + bias
    scores = torch.zeros(num, 2, 16, 16)
    return Prediction(Corners(crop_xyxy, scores), torch.zeros(num, 256, 256) + bias)


class TestConfiguration:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_every_configuration_builds(self, name, not_fitted, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        cpu = ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--wandb", "off"]
        train.main(["--config", name, *cpu])
        ((task, data, checkpoint),) = not_fitted
        assert checkpoint is None
        written = yaml.safe_load((train.CONFIGS / name).read_text())
        base = yaml.safe_load((train.CONFIGS / "base.yaml").read_text())
        for key, value in (base["model"] | written["model"]).items():
            assert task.hparams[key] == value
        assert list(task.network.heads) == task.hparams["heads"]
        of_data = base["data"]["init_args"] | written.get("data", {}).get("init_args", {})
        assert data.batch_size == of_data["batch_size"]
        assert data.root == Path(of_data["root"])
        assert data.train_sources.keys() == of_data["train"].keys()
        assert data.val_sources.keys() == of_data.get("holdout", of_data["val"]).keys()

    def test_the_expected_configurations_are_there(self) -> None:
        assert {"base.yaml", "ar34_cm.yaml", "ar18_cm.yaml", "ar34_c.yaml", "ar34_m.yaml", "demo.yaml"} <= set(CONFIGS)

    def test_the_published_recipe(self, capsys) -> None:
        config = self.printed(capsys, "--config", "ar34_cm.yaml")
        expected = {
            "backbone": "resnet34",
            "heads": ["corner", "mask"],
            "backbone_weights": "imagenet",
            "frozen_stages": -1,
            "lr": 1e-3,
            "backbone_lr_factor": 1.0,
            "weight_decay": 0.0,
            "schedule": "step",
            "lr_step": 8,
            "lr_decay": 0.5,
            "corner_loss": "mse",
            "corner_weight": 1.0,
            "mask_weight": 1000.0,
        }
        assert {key: config["model"][key] for key in expected} == expected
        assert config["trainer"]["max_epochs"] == 40
        assert config["data"]["init_args"]["pairs_per_epoch"] == 128_000
        assert config["data"]["init_args"]["batch_size"] == 32

    def test_overrides(self, capsys) -> None:
        overrides = ["--trainer.devices=4", "--trainer.num_nodes=2", "--data.batch_size=16", "--model.heads=[corner]"]
        config = self.printed(capsys, *overrides)
        assert (config["trainer"]["devices"], config["trainer"]["num_nodes"]) == ("4", 2)
        assert config["data"]["init_args"]["batch_size"] == 16
        assert config["model"]["heads"] == ["corner"]

    def printed(self, capsys, *args: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as left:
            train.main([*args, "--print_config"])
        assert left.value.code == 0
        config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
        return config

    @pytest.mark.parametrize(
        "mistake",
        [
            ["--model.backbon", "resnet18"],
            ["--trainer.max_epoch", "3"],
            ["--data.batchsize", "3"],
            ["--model.backbone", "resnet101"],
            ["--model.heads", "[corner, box]"],
            ["--model.frozen_stages", "4"],
            ["--data.batch_size", "many"],
            ["--data.train.got10k.kind", "vot"],
            ["--wandb", "maybe"],
            ["--nonsense"],
            ["--optimizer", "torch.optim.SGD"],
        ],
        ids=" ".join,
    )
    def test_unknown_keys_and_values_are_errors(self, mistake, not_fitted, capsys) -> None:
        with pytest.raises(UserError, match=mistake[0].lstrip("-").split(".")[1 if "." in mistake[0] else 0]):
            train.main(mistake)
        assert "usage" not in capsys.readouterr().err
        assert not not_fitted

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("model:\n  backbone: resnet18\n  bakbone_weights: null\n", "bakbone_weights"),
            ("model:\n  backbone: resnet18\n lr: 1\n", "Problems parsing config"),
        ],
        ids=["unknown key", "not YAML"],
    )
    def test_a_faulty_file(self, tmp_path, not_fitted, content, message) -> None:
        (tmp_path / "own.yaml").write_text(content)
        with pytest.raises(UserError, match=message):
            train.main(["--config", str(tmp_path / "own.yaml")])
        assert not not_fitted

    @pytest.mark.parametrize("words", [["--config", "ar18_cm.yaml"], ["--config=ar18_cm.yaml"], ["-c", "ar18_cm.yaml"]])
    def test_a_bare_name_is_found_from_anywhere(self, words, tmp_path, monkeypatch, capsys) -> None:
        monkeypatch.chdir(tmp_path)
        assert self.printed(capsys, *words)["model"]["backbone"] == "resnet18"

    def test_a_file_of_that_name_here_comes_first(self, tmp_path, monkeypatch, capsys) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ar18_cm.yaml").write_text("model:\n  lr: 0.5\n")
        assert self.printed(capsys, "--config", "ar18_cm.yaml")["model"]["lr"] == 0.5

    def test_later_configurations_go_over_earlier_ones(self, tmp_path, not_fitted) -> None:
        (tmp_path / "mine.yaml").write_text(
            "model: {lr: 0.5}\ntrainer: {accelerator: cpu, precision: 32-true}\nwandb: 'off'\n"
        )
        train.main(["--config", "ar18_cm.yaml", "--config", str(tmp_path / "mine.yaml")])
        ((task, *_),) = not_fitted
        assert (task.hparams["backbone"], task.hparams["lr"]) == ("resnet18", 0.5)

    @pytest.mark.parametrize(
        "words",
        ["{o} --config=demo.yaml", "{o} --config demo.yaml", "{o} -c demo.yaml", "{o} -cdemo.yaml", "-c demo.yaml {o}"],
    )
    def test_options_go_over_configurations_wherever_they_stand(self, words, capsys) -> None:
        options = "--data.batch_size 4 --model.frozen_stages -1 --model.lr=0.5"
        of_file = yaml.safe_load((train.CONFIGS / "demo.yaml").read_text())
        assert of_file["data"]["init_args"]["batch_size"] != 4
        config = self.printed(capsys, *words.format(o=options).split())
        assert config["data"]["init_args"]["batch_size"] == 4
        assert (config["model"]["frozen_stages"], config["model"]["lr"]) == (-1, 0.5)
        assert config["model"]["corner_loss"] == of_file["model"]["corner_loss"]  # the rest is the file's

    def test_a_configuration_without_a_name(self) -> None:
        with pytest.raises(UserError, match="`--config`: expected one argument; give the path of a file"):
            train.main(["--data.batch_size", "4", "--config"])

    def test_a_missing_configuration(self) -> None:
        with pytest.raises(UserError) as caught:
            train.main(["--config", "ar50.yaml"])
        message = str(caught.value)
        assert message.startswith("`--config`: no file ar50.yaml")
        assert all(name in message for name in CONFIGS)


class TestOptions:
    @pytest.mark.parametrize("option", ["trainer__logger", "trainer__default_root_dir", "checkpoint__dirpath"])
    def test_what_follows_from_other_options(self, data_root, tmp_path, option) -> None:
        value = "false" if option == "trainer__logger" else tmp_path
        name = option.replace("__", ".")
        with pytest.raises(UserError, match=rf"`--{name}` follows from `--output_dir`, `--name` and `--wandb`"):
            train.main(arguments(data_root, tmp_path, **{option: value}))

    @pytest.mark.parametrize(
        ("heads", "monitor"),
        [("[corner]", "val/iou"), ("[corner,mask]", "val/iou"), ("[mask]", "val/mask_iou")],
    )
    def test_the_best_checkpoint_is_chosen_by_what_the_heads_give(
        self, data_root, tmp_path, monkeypatch, heads, monitor
    ) -> None:
        trainers: list[pl.Trainer] = []
        monkeypatch.setattr(pl.Trainer, "fit", lambda self, *_, **__: trainers.append(self))
        train.main(arguments(data_root, tmp_path, model__heads=heads))
        monitors = [callback.monitor for callback in trainers[0].checkpoint_callbacks]
        assert [name for name in monitors if name is not None] == [monitor]

    @pytest.mark.parametrize(
        ("heads", "monitor", "measured"),
        [
            ("[mask]", "val/iou", "val/mask_iou"),
            ("[corner]", "val/mask_iou", "val/iou"),
            ("[corner,mask]", "val/loss", "val/iou, val/mask_iou"),
        ],
    )
    def test_a_metric_that_is_not_measured(self, data_root, tmp_path, not_fitted, heads, monitor, measured) -> None:
        with pytest.raises(UserError, match=rf"`--checkpoint\.monitor` must be one of {measured}, .*, got {monitor}"):
            train.main(arguments(data_root, tmp_path, model__heads=heads, checkpoint__monitor=monitor))
        assert not not_fitted

    def test_masks_are_measured_where_the_checkpoint_depends_on_them(self, data_root, tmp_path, not_fitted) -> None:
        without = {"got10k": {"kind": "got10k", "path": "got10k"}}
        for options in ({"model__heads": "[mask]"}, {"checkpoint__monitor": "val/mask_iou"}):
            with pytest.raises(UserError, match=r"`val/mask_iou`, by which .*: no data set in `data\.val` has masks"):
                train.main(arguments(data_root, tmp_path, data__val=without, **options))
        train.main(arguments(data_root, tmp_path, data__val=without))  # chosen by the boxes
        assert len(not_fitted) == 1

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("enable_checkpointing", "false", "A run keeps its log and its checkpoints"),
            ("barebones", "true", "A run keeps its log and its checkpoints"),
            ("precision", "bf16-true", "`--trainer.precision bf16-true` .*; use `bf16-mixed`"),
            ("precision", "16-true", "`--trainer.precision 16-true` .*; use `16-mixed`"),
        ],
    )
    def test_what_a_run_cannot_do(self, data_root, tmp_path, not_fitted, option, value, message) -> None:
        with pytest.raises(UserError, match=message):
            train.main(arguments(data_root, tmp_path, **{f"trainer__{option}": value}))
        assert not not_fitted

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("accelerator", "cuda", "`--trainer`: .*CUDAAccelerator"),
            ("devices", "0", r"`--trainer`: .*devices='0'"),
            ("strategy", "nothing", "`--trainer`: .*strategy='nothing'"),
        ],
    )
    def test_devices_and_strategies_that_are_not_there(
        self, data_root, tmp_path, not_fitted, monkeypatch, option, value, message
    ) -> None:
        monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: False)
        with pytest.raises(UserError, match=message):
            train.main(arguments(data_root, tmp_path, **{f"trainer__{option}": value}))
        assert not not_fitted

    @pytest.mark.parametrize(
        ("launched", "expected"),
        [({}, "GOT10k: no folder"), ({"LOCAL_RANK": "1"}, "the trainer has begun")],
        ids=["the first process", "the second one"],
    )
    def test_the_data_are_looked_at_before_other_processes_start(
        self, tmp_path, monkeypatch, launched, expected
    ) -> None:
        def begin(*_: object, **__: object) -> None:
            raise UserError("the trainer has begun")

        monkeypatch.setattr(pl.Trainer, "fit", begin)
        for name, value in launched.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=expected):
            train.main(arguments(tmp_path / "nowhere", tmp_path, trainer__devices=2, trainer__strategy="ddp"))

    def test_checkpoints_are_written_whole(self, data_root, tmp_path, monkeypatch) -> None:
        trainers = []
        monkeypatch.setattr(pl.Trainer, "fit", lambda trainer, *_, **__: trainers.append(trainer))
        train.main(arguments(data_root, tmp_path))
        assert isinstance(trainers[0].strategy.checkpoint_io, WholeCheckpointIO)

    def test_a_mask_head_needs_masks(self, data_root, tmp_path, not_fitted) -> None:
        without = {"got10k": {"kind": "got10k", "path": "got10k"}}
        with pytest.raises(UserError, match=r"The mask head would learn nothing: no data set in `data\.train`"):
            train.main(arguments(data_root, tmp_path, data__train=without))
        train.main(arguments(data_root, tmp_path, data__train=without, model__heads="[corner]"))
        assert len(not_fitted) == 1


class TestCommand:
    @pytest.mark.slow
    def test_a_frame_that_does_not_decode_is_one_line(self, tmp_path, data_root) -> None:
        root = tmp_path / "data"
        shutil.copytree(data_root, root)
        for picture in (root / "got10k").rglob("*.jpg"):
            picture.write_bytes(b"no picture")
        done = run(str(PROJECT / "train.py"), *arguments(root, tmp_path / "runs", data__num_workers=1), cwd=tmp_path)
        assert done.returncode == 2
        (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert re.fullmatch(r"error: \S+\.jpg: this picture does not decode; restore it .*", error)
        assert done.stderr.rstrip().endswith(error)

    @pytest.mark.slow
    def test_a_missing_data_root_is_one_line_and_blocks_nothing(self, tmp_path, data_root) -> None:
        script = str(PROJECT / "train.py")
        command = arguments(tmp_path / "nowhere", tmp_path / "runs")
        first = run(script, *command, cwd=tmp_path)
        assert first.returncode == 2
        assert "Traceback" not in first.stdout + first.stderr
        errors = [line for line in first.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert first.stderr.rstrip().endswith(errors[0])
        assert str(tmp_path / "nowhere" / "got10k") in errors[0]
        # With the data in place the same command gets past the check for earlier runs.
        train.main(arguments(data_root, tmp_path / "runs", trainer__limit_train_batches=1, trainer__max_epochs=1))
        assert (tmp_path / "runs" / "small" / "checkpoints" / "last.ckpt").is_file()

    @pytest.mark.slow
    def test_wandb_off_needs_no_wandb(self, tmp_path, data_root) -> None:
        program = (
            "import sys; sys.modules['wandb'] = None\n"  # an import of it would fail
            "import train; train.main(sys.argv[1:])\n"
            "print('imported:', sys.modules['wandb'], 'alpharefine.training.wandb' in sys.modules)"
        )
        one_step = {"trainer__limit_train_batches": 1, "trainer__limit_val_batches": 1, "trainer__max_epochs": 1}
        done = run("-c", program, *arguments(data_root, tmp_path, **one_step), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "imported: None False"

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["auto", "offline"])
    def test_wandb_without_a_key_keeps_the_run_on_disk(self, tmp_path, data_root, mode) -> None:
        names = ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")
        environment = {name: str(tmp_path / name) for name in names} | {"WANDB_API_KEY": ""}
        command = (str(PROJECT / "train.py"), *arguments(data_root, tmp_path, wandb=mode))
        process = run(*command, cwd=tmp_path, **environment)
        assert process.returncode == 0, process.stderr
        (folder,) = (tmp_path / "small" / "wandb").glob("offline-run-*")
        panels = sorted(folder.glob("files/media/images/val/pairs_*.png"))
        assert len(panels) == 2 * 2  # two validations, a first batch of two pairs
        content = next(folder.glob("*.wandb")).read_bytes()
        for key in (b"train/loss_corner", b"train/loss_mask", b"val/iou", b"val/mask_iou", b"val/pairs", b"lr-AdamW"):
            assert key in content
        assert b"resnet18" in content  # the configuration


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_train_as_one_does(tmp_path, data_root, not_fitted) -> None:
    options = {
        "data__pairs_per_epoch": 12,
        "trainer__max_epochs": 1,
        "trainer__precision": "64-true",  # float32 rounds differently in batches of 2 and 4: 1e-5 after three steps
        "trainer__callbacks": "tests.frozen_norms.FrozenNormsAndPlainDescent",
    }
    one = arguments(data_root, tmp_path, name="one", data__batch_size=4, **options)
    both = {"data__batch_size": 2, "trainer__devices": 2, "trainer__strategy": "ddp"}
    two = arguments(data_root, tmp_path, name="two", **both, **options)

    train.main(one)
    ((task, data, _),) = not_fitted
    has_mask = [int(data.train_dataset[i].has_mask) for i in range(12)]
    counts = [(sum(has_mask[i : i + 4 : 2]), sum(has_mask[i + 1 : i + 4 : 2])) for i in (0, 4, 8)]
    assert counts == [(0, 2), (1, 0), (1, 0)]  # masks of the first and of the second process in each step

    for command in (one, two):
        done = run(str(PROJECT / "train.py"), *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    alone, together = (read_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert alone["global_step"] == together["global_step"] == 3
    # Measured: 4e-14, after steps that move weights by more than 1e-3.
    assert_equal_states(together["state_dict"], alone["state_dict"], 1e-12)
    for part in ("backbone", "neck", "corner_head", "mask_head"):  # all have moved, by far more than that
        moves = {
            name: (alone["state_dict"][name] - start).abs().max().item()
            for name, start in task.state_dict().items()
            if name.startswith(f"network.{part}.") and start.is_floating_point()
        }
        assert max(moves.values()) > 1e-3, part
    for row, expected in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        assert row == pytest.approx(expected, rel=1e-10)
