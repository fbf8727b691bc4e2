"""Experiment tracking in wandb: the logger, and a panel of validation pairs."""

from __future__ import annotations

import http.client
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
import pytorch_lightning as pl
import wandb
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import WandbLogger

from alpharefine.data.pairs import PairBatch
from alpharefine.errors import UserError
from alpharefine.masks import MASK_THRESHOLD
from alpharefine.models import Prediction

TARGET_COLOR = (0, 255, 0)
PREDICTED_COLOR = (255, 0, 0)


_TIMEOUT_S = 5.0
"""Time in which the server of wandb must answer."""


class RunLogger(WandbLogger):
    """Logger of wandb whose errors at the start of a run name the option to change."""

    @property
    def experiment(self) -> Any:
        """Run of wandb, which starts at first access.

        Raises:
            UserError: If wandb refuses the run.
        """
        try:
            return super().experiment
        except wandb.Error as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"`--wandb online`: {reason}; use `--wandb offline` or `--wandb off`.") from error


def wandb_logger(
    name: str, folder: Path, mode: Literal["auto", "online", "offline"], config: Mapping[str, Any]
) -> RunLogger:
    """Build Lightning's wandb logger for a run.

    Args:
        name: Name of the run.
        folder: Folder of wandb's files.
        mode: Mode of wandb. ``auto`` is online if wandb finds a key (``WANDB_API_KEY`` or ``wandb login``) and its
            server answers, else offline.
        config: Configuration of the run, shown by wandb.

    Raises:
        UserError: If the mode is ``online`` and there is no key or no answer of the server.
    """
    offline = mode == "offline" or not _can_be_online(mode)
    folder.mkdir(parents=True, exist_ok=True)
    return RunLogger(
        name=name,
        project="alpharefine",
        save_dir=folder,
        offline=offline,
        # Lightning sets an environment variable, which wandb does not read again after a login.
        mode="offline" if offline else "online",
        config=dict(config),
    )


def _can_be_online(mode: Literal["auto", "online"]) -> bool:
    if not wandb.login(prompt=False, verify=False):
        if mode == "auto":
            return False
        raise UserError("`--wandb online` requires a key, found none; set WANDB_API_KEY, or use `--wandb offline`.")
    url = str(wandb.setup().settings.base_url)
    fault = no_answer(url, _TIMEOUT_S)
    if not fault:
        return True
    if mode == "online":
        raise UserError(f"`--wandb online`: no answer from {url} ({fault}); use `--wandb offline` or `--wandb auto`.")
    if getattr(rank_zero_only, "rank", 0) == 0:
        sys.stderr.write(f"wandb: no answer from {url} ({fault}); the run is tracked offline\n")
    return False


def no_answer(url: str, timeout_s: float) -> str:
    """Return the reason why a server does not answer, or an empty string if it does.

    Args:
        url: Address of the server. An error status is an answer.
        timeout_s: Time limit in seconds, also for the look-up of the name.
    """
    faults: list[str] = []
    thread = threading.Thread(target=lambda: faults.append(_ask(url, timeout_s)), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return faults[0] if faults else f"none within {timeout_s:g} s"


def _ask(url: str, timeout_s: float) -> str:
    try:
        urllib.request.urlopen(url, timeout=timeout_s).close()
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        return "" if isinstance(error.reason, ssl.SSLError) else str(error.reason)  # wandb has its own certificates
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


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
    """Logs the first pairs of every validation to wandb, with target and predicted boxes and masks.

    Args:
        num_pairs: Maximum number of pairs.
    """

    def __init__(self, num_pairs: int = 8) -> None:
        self.num_pairs = num_pairs

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the panel once per validation, from the first process.

        Args:
            trainer: Trainer with the logger.
            pl_module: Task.
            outputs: Output of the validation step, which holds the prediction.
            batch: Batch of pairs.
            batch_idx: Index of the batch.
            dataloader_idx: Index of the data loader.
        """
        logger = next((each for each in trainer.loggers if isinstance(each, WandbLogger)), None)
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero or logger is None:
            return
        prediction = cast("Prediction", outputs["prediction"])
        images = [_draw(batch, prediction, i) for i in range(min(self.num_pairs, len(batch.search)))]
        logger.log_image("val/pairs", images, step=trainer.global_step)


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
