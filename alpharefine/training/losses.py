"""The training losses (Alpha-Refine, section 3.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from alpharefine.crops import CROP_SIZE

L1_WEIGHT = 5.0
GIOU_WEIGHT = 2.0
"""Weights of the two terms of `l1_giou_loss` (STARK, arXiv 2103.17154, section 3.1)."""


def l1_giou_loss(pred_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Absolute error of the coordinates, relative to the crop's side, and generalised IoU (arXiv 1902.09630).

    Args:
        pred_xyxy: ``(B, 4)`` crop pixels, corners not ordered.
        target_xyxy: ``(B, 4)`` crop pixels.

    Returns:
        Scalar.
    """
    # A box whose two corners have changed places would count as a large one, and its overlap term would make it larger.
    top_left, bottom_right = pred_xyxy[:, :2], pred_xyxy[:, 2:]
    ordered_xyxy = torch.cat([top_left, torch.maximum(top_left, bottom_right)], dim=1)
    giou: Tensor = generalized_box_iou_loss(ordered_xyxy, target_xyxy, reduction="mean")
    loss: Tensor = L1_WEIGHT * F.l1_loss(pred_xyxy, target_xyxy) / CROP_SIZE + GIOU_WEIGHT * giou
    return loss


def corner_loss(pred_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Mean squared error of the four coordinates, the original's loss.

    Args:
        pred_xyxy: ``(B, 4)`` crop pixels.
        target_xyxy: ``(B, 4)`` crop pixels.

    Returns:
        Scalar, in squared pixels.
    """
    return F.mse_loss(pred_xyxy, target_xyxy)


def mask_loss(logits: Tensor, target: Tensor, has_mask: Tensor, num_masks: Tensor | float | None = None) -> Tensor:
    """Binary cross entropy, mean over the pixels of the samples that have a mask.

    Without any such sample the loss is 0 and still has a gradient (of 0), so that a step can be taken.

    Args:
        logits: ``(B, H, W)``.
        target: ``(B, H, W)``, 0 or 1.
        has_mask: ``(B,)`` bool.
        num_masks: what to divide by, above 0; the number of samples of the batch that have a mask by default. Where a
            batch is spread over processes whose gradients are averaged, give the number per process, averaged over
            the processes, which may be less than 1.

    Returns:
        Scalar.
    """
    per_sample = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none").mean(dim=(1, 2))
    count = has_mask.sum().clamp(min=1) if num_masks is None else num_masks
    return (per_sample * has_mask).sum() / count


def best_cell_loss(scores: Tensor, target_xyxy: Tensor) -> Tensor:
    """Cross entropy of the cell that the target's centre lies in.

    Deviation: the original trains the confidence of its RPN head on nothing.

    Args:
        scores: ``(B, 1, n, n)``, before the softmax over the cells.
        target_xyxy: ``(B, 4)`` crop pixels.

    Returns:
        Scalar.
    """
    n = scores.shape[-1]
    centre = (target_xyxy[:, :2] + target_xyxy[:, 2:]) / 2
    column, row = (centre * n / CROP_SIZE).long().clamp(0, n - 1).unbind(1)
    return F.cross_entropy(scores.flatten(1), row * n + column)
