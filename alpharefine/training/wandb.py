"""Tracking of runs in wandb: the logger, and a panel of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import WandbLogger

from alpharefine.data.pairs import PairBatch
from alpharefine.masks import MASK_THRESHOLD
from alpharefine.models import Prediction

TRUE_COLOUR = (0, 255, 0)
PREDICTED_COLOUR = (255, 0, 0)


def wandb_logger(
    name: str, folder: Path, mode: Literal["auto", "online", "offline"], config: Mapping[str, Any]
) -> WandbLogger:
    """Lightning's logger for a run.

    Args:
        name: of the run.
        folder: where wandb puts its files.
        mode: ``auto`` is online where wandb finds a key (``WANDB_API_KEY`` or after ``wandb login``), else offline.
        config: what wandb shows as the run's configuration.
    """
    offline = mode == "offline" or (mode == "auto" and not wandb.login(prompt=False, verify=False))
    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        name=name,
        project="alpharefine",
        save_dir=folder,
        offline=offline,
        # Lightning says so in an environment variable, which wandb does not read again after a login.
        mode="offline" if offline else "online",
        config=dict(config),
    )


def draw_pair(
    template: np.ndarray,
    search: np.ndarray,
    target_xyxy: np.ndarray,
    pred_xyxy: np.ndarray | None,
    target_mask: np.ndarray | None,
    pred_mask: np.ndarray | None,
) -> np.ndarray:
    """Template, search region with both boxes, true mask and predicted mask side by side.

    Args:
        template: ``(S, S, 3)`` uint8 RGB.
        search: ``(S, S, 3)`` uint8 RGB.
        target_xyxy: ``(4,)`` crop pixels, drawn in green.
        pred_xyxy: ``(4,)`` crop pixels, drawn in red.
        target_mask: ``(S, S)``, 0 or 1; left out if None.
        pred_mask: ``(S, S)`` probabilities; left out if None.

    Returns:
        ``(S, n S, 3)`` uint8 RGB.
    """
    boxed = search.copy()
    for box, colour in ((target_xyxy, TRUE_COLOUR), (pred_xyxy, PREDICTED_COLOUR)):
        if box is not None:
            x1, y1, x2, y2 = (round(float(v)) for v in box)
            cv2.rectangle(boxed, (x1, y1), (x2, y2), colour, 2)
    panels = [template, boxed]
    if target_mask is not None:
        panels.append(_tinted(search, target_mask > 0, TRUE_COLOUR))
    if pred_mask is not None:
        panels.append(_tinted(search, pred_mask > MASK_THRESHOLD, PREDICTED_COLOUR))
    return np.hstack(panels)


def _tinted(image: np.ndarray, inside: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    tinted: np.ndarray = np.where(inside[..., None], image // 2 + np.array(colour, np.uint8) // 2, image)
    return tinted


class PairPanel(pl.Callback):
    """Shows the first pairs of every validation in wandb, with true and predicted boxes and masks.

    Args:
        num_pairs: how many.
    """

    def __init__(self, num_pairs: int = 8) -> None:
        self.num_pairs = num_pairs

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002 - Lightning's signature
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,  # noqa: ARG002 - Lightning's signature
    ) -> None:
        """Log the panel once a validation, from the first process."""
        logger = next((each for each in trainer.loggers if isinstance(each, WandbLogger)), None)
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero or logger is None:
            return
        prediction = cast("Prediction", outputs["prediction"])
        pictures = [_draw(batch, prediction, i) for i in range(min(self.num_pairs, len(batch.search)))]
        logger.log_image("val/pairs", pictures, step=trainer.global_step)


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
