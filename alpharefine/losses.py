"""The training losses (Alpha-Refine, section 3.4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def corner_loss(pred_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Mean squared error of the four coordinates.

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
        num_masks: what to divide by; the number of samples of the batch that have a mask by default. Where a batch is
            spread over processes whose gradients are averaged, give the number per process, averaged over the
            processes.

    Returns:
        Scalar.
    """
    per_sample = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none").mean(dim=(1, 2))
    count = has_mask.sum() if num_masks is None else num_masks
    total = (per_sample * has_mask).sum()
    return total / (count.clamp(min=1) if isinstance(count, Tensor) else count)
