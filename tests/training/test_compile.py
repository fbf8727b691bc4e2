"""Training with compiled network and losses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from alpharefine.cli.train import main
from alpharefine.errors import UserError
from alpharefine.training.task import RefineTask
from tests.training.test_task import loader, make_trainer, random_batch
from tests.training_runs import arguments, assert_equal_states, read_checkpoint, read_metrics

COMPILE = torch.compile
SHORT = {"trainer__max_epochs": 1, "data__val_pairs": 2, "model__heads": "[corner]"}


@pytest.fixture
def compiled(monkeypatch) -> list[dict[str, object]]:
    """Options of each call of `torch.compile`, which traces, but leaves the traced operations as they are."""
    calls = []

    def record(function, **options):
        calls.append(options)
        return COMPILE(function, backend="eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", record)
    return calls


def test_trains_as_without(data_root, tmp_path, compiled) -> None:
    main(arguments(data_root, tmp_path, name="plain", **SHORT))
    assert not compiled
    main(arguments(data_root, tmp_path, model__compile="default", **SHORT))
    assert compiled == [{"mode": "default", "dynamic": False}]
    states = (read_checkpoint(tmp_path / name)["state_dict"] for name in ("small", "plain"))
    assert_equal_states(*states, 1e-6)
    losses = (
        [row["train/loss"] for row in read_metrics(tmp_path / name) if "train/loss" in row]
        for name in ("small", "plain")
    )
    assert next(losses) == pytest.approx(next(losses), rel=1e-5)
    # A run that was not compiled can go on compiled.
    main(
        arguments(
            data_root,
            tmp_path,
            "--resume",
            name="plain",
            model__compile="default",
            **SHORT | {"trainer__max_epochs": 2},
        )
    )
    assert read_checkpoint(tmp_path / "plain")["global_step"] == 4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality_head": "convolutions", "spatial_attention": "non_local"},
        {"corner_head": "rpn", "mask_head": "simple"},
        {"corner_head": "extreme", "corner_loss": "l1_giou"},
        {"trained_parts": ("mask_head",), "geometry": "original"},
    ],
    ids=lambda options: "-".join(map(str, options)) or "default",
)
def test_one_graph_without_breaks(options) -> None:
    task = RefineTask("resnet18", backbone_weights=None, **options)
    batch, num_masks = random_batch(0), torch.tensor(1.0)
    losses = COMPILE(task._losses, backend="eager", fullgraph=True)(batch, num_masks)
    expected = task._losses(batch, num_masks)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


def test_graphs_do_not_accumulate(monkeypatch) -> None:
    monkeypatch.setattr(RefineTask, "trainer", SimpleNamespace(accumulate_grad_batches=2, ckpt_path=None))
    with pytest.raises(UserError, match=r"`model\.compile` must not be reduce-overhead .* use `default`"):
        RefineTask("resnet18", backbone_weights=None, compile="reduce-overhead").setup("fit")
    RefineTask("resnet18", backbone_weights=None, compile="default").setup("fit")


def test_an_unknown_mode(data_root, tmp_path) -> None:
    with pytest.raises(UserError, match=r"`model\.compile`: .*Got value: fast"):
        main(arguments(data_root, tmp_path, model__compile="fast", **SHORT))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore")  # advice of the compiler
def test_a_graphics_card_trains_as_without(tmp_path) -> None:
    losses = [losses_on_gpu(tmp_path, compile=mode) for mode in (None, "reduce-overhead")]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def losses_on_gpu(root: Path, **options: Any) -> list[float]:
    """Return the losses of some steps."""
    torch.manual_seed(0)
    task, losses = RefineTask("resnet18", ("corner",), None, **options), Losses()
    trainer = make_trainer(root, accelerator="gpu", callbacks=losses, max_epochs=1)
    trainer.fit(task, loader(*[random_batch(i) for i in range(6)]))
    return losses.seen


class Losses(pl.Callback):
    """Loss of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append(trainer.callback_metrics["train/loss"].item())
