"""Pictures of pairs with true and predicted boxes and masks, in wandb and TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from alpharefine.data.pairs import PairBatch
from alpharefine.masks import MASK_THRESHOLD
from alpharefine.models import Prediction

TARGET_COLOR = (0, 255, 0)
PREDICTED_COLOR = (255, 0, 0)


def draw_pair(
    template: np.ndarray,
    search: np.ndarray,
    target_xyxy: np.ndarray,
    pred_xyxy: np.ndarray | None,
    target_mask: np.ndarray | None,
    pred_mask: np.ndarray | None,
) -> np.ndarray:
    """Draw template, search region with both boxes, target mask and predicted mask side by side.

    Args:
        template: Template crop, ``(S, S, 3)`` uint8 RGB.
        search: Search crop, ``(S, S, 3)`` uint8 RGB.
        target_xyxy: Target box, ``(4,)`` in crop pixels, drawn in green.
        pred_xyxy: Predicted box, ``(4,)`` in crop pixels, drawn in red; None for no box.
        target_mask: Target mask, ``(S, S)``, 0 or 1; None for no mask.
        pred_mask: Predicted mask, ``(S, S)`` probabilities; None for no mask.

    Returns:
        ``(S, n S, 3)`` uint8 RGB.
    """
    boxed = search.copy()
    for box, color in ((target_xyxy, TARGET_COLOR), (pred_xyxy, PREDICTED_COLOR)):
        if box is not None:
            x1, y1, x2, y2 = (round(float(v)) for v in box)
            cv2.rectangle(boxed, (x1, y1), (x2, y2), color, 2)
    panels = [template, boxed]
    if target_mask is not None:
        panels.append(_tinted(search, target_mask > 0, TARGET_COLOR))
    if pred_mask is not None:
        panels.append(_tinted(search, pred_mask > MASK_THRESHOLD, PREDICTED_COLOR))
    return np.hstack(panels)


def _tinted(image: np.ndarray, inside: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    tinted: np.ndarray = np.where(inside[..., None], image // 2 + np.array(color, np.uint8) // 2, image)
    return tinted


class PairPanel(pl.Callback):
    """Logs pairs at every validation: the first validation pairs, and the first pairs of the last training batch.

    The predictions for the training pairs are those of the network in evaluation mode, as for the validation pairs.
    Loggers other than those of wandb and TensorBoard take no pictures.

    Args:
        num_pairs: Maximum number of pairs of each kind.
    """

    def __init__(self, num_pairs: int = 8) -> None:
        self.num_pairs = num_pairs
        self._train_batch: PairBatch | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Keep the batch until the next one.

        Args:
            trainer: Trainer with the loggers.
            pl_module: Task.
            outputs: Output of the step.
            batch: Batch of pairs.
            batch_idx: Index of the batch.
        """
        if trainer.is_global_zero and _picture_loggers(trainer):
            self._train_batch = batch

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the pictures once per validation, from the first process.

        Args:
            trainer: Trainer with the loggers.
            pl_module: Task.
            outputs: Output of the validation step, which holds the prediction.
            batch: Batch of pairs.
            batch_idx: Index of the batch.
            dataloader_idx: Index of the data loader.
        """
        loggers = _picture_loggers(trainer)
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero or not loggers:
            return
        panels = {"val/pairs": self._draw(batch, outputs["prediction"])}
        if self._train_batch is not None:
            pairs = PairBatch(*(each[: self.num_pairs] for each in self._train_batch))
            with trainer.precision_plugin.forward_context():
                panels["train/pairs"] = self._draw(pairs, pl_module(pairs))
        for logger in loggers:
            for key, pictures in panels.items():
                _log(logger, key, pictures, trainer.global_step)

    def _draw(self, batch: PairBatch, prediction: Prediction) -> list[np.ndarray]:
        return [_draw(batch, prediction, i) for i in range(min(self.num_pairs, len(batch.search)))]


def _picture_loggers(trainer: pl.Trainer) -> list[Logger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger | TensorBoardLogger)]


def _log(logger: Logger, key: str, pictures: Sequence[np.ndarray], step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_image(key, list(pictures), step=step)
    else:
        writer = cast("TensorBoardLogger", logger).experiment
        for number, picture in enumerate(pictures):
            writer.add_image(f"{key}/{number}", picture, step, dataformats="HWC")


def _draw(batch: PairBatch, prediction: Prediction, i: int) -> np.ndarray:
    corners, logits = prediction.corners, prediction.mask_logits
    return draw_pair(
        template=batch.template[i].permute(1, 2, 0).cpu().numpy(),
        search=batch.search[i].permute(1, 2, 0).cpu().numpy(),
        target_xyxy=batch.target_xyxy[i].cpu().numpy(),
        pred_xyxy=None if corners is None else corners.crop_xyxy[i].float().cpu().numpy(),
        target_mask=batch.mask[i].cpu().numpy() if batch.has_mask[i] else None,
        pred_mask=None if logits is None else logits[i].float().sigmoid().cpu().numpy(),
    )
