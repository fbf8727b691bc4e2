"""Configurations and options of the training command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.accelerators import CUDAAccelerator
from pytorch_lightning.callbacks import ModelCheckpoint

from alpharefine.cli.configs import CONFIGS
from alpharefine.cli.train import HELP, main
from alpharefine.errors import UserError
from alpharefine.training.checkpoint_io import WholeCheckpointIO
from datamodules import CropStoreDataModule
from tests.training_runs import arguments, run

CONFIG_NAMES = sorted(path.name for path in CONFIGS.glob("*.yaml"))


class TestConfiguration:
    def test_the_overlay_of_the_quality_head(self, not_fitted, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        cpu = ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--wandb", "off"]
        files = ["--config", "ar18_store.yaml", "--config", "overlays/ar18_quality.yaml"]
        main([*files, "--init_from", "ar18_cm", "--data.root", str(tmp_path), *cpu])
        ((task, data, _),) = not_fitted
        assert isinstance(data, CropStoreDataModule)
        assert (data.recipe.drift_share, data.recipe.lost_share, data.recipe.max_gap) == (0.3, 0.2, 16)
        trained = {name for name, parameter in task.network.named_parameters() if parameter.requires_grad}
        assert trained == {name for name, _ in task.network.named_parameters() if name.startswith("quality_head.")}

    @pytest.mark.parametrize("name", CONFIG_NAMES)
    def test_every_configuration_builds(self, name, not_fitted, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        cpu = ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--wandb", "off"]
        main(["--config", name, *cpu])
        ((task, data, checkpoint),) = not_fitted
        assert checkpoint is None
        written = yaml.safe_load((CONFIGS / name).read_text())
        base = yaml.safe_load((CONFIGS / "base.yaml").read_text())
        for key, value in (base["model"] | written["model"]).items():
            assert task.hparams[key] == value
        assert list(task.network.heads) == task.hparams["heads"]
        of_data = base["data"]["init_args"] | written.get("data", {}).get("init_args", {})
        assert data.batch_size == of_data["batch_size"]
        assert data.root == Path(of_data["root"])
        assert data.train_sources.keys() == of_data["train"].keys()
        assert data.val_sources.keys() == of_data.get("holdout", of_data["val"]).keys()

    def test_the_expected_configurations_are_there(self) -> None:
        assert {"base.yaml", "ar34_cm.yaml", "ar18_cm.yaml", "ar34_c.yaml", "ar34_m.yaml", "demo.yaml"} <= set(
            CONFIG_NAMES
        )

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
            main([*args, "--print_config"])
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
            main(mistake)
        assert "usage" not in capsys.readouterr().err
        assert not not_fitted

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("model:\n  backbone: resnet18\n  bakbone_weights: null\n", "bakbone_weights"),
            (
                "data: {init_args: {train: {a: {kind: gotten, path: a}}}}",
                r"^`data\.train\.kind`: Expected a Literal\['got10k', .*\]\. Got value: gotten; `--help` lists the",
            ),
            (
                "data: {init_args: {augmentation: {bluring: 1}}}",
                "^`data`: Group 'augmentation' does not accept option 'bluring'; `--help` lists the",
            ),
            (
                "data: {init_args: {min_frames: few}}",
                r"^`data\.min_frames`: Expected a int, or Expected a NoneType\. Got value: few; `--help` lists the",
            ),
            ("model: {lr: high}", r"^`model\.lr`: Expected a float\. Got value: high; `--help` lists the"),
            ("model:\n  backbone: resnet18\n lr: 1\n", r"`--config`: .*own\.yaml is not a YAML file"),
        ],
        ids=["unknown key", "unknown kind", "unknown option of a group", "several types", "not a number", "not YAML"],
    )
    def test_a_faulty_file(self, tmp_path, not_fitted, content, message) -> None:
        (tmp_path / "own.yaml").write_text(content)
        with pytest.raises(UserError, match=message):
            main(["--config", str(tmp_path / "own.yaml")])
        assert not not_fitted

    def test_a_value_that_the_data_module_refuses(self, not_fitted) -> None:
        with pytest.raises(UserError, match=r"^`data\.batch_size` must be at least 1, got 0\.$"):
            main(["--data.batch_size", "0"])
        with pytest.raises(UserError, match=r"^`data\.holdout`: no_set is not in `data\.train`; correct its name\.$"):
            main(["--config", "ar18_store.yaml", "--data.holdout", "{no_set: [cat]}"])
        assert not not_fitted

    @pytest.mark.parametrize(("given", "num_processes"), [(None, 1), ("90", 2)])
    def test_more_threads_than_cores_are_reported(
        self, data_root, tmp_path, not_fitted, monkeypatch, caplog, given, num_processes
    ) -> None:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 90)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        main(arguments(data_root, tmp_path, trainer__devices=2, trainer__strategy="ddp"))
        assert len(not_fitted) == 1
        assert any(f"{90 * num_processes} computing threads share" in message for message in caplog.messages)

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
        main(["--config", "ar18_cm.yaml", "--config", str(tmp_path / "mine.yaml")])
        ((task, *_),) = not_fitted
        assert (task.hparams["backbone"], task.hparams["lr"]) == ("resnet18", 0.5)

    @pytest.mark.parametrize(
        "words",
        ["{o} --config=demo.yaml", "{o} --config demo.yaml", "{o} -c demo.yaml", "{o} -cdemo.yaml", "-c demo.yaml {o}"],
    )
    def test_options_go_over_configurations_wherever_they_stand(self, words, capsys) -> None:
        options = "--data.batch_size 4 --model.frozen_stages -1 --model.lr=0.5"
        of_file = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
        assert of_file["data"]["init_args"]["batch_size"] != 4
        config = self.printed(capsys, *words.format(o=options).split())
        assert config["data"]["init_args"]["batch_size"] == 4
        assert (config["model"]["frozen_stages"], config["model"]["lr"]) == (-1, 0.5)
        assert config["model"]["corner_loss"] == of_file["model"]["corner_loss"]  # the rest is the file's

    def test_a_configuration_without_a_name(self) -> None:
        with pytest.raises(UserError, match="`--config`: expected one argument; give the path of a file"):
            main(["--data.batch_size", "4", "--config"])

    def test_a_missing_configuration(self) -> None:
        with pytest.raises(UserError) as caught:
            main(["--config", "ar50.yaml"])
        message = str(caught.value)
        assert message.startswith("`--config`: no file ar50.yaml")
        assert all(name in message for name in CONFIG_NAMES)


class TestOptions:
    @pytest.mark.parametrize("option", ["trainer__logger", "trainer__default_root_dir", "checkpoint__dirpath"])
    def test_what_follows_from_other_options(self, data_root, tmp_path, option) -> None:
        value = "false" if option == "trainer__logger" else tmp_path
        name = option.replace("__", ".")
        with pytest.raises(UserError, match=rf"`--{name}` follows from `--output_dir`, `--name` and `--wandb`"):
            main(arguments(data_root, tmp_path, **{option: value}))

    @pytest.mark.parametrize(
        ("heads", "monitor"),
        [("[corner]", "val/iou"), ("[corner,mask]", "val/iou"), ("[mask]", "val/mask_iou")],
    )
    def test_the_best_checkpoint_is_chosen_by_what_the_heads_give(
        self, data_root, tmp_path, monkeypatch, heads, monitor
    ) -> None:
        trainers: list[pl.Trainer] = []
        monkeypatch.setattr(pl.Trainer, "fit", lambda self, *_, **__: trainers.append(self))
        main(arguments(data_root, tmp_path, model__heads=heads))
        chosen = [each for each in trainers[0].checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        assert [callback.monitor for callback in chosen] == [monitor]

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
            main(arguments(data_root, tmp_path, model__heads=heads, checkpoint__monitor=monitor))
        assert not not_fitted

    def test_masks_are_measured_where_the_checkpoint_depends_on_them(self, data_root, tmp_path, not_fitted) -> None:
        without = {"got10k": {"kind": "got10k", "path": "got10k"}}
        for options in ({"model__heads": "[mask]"}, {"checkpoint__monitor": "val/mask_iou"}):
            with pytest.raises(
                UserError, match=r"`data\.val` must hold a data set with masks to measure `val/mask_iou`"
            ):
                main(arguments(data_root, tmp_path, data__val=without, **options))
        main(arguments(data_root, tmp_path, data__val=without))  # chosen by the boxes
        assert len(not_fitted) == 1

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("enable_checkpointing", "false", "A run keeps its log and its checkpoints"),
            ("barebones", "true", "A run keeps its log and its checkpoints"),
            ("accumulate_grad_batches", "0", "`--trainer.accumulate_grad_batches` must be at least 1, got 0"),
            ("gradient_clip_val", "-1", "`--trainer.gradient_clip_val` must not be negative, got -1; null"),
            ("precision", "bf16-true", "`--trainer.precision` must .*, got bf16-true; use `bf16-mixed`"),
            ("precision", "16-true", "`--trainer.precision` must .*, got 16-true; use `16-mixed`"),
        ],
    )
    def test_what_a_run_cannot_do(self, data_root, tmp_path, not_fitted, option, value, message) -> None:
        with pytest.raises(UserError, match=message):
            main(arguments(data_root, tmp_path, **{f"trainer__{option}": value}))
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
            main(arguments(data_root, tmp_path, **{f"trainer__{option}": value}))
        assert not not_fitted

    @pytest.mark.parametrize(
        ("launched", "expected"),
        [({}, "GOT10k: folder .* does not exist"), ({"LOCAL_RANK": "1"}, "the trainer has begun")],
        ids=["the first process", "the second one"],
    )
    def test_the_data_are_looked_at_before_other_processes_start(
        self, tmp_path, monkeypatch, launched, expected
    ) -> None:
        def begin(*_: object, **__: object) -> None:
            raise UserError("the trainer has begun")

        monkeypatch.setattr(pl.Trainer, "fit", begin)
        monkeypatch.setattr(rank_zero_only, "rank", 0, raising=False)  # Lightning sets it for the whole process
        for name, value in launched.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=expected):
            main(arguments(tmp_path / "nowhere", tmp_path, trainer__devices=2, trainer__strategy="ddp"))

    def test_checkpoints_are_written_whole(self, data_root, tmp_path, monkeypatch) -> None:
        trainers = []
        monkeypatch.setattr(pl.Trainer, "fit", lambda trainer, *_, **__: trainers.append(trainer))
        main(arguments(data_root, tmp_path))
        assert isinstance(trainers[0].strategy.checkpoint_io, WholeCheckpointIO)

    def test_a_mask_head_needs_masks(self, data_root, tmp_path, not_fitted) -> None:
        without = {"got10k": {"kind": "got10k", "path": "got10k"}}
        with pytest.raises(UserError, match=r"`data\.train` must hold a data set with masks to train the mask head"):
            main(arguments(data_root, tmp_path, data__train=without))
        main(arguments(data_root, tmp_path, data__train=without, model__heads="[corner]"))
        assert len(not_fitted) == 1


class TestHelp:
    @pytest.mark.parametrize("words", [["--help"], ["-h"], ["validate", "--help"], ["--config", "none.yaml", "--help"]])
    def test_the_short_help(self, words, capsys) -> None:
        main(words)
        assert capsys.readouterr().out == HELP

    def test_it_names_the_options_that_there_are(self) -> None:
        for option in ("--config", "--name", "--output_dir", "--resume", "--init_from", "--wandb", "--help_all"):
            assert f" {option}" in HELP

    def test_it_waits_for_no_framework(self, tmp_path) -> None:
        program = (
            "import sys; from alpharefine.cli.train import main; main(['--help'])\n"
            "print(sorted({'torch', 'numpy', 'pytorch_lightning', 'jsonargparse'} & set(sys.modules)))"
        )
        done = run("-c", program, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{HELP}[]\n"

    def test_all_values(self, capsys) -> None:
        with pytest.raises(SystemExit) as left:
            main(["--help_all"])
        assert left.value.code == 0
        printed = capsys.readouterr().out
        assert all(option in printed for option in ("--model.backbone", "--trainer.max_epochs", "--init_from"))
