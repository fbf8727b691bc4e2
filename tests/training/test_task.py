from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.data.pairs import PairBatch
from alpharefine.errors import UserError
from alpharefine.models import Corners, Prediction
from alpharefine.training.task import RefineTask

STAGES = ["stem", "layer1", "layer2", "layer3"]


def random_batch(seed: int, has_mask: tuple[bool, ...] = (True, False), side: int = 256) -> PairBatch:
    rng = torch.Generator().manual_seed(seed)
    num = len(has_mask)
    corners = torch.rand(num, 2, 2, generator=rng).sort(dim=1).values * side
    return PairBatch(
        template=torch.randint(0, 256, (num, 3, side, side), generator=rng, dtype=torch.uint8),
        template_xyxy=torch.tensor([0.25, 0.25, 0.75, 0.75]).mul(side).expand(num, 4),
        search=torch.randint(0, 256, (num, 3, side, side), generator=rng, dtype=torch.uint8),
        target_xyxy=corners.flatten(1),
        mask=torch.randint(0, 2, (num, side, side), generator=rng, dtype=torch.uint8),
        has_mask=torch.tensor(has_mask),
    )


def loader(*batches: PairBatch) -> DataLoader[PairBatch]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def make_trainer(root: Path, **kwargs: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "default_root_dir": root,
    }
    return pl.Trainer(**(defaults | kwargs))


class TinyNetwork(nn.Module):
    """Small backbone and head that learn quickly."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(3, 4), nn.Linear(4, 4)

    def encode_template(self, template: Tensor, _target_xyxy: Tensor) -> Tensor:
        return template.float().mean(dim=(2, 3)) / 255

    def forward(self, search: Tensor, kernel: Tensor, heads: object = None) -> Prediction:  # noqa: ARG002
        crop_xyxy = self.head(self.backbone(kernel))
        return Prediction(Corners(crop_xyxy, torch.zeros(len(search), 2, 16, 16)), None)


class Rates(pl.Callback):
    """Learning rates of all groups at each step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def rates(
    tmp_path: Path, num_epochs: int, num_batches: int, trainer_options: dict, resume: Path | None = None, **hparams: Any
) -> list:
    task, seen = RefineTask("resnet18", backbone_weights=None, **hparams), Rates()
    task.network = TinyNetwork()
    batches = [random_batch(i, side=4) for i in range(num_batches)]
    trainer = make_trainer(tmp_path, max_epochs=num_epochs, callbacks=[seen], **trainer_options)
    trainer.fit(task, loader(*batches), loader(random_batch(0, side=4)), ckpt_path=resume)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    return seen.seen


