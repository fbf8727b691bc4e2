"""Overlap of predicted boxes and masks with their labels, for validation during training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from alpharefine.boxes import paired_iou
from alpharefine.masks import MASK_THRESHOLD


class _MeanIoU(Metric):
    """Mean of IoU values.

    The float64 state must not be cast (`set_dtype`, `.to(torch.bfloat16)`).
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    iou_sum: Tensor
    num_samples: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("iou_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the mean IoU, a scalar in 0..1; NaN if there was no sample to average."""
        return self.iou_sum / self.num_samples

    def _add(self, ious: Tensor) -> None:
        self.iou_sum += ious.sum()
        self.num_samples += ious.numel()


class BoxIoU(_MeanIoU):
    """Mean IoU of predicted boxes with their labels, in 0..1.

    >>> metric = BoxIoU()
    >>> metric.update(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    >>> metric.compute().item()
    0.5
    """

    def update(self, pred_xyxy: Tensor, target_xyxy: Tensor) -> None:
        """Add a batch.

        Args:
            pred_xyxy: ``(B, 4)`` predicted boxes.
            target_xyxy: ``(B, 4)`` labels, in the same pixels.
        """
        self._add(paired_iou(pred_xyxy.double(), target_xyxy.double()))


class MaskIoU(_MeanIoU):
    """Mean IoU of predicted masks with their labels, in 0..1, over the samples that have a mask.

    The IoU of two empty masks is 1.

    >>> metric = MaskIoU()
    >>> metric.update(torch.tensor([[[0.9, 0.6, 0.1]]]), torch.tensor([[[1, 0, 0]]]), torch.tensor([True]))
    >>> metric.compute().item()
    0.5
    """

    def update(self, prob: Tensor, target: Tensor, has_mask: Tensor) -> None:
        """Add a batch.

        Args:
            prob: ``(B, H, W)`` probability of the target in 0..1.
            target: ``(B, H, W)`` labels, 0 or 1.
            has_mask: ``(B,)`` bool, samples with a label; the others are ignored.
        """
        predicted, labeled = prob[has_mask] > MASK_THRESHOLD, target[has_mask] > 0
        intersection = (predicted & labeled).sum(dim=(1, 2))
        union = (predicted | labeled).sum(dim=(1, 2))
        self._add(torch.where(union > 0, intersection.double() / union.clamp(min=1), 1.0))
