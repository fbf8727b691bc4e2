"""A callback for `train.py` that makes training on parts of a batch comparable with training on the whole."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn


class FrozenNormsAndPlainDescent(pl.Callback):
    """Batch norms use their running statistics, as those of a batch are of one process; SGD in place of Adam.

    Adam divides each gradient by its own size: it would hide gradients that are summed where they should be averaged,
    and blow up the rounding errors of those that are 0 but for them, as of a bias before a softmax.
    """

    def __init__(self, lr: float = 1e-5) -> None:
        self.lr = lr

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.optimizers = [torch.optim.SGD(pl_module.parameters(), self.lr)]

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        for module in trainer.lightning_module.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