class TestOptimisation:
    def test_the_original_schedule_halves_the_rate_of_all_parameters(self, tmp_path) -> None:
        seen = rates(tmp_path, num_epochs=40, num_batches=1, trainer_options={})
        expected = [rate for rate in (1e-3, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5) for _ in range(8)]
        assert seen == [pytest.approx([rate, rate]) for rate in expected]

    def test_step_schedule_with_a_slower_backbone(self, tmp_path) -> None:
        seen = rates(tmp_path, 3, 2, {}, lr=0.1, lr_step=1, lr_decay=0.1, backbone_lr_factor=0.5)
        assert seen == [pytest.approx([rate, rate / 2]) for rate in (0.1, 0.1, 0.01, 0.01, 0.001, 0.001)]

    @pytest.mark.parametrize(
        ("warmup_steps", "accumulate"), [(0, 1), (4, 1), (4, 2)], ids=["no warm-up", "warm-up", "accumulated"]
    )
    def test_cosine_schedule_counts_optimizer_steps(self, tmp_path, warmup_steps, accumulate) -> None:
        seen = rates(
            tmp_path,
            num_epochs=3,
            num_batches=4 * accumulate,
            trainer_options={"accumulate_grad_batches": accumulate},
            lr=0.2,
            schedule="cosine",
            warmup_steps=warmup_steps,
            backbone_lr_factor=0.1,
        )
        factors = [0.01 + 0.99 * t / 4 for t in range(warmup_steps)]
        fall = 12 - warmup_steps
        factors += [(1 + math.cos(math.pi * t / fall)) / 2 for t in range(fall)]
        expected = [f for f in factors for _ in range(accumulate)]
        assert seen == [pytest.approx([0.2 * f, 0.02 * f]) for f in expected]

    def test_a_cosine_run_that_goes_on_for_longer_follows_the_longer_curve(self, tmp_path) -> None:
        cosine = {"lr": 0.2, "schedule": "cosine"}
        rates(tmp_path, 2, 4, {}, **cosine)
        seen = rates(tmp_path, 4, 4, {}, resume=tmp_path / "end.ckpt", **cosine)
        # The first step was due when the run ended.
        expected = [0.0] + [0.1 * (1 + math.cos(math.pi * t / 16)) for t in range(9, 16)]
        assert seen == [pytest.approx([rate, rate]) for rate in expected]

    def test_groups_hold_every_parameter_once(self) -> None:
        task = RefineTask("resnet18", backbone_weights=None, weight_decay=0.01)
        optimizer = task.configure_optimizers()["optimizer"]
        assert isinstance(optimizer, torch.optim.AdamW)
        rest, backbone = optimizer.param_groups
        assert {id(p) for p in backbone["params"]} == {id(p) for p in task.network.backbone.parameters()}
        together = [id(p) for p in rest["params"] + backbone["params"]]
        assert len(together) == len(set(together)) == len(list(task.parameters()))
        assert rest["weight_decay"] == backbone["weight_decay"] == 0.01

    @pytest.mark.parametrize("lr", [-1.0, math.inf, math.nan])
    def test_an_impossible_learning_rate(self, lr) -> None:
        with pytest.raises(UserError, match=r"`model\.lr` must be finite and not negative, got "):
            RefineTask("resnet18", backbone_weights=None, lr=lr)

    @pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("cuda", True), ("mps", None)])
    def test_the_optimizer_is_fused_where_it_skips_steps(self, monkeypatch, device, fused) -> None:
        monkeypatch.setattr(RefineTask, "device", torch.device(device))
        task = RefineTask("resnet18", backbone_weights=None)
        optimizer = task.configure_optimizers()["optimizer"]
        assert optimizer.defaults["fused"] is fused
        state = optimizer.state_dict()
        for group in state["param_groups"]:
            group["fused"] = not fused
        optimizer.load_state_dict(state)
        assert [group["fused"] for group in optimizer.param_groups] == [fused, fused]

    def test_a_gradient_scaler_divides_once(self) -> None:
        task = RefineTask("resnet18", ("corner",), None)
        optimizer = task.configure_optimizers()["optimizer"]
        scaler = torch.amp.GradScaler("cpu", init_scale=1024)
        scaler.scale(torch.stack([weight.sum() for weight in task.parameters()]).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        for state in optimizer.state.values():
            torch.testing.assert_close(state["exp_avg"], torch.full_like(state["exp_avg"], 0.1))

    @pytest.mark.parametrize(
        ("device", "precision", "capability", "num_warnings"),
        [
            ("cuda", "bf16-mixed", (7, 5), 1),
            ("cuda", "bf16-mixed", (8, 0), 0),
            ("cuda", "32-true", (7, 5), 0),
            ("cpu", "bf16-mixed", (0, 0), 0),
        ],
    )
    def test_gpus_without_bfloat16(self, monkeypatch, recwarn, device, precision, capability, num_warnings) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(RefineTask, "device", torch.device(device))
        monkeypatch.setattr(RefineTask, "trainer", SimpleNamespace(precision=precision))
        RefineTask("resnet18", backbone_weights=None).on_fit_start()
        assert ["has no instructions for bfloat16" in str(each.message) for each in recwarn] == [True] * num_warnings

    def test_a_fully_frozen_backbone_is_not_in_the_optimizer(self) -> None:
        task = RefineTask("resnet18", backbone_weights=None, frozen_stages=3)
        (rest,) = task.configure_optimizers()["optimizer"].param_groups
        assert {id(p) for p in rest["params"]} == {id(p) for p in task.parameters() if p.requires_grad}

    @pytest.mark.parametrize(
        ("heads", "names"), [(("corner",), ["corner"]), (("mask",), ["mask"]), (("corner", "mask"), ["corner", "mask"])]
    )
    def test_the_loss_is_the_weighted_sum(self, tmp_path, heads, names) -> None:
        task = RefineTask("resnet18", heads, None, corner_weight=0.5, mask_weight=20.0)
        trainer = make_trainer(tmp_path, max_epochs=1)
        trainer.fit(task, loader(random_batch(0)), loader(random_batch(1)))
        logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
        logged = {name: value for name, value in logged.items() if name.startswith("train/")}
        assert logged.keys() == {"train/loss", *(f"train/loss_{name}" for name in names)}
        weights = {"corner": 0.5, "mask": 20.0}
        expected = sum(weights[name] * logged[f"train/loss_{name}"] for name in names)
        assert logged["train/loss"] == pytest.approx(expected)

    # All edges are 64 px off; the boxes' IoU, and as one holds the other their generalized IoU, is 1/4.
    @pytest.mark.parametrize(("name", "expected"), [("mse", 64.0**2), ("l1_giou", 5 * 64 / 256 + 2 * (1 - 1 / 4))])
    def test_the_corner_loss_that_is_asked_for(self, tmp_path, name, expected) -> None:
        task = RefineTask("resnet18", backbone_weights=None, corner_loss=name)
        task.network = TinyNetwork()
        nn.init.zeros_(task.network.head.weight)
        task.network.head.bias.data = torch.tensor([64.0, 64, 192, 192])
        whole = random_batch(0, side=4)._replace(target_xyxy=torch.tensor([[0.0, 0, 256, 256]]).expand(2, 4))
        trainer = make_trainer(tmp_path, max_epochs=1)
        trainer.fit(task, loader(whole), loader(whole))
        assert trainer.callback_metrics["train/loss_corner"].item() == pytest.approx(expected)


class TestFrozenStages:
    @pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 2, 3])
    def test_which_weights_are_trained(self, frozen_stages) -> None:
        task = RefineTask("resnet18", backbone_weights=None, frozen_stages=frozen_stages)
        for name, parameter in task.network.named_parameters():
            stage = STAGES.index(name.split(".")[1]) if name.startswith("backbone.layer") else 0
            frozen = name.startswith("backbone.") and stage <= frozen_stages
            assert parameter.requires_grad != frozen, name

    @pytest.mark.parametrize("frozen_stages", [-1, 1])
    def test_weights_and_statistics_stay_through_training_and_validation(self, tmp_path, frozen_stages) -> None:
        torch.manual_seed(0)  # with others, all ReLUs of a narrow layer can be dead
        task = RefineTask("resnet18", backbone_weights=None, frozen_stages=frozen_stages)
        before = {name: value.clone() for name, value in task.network.state_dict().items()}
        trainer = make_trainer(tmp_path, max_epochs=2)
        trainer.fit(task, loader(random_batch(0)), loader(random_batch(1)))
        assert trainer.global_step == 2
        stem_and_layer1 = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
        changed = {name for name, value in task.network.state_dict().items() if not torch.equal(value, before[name])}
        expected = {name for name in before if frozen_stages < 0 or not name.startswith(stem_and_layer1)}
        assert changed == expected


