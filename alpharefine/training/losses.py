"""The training losses (Alpha-Refine, section 3.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from alpharefine.boxes import paired_iou
from alpharefine.crops import CROP_SIZE

L1_WEIGHT = 5.0
GIOU_WEIGHT = 2.0
"""Weights of the two terms of `l1_giou_loss` (STARK, arXiv 2103.17154, section 3.1)."""


def l1_giou_loss(pred_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """L1 error of the coordinates relative to the crop's side, plus generalized IoU loss (arXiv 1902.09630).

    Args:
        pred_xyxy: Predicted boxes, ``(B, 4)`` in crop pixels; corners may be out of order.
        target_xyxy: Target boxes, ``(B, 4)`` in crop pixels.

    Returns:
        Scalar.
    """
    # A box with swapped corners would count as a large one, and the IoU term would make it larger.
    top_left, bottom_right = pred_xyxy[:, :2], pred_xyxy[:, 2:]
    ordered_xyxy = torch.cat([top_left, torch.maximum(top_left, bottom_right)], dim=1)
    giou: Tensor = generalized_box_iou_loss(ordered_xyxy, target_xyxy, reduction="mean")
    loss: Tensor = L1_WEIGHT * F.l1_loss(pred_xyxy, target_xyxy) / CROP_SIZE + GIOU_WEIGHT * giou
    return loss


def corner_loss(pred_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Mean squared error of the four coordinates, the original's loss.

    Args:
        pred_xyxy: Predicted boxes, ``(B, 4)`` in crop pixels.
        target_xyxy: Target boxes, ``(B, 4)`` in crop pixels.

    Returns:
        Scalar, in squared pixels.
    """
    return F.mse_loss(pred_xyxy, target_xyxy)


def quality_loss(logits: Tensor, pred_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Binary cross entropy of the predicted IoU with the IoU of predicted boxes and targets.

    Args:
        logits: Logits of the predicted IoU, ``(B,)``.
        pred_xyxy: Predicted boxes, ``(B, 4)`` in crop pixels. No gradient reaches them.
        target_xyxy: Target boxes, ``(B, 4)`` in crop pixels.

    Returns:
        Scalar.
    """
    return F.binary_cross_entropy_with_logits(logits, paired_iou(pred_xyxy.detach(), target_xyxy).to(logits.dtype))


def mask_loss(logits: Tensor, target: Tensor, has_mask: Tensor, num_masks: Tensor | float | None = None) -> Tensor:
    """Binary cross entropy, averaged over the pixels of the samples that have a mask.

    Without such a sample the loss is 0, with a gradient of 0 for every parameter.

    Args:
        logits: Predicted mask logits, ``(B, H, W)``.
        target: Target masks, ``(B, H, W)``, 0 or 1.
        has_mask: Samples that have a target mask, ``(B,)`` bool.
        num_masks: Positive divisor; the number of samples that have a mask by default. In distributed training, where
            gradients are averaged over the processes, the mean number per process, which may be less than 1.

    Returns:
        Scalar.
    """
    per_sample = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none").mean(dim=(1, 2))
    count = has_mask.sum().clamp(min=1) if num_masks is None else num_masks
    return (per_sample * has_mask).sum() / count


def best_cell_loss(scores: Tensor, target_xyxy: Tensor) -> Tensor:
    """Cross entropy of the cell that contains the center of the target.

    Deviation: the original does not train the confidence of its RPN head.

    Args:
        scores: Confidence of each cell before the softmax, ``(B, 1, n, n)``.
        target_xyxy: Target boxes, ``(B, 4)`` in crop pixels.

    Returns:
        Scalar.
    """
    n = scores.shape[-1]
    center = (target_xyxy[:, :2] + target_xyxy[:, 2:]) / 2
    column, row = (center * n / CROP_SIZE).long().clamp(0, n - 1).unbind(1)
    return F.cross_entropy(scores.flatten(1), row * n + column)
