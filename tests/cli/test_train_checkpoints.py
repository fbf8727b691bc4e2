"""The training command with checkpoints: `--init_from` and `validate`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from alpharefine.checkpoints.exported import save_exported
from alpharefine.cli.train import main
from alpharefine.errors import UserError
from alpharefine.metrics import BoxIoU
from alpharefine.training.task import RefineTask
from datamodules import PairDataModule
from datamodules.pairs import Source
from tests.training_runs import SMALL, arguments


class TestInitFrom:
    def test_the_backbone_weights_are_not_needed(self, data_root, tmp_path, checkpoint, not_fitted, capsys) -> None:
        options = {"init_from": checkpoint, "model__backbone_weights": "imagenet"}
        main(arguments(data_root, tmp_path, **options))
        ((task, _, resumed),) = not_fitted
        assert resumed is None
        assert task.hparams["backbone_weights"] is None
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert all(torch.equal(value, state[name]) for name, value in task.state_dict().items())
        assert capsys.readouterr().out == (
            f"{checkpoint}: checkpoint of train.py, epoch None: loaded backbone, neck, corner_head, mask_head; "
            "initialized nothing; unused nothing\n"
        )

    def test_heads_that_differ(self, data_root, tmp_path, checkpoint, not_fitted, capsys) -> None:
        options = {"init_from": checkpoint, "model__corner_head": "shared_tower", "model__mask_head": "simple"}
        main(arguments(data_root, tmp_path, **options))
        assert capsys.readouterr().out.endswith(
            "loaded backbone, neck; initialized corner_head shared_tower, mask_head simple; unused corner_head towers, "
            "mask_head pyramid\n"
        )
        ((task, *_),) = not_fitted
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        for name, value in task.state_dict().items():
            if name.startswith(("network.backbone.", "network.neck.")):
                assert torch.equal(value, state[name])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model__backbone": "resnet34"}, "`--init_from`: .* the backbone of .*; use `--model.backbone resnet18`"),
            ({"model__neck": "naive"}, "the neck of .*; use `--model.neck pixel --model.spatial_attention none`"),
        ],
    )
    def test_another_backbone_or_neck(self, data_root, tmp_path, checkpoint, not_fitted, options, message) -> None:
        with pytest.raises(UserError, match=message):
            main(arguments(data_root, tmp_path, init_from=checkpoint, **options))
        assert not not_fitted

    def test_a_file_that_is_no_checkpoint(self, data_root, tmp_path, not_fitted) -> None:
        with pytest.raises(UserError, match=r"`--init_from`: no file nowhere.ckpt; give a checkpoint"):
            main(arguments(data_root, tmp_path, init_from="nowhere.ckpt"))
        assert not not_fitted

    def test_not_with_resume(self, data_root, tmp_path, checkpoint) -> None:
        last = tmp_path / "small" / "checkpoints" / "last.ckpt"
        last.parent.mkdir(parents=True)
        last.write_bytes(checkpoint.read_bytes())
        with pytest.raises(UserError, match=r"`--init_from` starts a run and `--resume` continues one .*; leave"):
            main(arguments(data_root, tmp_path, "--resume", init_from=checkpoint))


class TestValidate:
    def test_the_checkpoint_determines_the_network(self, data_root, tmp_path, monkeypatch, capsys) -> None:
        # A network in another geometry than the configuration's, without its mask head.
        task = RefineTask("mobilenet_v3_small", ("corner",), backbone_weights=None, geometry="original")
        path, only_val = tmp_path / "other.safetensors", tmp_path / "data"
        save_exported(task.network, path)
        shutil.copytree(data_root, only_val, ignore=shutil.ignore_patterns("lasot", "davis2016", "ecssd"))
        monkeypatch.chdir(tmp_path)
        before = set(tmp_path.iterdir())
        printed = validated(capsys, only_val, path)
        assert printed[0] == f"{path}: exported weights; {task.network.config}"
        assert [line.split()[0] for line in printed[1:]] == ["val/iou"]
        assert set(tmp_path.iterdir()) == before, "no folder of a run"
        data = PairDataModule(
            str(data_root),
            {},
            yaml_sources(SMALL),
            batch_size=2,
            num_workers=0,
            val_pairs=4,
            geometry="original",
        )
        metric = BoxIoU()
        for i in range(4):
            pair = data.val_dataset[i]
            with torch.no_grad():
                network = task.network.eval()
                kernel = network.encode_template(pair.template[None], pair.template_xyxy[None])
                corners, *_ = network(pair.search[None], kernel)
            metric.update(corners.crop_xyxy, pair.target_xyxy[None])
        assert float(printed[1].split()[1]) == pytest.approx(metric.compute().item(), abs=1e-4)

    def test_both_heads(self, data_root, checkpoint, capsys) -> None:
        printed = validated(capsys, data_root, checkpoint)
        assert [line.split()[0] for line in printed[1:]] == ["val/iou", "val/mask_iou"]
        assert all(0 <= float(line.split()[1]) <= 1 for line in printed[1:])

    def test_without_masks(self, data_root, checkpoint, capsys) -> None:
        without = '{"got10k": {"kind": "got10k", "path": "got10k", "options": {"split": "holdout"}}}'
        printed = validated(capsys, data_root, checkpoint, f"--data.val={without}")
        assert printed[2] == "val/mask_iou not measured: `data.val` has no masks"

    def test_the_checkpoint_must_be_given(self, data_root) -> None:
        with pytest.raises(UserError, match="`validate` requires `--ckpt_path`, got none"):
            main(["validate", "--config", str(SMALL), f"--data.root={data_root}"])

    @pytest.mark.parametrize(
        "option", ["--model.backbone=resnet18", "--resume", "--name=a", "--checkpoint.monitor=val/iou"]
    )
    def test_options_without_effect(self, data_root, checkpoint, option) -> None:
        with pytest.raises(UserError, match=f"`{option.partition('=')[0]}` has no effect on `validate`"):
            main(["validate", f"--ckpt_path={checkpoint}", f"--data.root={data_root}", option])


def validated(capsys, data_root: Path, ckpt_path: Path, *flags: str) -> list[str]:
    """Printed lines of a validation."""
    main(["validate", f"--config={SMALL}", f"--data.root={data_root}", "--ckpt_path", str(ckpt_path), *flags])
    lines: list[str] = capsys.readouterr().out.splitlines()
    return lines


def yaml_sources(path: Path) -> dict[str, Source]:
    val = yaml.safe_load(path.read_text())["data"]["init_args"]["val"]
    return {name: Source(**options) for name, options in val.items()}