class TestTrainedParts:
    def test_all_other_weights_and_statistics_stay(self, tmp_path) -> None:
        torch.manual_seed(0)
        task = RefineTask(
            "resnet18", backbone_weights=None, quality_head="convolutions", trained_parts=["quality_head"]
        )
        before = {name: value.clone() for name, value in task.network.state_dict().items()}
        trainer = make_trainer(tmp_path, max_epochs=2)
        trainer.fit(task, loader(random_batch(0)), loader(random_batch(1)))
        changed = {name for name, value in task.network.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {name for name in before if name.startswith("quality_head.")}
        logged = {name for name in trainer.callback_metrics if name.startswith("train/")}
        assert logged == {"train/loss", "train/loss_quality"}
        assert {"val/iou", "val/mask_iou", "val/quality_error"} <= trainer.callback_metrics.keys()

    def test_the_quality_head_does_not_change_the_other_parts(self, tmp_path) -> None:
        states = []
        for options in ({}, {"quality_head": "convolutions"}):
            torch.manual_seed(0)
            task = RefineTask("resnet18", ("corner",), None, **options)
            trainer = make_trainer(tmp_path, max_epochs=1)
            trainer.fit(task, loader(random_batch(0)), loader(random_batch(1)))
            states.append(task.network.state_dict())
        assert all(torch.equal(states[1][name], value) for name, value in states[0].items())

    def test_heads_that_no_trained_part_needs_are_not_run(self) -> None:
        task = RefineTask("resnet18", backbone_weights=None, trained_parts=["corner_head"])
        assert task._trained_heads() == ["corner"]
        judge = RefineTask(
            "resnet18", backbone_weights=None, quality_head="convolutions", trained_parts=["quality_head"]
        )
        assert judge._trained_heads() == ["corner"]

    @pytest.mark.parametrize("parts", [[], ["quality_head"], ["head"]])
    def test_parts_that_do_not_exist_are_an_error(self, parts) -> None:
        with pytest.raises(UserError, match=r"`model.trained_parts` must name parts of the network among backbone, "):
            RefineTask("resnet18", backbone_weights=None, trained_parts=parts)


class FixedPrediction(nn.Module):
    """Stand-in for the network that returns given predictions one after the other."""

    def __init__(self, *predictions: Prediction) -> None:
        super().__init__()
        self.predictions = iter(predictions)

    def encode_template(self, template: Tensor, _target_xyxy: Tensor) -> Tensor:
        return template

    def forward(self, *_: Tensor) -> Prediction:
        return next(self.predictions)


def predict(boxes: list[list[float]], masks: list[list[list[int]]]) -> Prediction:
    """Prediction with given boxes and binary masks."""
    logits = torch.tensor(masks, dtype=torch.float32) * 2 - 1
    return Prediction(Corners(torch.tensor(boxes), torch.zeros(len(boxes), 2, 16, 16)), logits)


class TestValidation:
    BATCHES = (
        random_batch(0, (True, False), side=2)._replace(
            target_xyxy=torch.tensor([[0.0, 0, 10, 10], [10, 10, 20, 20]]),
            mask=torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]], dtype=torch.uint8),
        ),
        random_batch(1, (True,), side=2)._replace(
            target_xyxy=torch.tensor([[0.0, 0, 4, 4]]),
            mask=torch.tensor([[[1, 1], [1, 1]]], dtype=torch.uint8),
        ),
    )
    PREDICTIONS = (
        predict([[0.0, 0, 10, 5], [10, 10, 20, 20]], [[[1, 0], [0, 0]], [[1, 1], [1, 1]]]),  # boxes 1/2, 1; mask 1/2
        predict([[4.0, 4, 8, 8]], [[[1, 1], [1, 0]]]),  # box 0; mask 3/4
    )

    def test_means_over_samples_not_over_batches(self, tmp_path) -> None:
        task = RefineTask("resnet18", backbone_weights=None)
        task.network = FixedPrediction(*self.PREDICTIONS)
        (logged,) = make_trainer(tmp_path).validate(task, loader(*self.BATCHES), verbose=False)
        assert logged == pytest.approx({"val/iou": (1 / 2 + 1 + 0) / 3, "val/mask_iou": (1 / 2 + 3 / 4) / 2})

    def test_only_what_the_network_predicts_is_logged(self, tmp_path) -> None:
        task = RefineTask("resnet18", backbone_weights=None)
        task.network = FixedPrediction(*(Prediction(None, each.mask_logits) for each in self.PREDICTIONS))
        (logged,) = make_trainer(tmp_path).validate(task, loader(*self.BATCHES), verbose=False)
        assert logged == pytest.approx({"val/mask_iou": 5 / 8})

    def test_callbacks_get_the_prediction(self, tmp_path) -> None:
        task = RefineTask("resnet18", backbone_weights=None)
        task.network = FixedPrediction(*self.PREDICTIONS)
        seen = []

        class Record(pl.Callback):
            def on_validation_batch_end(self, *args: Any) -> None:
                seen.append(args[2]["prediction"])

        make_trainer(tmp_path, callbacks=[Record()]).validate(task, loader(*self.BATCHES), verbose=False)
        assert all(actual is expected for actual, expected in zip(seen, self.PREDICTIONS, strict=True))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    state = RefineTask("resnet18", backbone_weights=None).network.backbone.state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


