"""Callback that makes distributed training comparable with training in one process."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn


class FrozenNormsAndPlainDescent(pl.Callback):
    """Batch norms use running statistics, since batch statistics are those of one process; SGD replaces Adam.

    Adam divides each gradient by its magnitude: it would hide gradients that are summed instead of averaged, and
    amplify the rounding errors of gradients that should be 0, such as that of a bias before a softmax.
    """

    def __init__(self, lr: float = 1e-5) -> None:
        self.lr = lr

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.optimizers = [torch.optim.SGD(pl_module.parameters(), self.lr)]

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        for module in trainer.lightning_module.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
