"""Averaged weights are validated and saved; training goes on from the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from alpharefine.checkpoints.loading import load_checkpoint
from alpharefine.errors import UserError
from alpharefine.training.averaging import HalfPrecisionExport, WeightAverage
from alpharefine.training.task import RefineTask


class Climb(pl.LightningModule):
    """Raises its only weight by one a step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.validated: list[float] = []

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:  # noqa: ARG002
        return -self.weight.sum()

    def validation_step(self, batch: list[torch.Tensor]) -> None:  # noqa: ARG002
        self.validated.append(self.weight.item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(task: Climb, folder: Path, epochs: int, resume: Path | None = None) -> pl.Trainer:
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        callbacks=[WeightAverage(0.5)],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    data = DataLoader(TensorDataset(torch.zeros(3, 1)))
    trainer.fit(task, data, data, ckpt_path=resume)
    return trainer


def averages(steps: int) -> float:
    """What the average is after some steps, by its definition."""
    value = 0.0
    for step in range(1, steps + 1):
        decay = min(0.5, (1 + step) / (10 + step))
        value = decay * value + (1 - decay) * step
    return value


def test_the_average_is_validated_and_saved_and_training_goes_on(tmp_path: Path) -> None:
    task = Climb()
    trainer = fit(task, tmp_path, 2)
    assert task.weight.item() == 6
    assert task.validated == pytest.approx([averages(3)] * 3 + [averages(6)] * 3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"]["weight"].item() == pytest.approx(averages(6))
    resumed = Climb()
    fit(resumed, tmp_path, 3, tmp_path / "last.ckpt")
    assert resumed.weight.item() == 9
    assert resumed.validated == pytest.approx([averages(9)] * 3)


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="`decay` of the weights' average"):
        WeightAverage(1.0)


def test_exports_are_read_as_checkpoints(tmp_path: Path) -> None:
    task = RefineTask(backbone="resnet18", backbone_weights=None)
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=tmp_path)
    HalfPrecisionExport(str(tmp_path / "weights")).on_validation_epoch_end(trainer, task)
    loaded = load_checkpoint(tmp_path / "weights" / "000000.safetensors")
    for name, value in task.network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    assert next(task.network.parameters()).dtype == torch.float32