class TestCheckpoints:
    def fit(self, folder: Path, weights: Path, num_epochs: int, resume: Path | None = None) -> RefineTask:
        task = RefineTask("resnet18", ("mask",), str(weights), lr=0.0)  # a rate of 0: weights stay what they began as
        trainer = make_trainer(
            folder,
            max_epochs=num_epochs,
            enable_checkpointing=True,
            callbacks=[ModelCheckpoint(folder)],
        )
        trainer.fit(task, loader(random_batch(0)), loader(random_batch(1)), ckpt_path=resume)
        return task

    def test_the_backbone_starts_from_the_file_and_the_checkpoint_needs_it_no_more(self, tmp_path, weights) -> None:
        started = RefineTask("resnet18", backbone_weights=None).network.backbone
        copied = tmp_path / "copied.safetensors"
        copied.write_bytes(weights.read_bytes())
        task = self.fit(tmp_path, copied, 1)
        assert not torch.equal(task.network.backbone.conv1.weight, started.conv1.weight)
        copied.unlink()

        checkpoint = next(tmp_path.rglob("*.ckpt"))
        rebuilt = RefineTask.load_from_checkpoint(checkpoint, map_location="cpu")
        assert rebuilt.hparams == task.hparams
        network = load_checkpoint(checkpoint).network
        assert rebuilt.network.heads == network.heads == ("mask",)
        expected = task.network.state_dict()
        for other in (rebuilt.network, network):
            assert other.state_dict().keys() == expected.keys()
            assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())

    def test_resuming_does_not_start_from_the_pretrained_weights_again(self, tmp_path, weights) -> None:
        self.fit(tmp_path, weights, 1)
        path = next(tmp_path.rglob("*.ckpt"))
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["state_dict"]["network.backbone.conv1.weight"].fill_(0.25)
        torch.save(checkpoint, path)
        resumed = self.fit(tmp_path, weights, 2, resume=path)
        assert (resumed.network.backbone.conv1.weight == 0.25).all()

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"lr": 0.1}, r"`model\.lr` was 0\.001 when this run began, got 0\.1; a resumed run keeps its values"),
            ({"backbone": "resnet34"}, r"`model\.backbone` was resnet18 .*, got resnet34"),
            ({"lr_step": 1}, r"`model\.lr_step` was 8 .*, got 1"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_a_run_goes_on_as_it_began(self, tmp_path, changed, message) -> None:
        rates(tmp_path, 1, 1, {})
        task = RefineTask(**({"backbone": "resnet18", "backbone_weights": None} | changed))
        task.network = TinyNetwork()
        with pytest.raises(UserError, match=message):
            make_trainer(tmp_path, max_epochs=2).fit(
                task, *[loader(random_batch(0, side=4))] * 2, ckpt_path=tmp_path / "end.ckpt"
            )

    def test_a_run_of_an_older_version_keeps_the_defaults(self, tmp_path) -> None:
        rates(tmp_path, 1, 1, {})
        checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
        del checkpoint["hyper_parameters"]["quality_weight"]
        torch.save(checkpoint, tmp_path / "end.ckpt")
        RefineTask("resnet18", backbone_weights=None).on_load_checkpoint(checkpoint)
        with pytest.raises(UserError, match=r"`model\.quality_weight` was 1\.0 when this run began, got 2\.0"):
            RefineTask("resnet18", backbone_weights=None, quality_weight=2.0).on_load_checkpoint(checkpoint)

    def test_random_weights_need_no_file(self, tmp_path, monkeypatch) -> None:
        def fail(*_):
            raise AssertionError

        monkeypatch.setattr("alpharefine.training.task.load_backbone_weights", fail)
        monkeypatch.setattr("alpharefine.training.task.imagenet_weights", fail)
        task = RefineTask("resnet18", backbone_weights=None)
        task.network = TinyNetwork()
        make_trainer(tmp_path, max_epochs=1).fit(task, *[loader(random_batch(0, side=4))] * 2)

    def test_imagenet_weights_are_downloaded_before_the_processes_start(self, tmp_path, monkeypatch) -> None:
        asked: list[str] = []
        monkeypatch.setattr("alpharefine.training.task.imagenet_weights", asked.append)
        trainer = make_trainer(tmp_path)
        for task in (RefineTask("resnet34"), RefineTask("resnet18", backbone_weights="some.pth")):
            task.trainer = trainer
            task.prepare_data()
        assert asked == ["resnet34"]
        trainer.ckpt_path = "last.ckpt"
        task = RefineTask("resnet34")
        task.trainer = trainer
        task.prepare_data()
        assert asked == ["resnet34"], "a resumed run has its weights"

    def test_no_head(self) -> None:
        with pytest.raises(UserError, match=r"`model`: `heads` must name 'corner', 'mask' or both, got \(\)"):
            RefineTask("resnet18", heads=())

    @pytest.mark.parametrize("hook", ["on_train_start", "on_train_epoch_start"])
    def test_frozen_stages_keep_their_statistics_when_norms_are_synchronised(self, hook) -> None:
        task = RefineTask("resnet18", frozen_stages=1)
        task.network = nn.SyncBatchNorm.convert_sync_batchnorm(task.network)
        task.train()
        getattr(task, hook)()
        trunk = task.network.backbone
        assert isinstance(trunk.bn1, nn.SyncBatchNorm)
        assert not trunk.bn1.training
        assert not trunk.layer1[0].bn1.training
        assert trunk.layer2[0].bn1.training
