"""Memory of a training and its data loader workers over many steps.

``python benchmarks/memory_train.py`` trains one bias of a network that does not run, so that the steps are quick. Data
loader, logger, checkpoints and callbacks are those of the command.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

from alpharefine.data.pairs import PairBatch
from alpharefine.models import Corners, Prediction
from alpharefine.synthetic import write_got10k, write_saliency
from alpharefine.training.checkpoint_io import LAST, WholeCheckpointIO
from alpharefine.training.last_checkpoint import LastCheckpoint
from alpharefine.training.non_finite import NonFiniteSteps
from alpharefine.training.task import RefineTask
from datamodules import PairDataModule, Source

STEPS_PER_EPOCH = 500


class OneBias(RefineTask):
    """Task whose prediction is a bias of the corner head."""

    def forward(self, batch: PairBatch) -> Prediction:
        """Predict the same box for all pairs.

        Args:
            batch: Batch of pairs.
        """
        bias = self.network.corner_head.top_left[-1].bias  # type: ignore[union-attr,index]
        crop_xyxy = torch.tensor([64.0, 64, 192, 192]).expand(len(batch.search), 4) + bias
        return Prediction(Corners(crop_xyxy, torch.zeros(len(batch.search), 2, 16, 16)), None)


class Memory(pl.Callback):
    """Prints the resident memory of this process and of its workers.

    Args:
        every_n_steps: Number of steps between two lines.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Print a line.

        Args:
            trainer: Trainer of the run.
        """
        if trainer.global_step % self.every_n_steps == 0:
            children = Path("/proc/self/task").joinpath(str(os.getpid()), "children").read_text().split()
            workers = " ".join(f"{_resident(int(child)):6.0f}" for child in children)
            print(f"step {trainer.global_step:6d}: process {_resident(os.getpid()):6.0f} MiB, workers {workers} MiB")


def _resident(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def main() -> None:
    """Train on generated data and print the memory."""
    parser = argparse.ArgumentParser(description="Memory of a training and its workers over many steps.")
    parser.add_argument("--steps", type=int, default=2000, help="Number of steps.")
    parser.add_argument("--workers", type=int, default=2, help="Number of data loader workers.")
    parser.add_argument("--batch_size", type=int, default=4, help="Number of pairs per step.")
    args = parser.parse_args()
    steps_per_epoch = min(args.steps, STEPS_PER_EPOCH)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_got10k(root / "got10k", num_sequences=7, num_frames=20, frame_size=(360, 480))
        write_saliency(root / "saliency", num_images=8, frame_size=(360, 480))
        data = PairDataModule(
            folder,
            {"got10k": Source("got10k", "got10k"), "saliency": Source("saliency", "saliency")},
            {"got10k": Source("got10k", "got10k", options={"split": "holdout"})},
            batch_size=args.batch_size,
            num_workers=args.workers,
            pairs_per_epoch=steps_per_epoch * args.batch_size,
            val_pairs=32,
            on_bad_sample="skip",
            cache_dir=str(root / "cache"),
        )
        last = LastCheckpoint(root / LAST, 100, timedelta(minutes=10), requeues=False)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=-(-args.steps // steps_per_epoch),
            num_sanity_val_steps=0,
            logger=CSVLogger(folder),
            plugins=[WholeCheckpointIO()],
            callbacks=[NonFiniteSteps(), last, Memory(max(args.steps // 10, 1))],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(OneBias("resnet18", ("corner",), backbone_weights=None), datamodule=data)


if __name__ == "__main__":
    main()
