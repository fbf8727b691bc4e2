"""Template encoder and search network, from uint8 crops to float32 outputs, as they run and as they are exported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from alpharefine.models import AlphaRefineNet, HeadName, Prediction
from alpharefine.options import ComputePrecision

_LOW_PRECISIONS: dict[str, torch.dtype] = {"16": torch.float16, "bf16": torch.bfloat16}


class TemplateEncoder(nn.Module):
    """Template encoder.

    Args:
        network: Network to run.
    """

    def __init__(self, network: AlphaRefineNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor, targets_xyxy: Tensor | None = None) -> Tensor:
        """Encode targets.

        Args:
            crops: ``(B, 256, 256, 3)`` uint8 RGB, with the target in the middle half.
            targets_xyxy: ``(B, 4)`` float32, targets in crop pixels. Only a sliding neck has this input.

        Returns:
            ``(B, C, 8, 8)`` float32 kernels.
        """
        return self.network.encode_template(_images(crops), targets_xyxy).float()


class SearchNetwork(nn.Module):
    """Search network.

    Args:
        network: Network to run.
        heads: Heads to run.
    """

    def __init__(self, network: AlphaRefineNet, heads: Sequence[HeadName]) -> None:
        super().__init__()
        self.network, self.heads = network, tuple(heads)

    def forward(self, crops: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        """Find the targets in search crops.

        Args:
            crops: ``(B, 256, 256, 3)`` uint8 RGB.
            kernels: ``(B, C, 8, 8)`` float32, from `TemplateEncoder`.

        Returns:
            Outputs of the heads in the order of `alpharefine.inference.exported.output_names`: boxes ``(B, 4)`` in crop
            pixels, scores ``(B,)`` in 0..1, masks ``(B, 256, 256)`` in 0..1.
        """
        prediction: Prediction = self.network(_images(crops), kernels, self.heads)
        corners, score, logits = prediction.corners, prediction.score, prediction.mask_logits
        boxes = () if corners is None or score is None else (corners.crop_xyxy, score)
        masks = () if logits is None else (logits.sigmoid(),)
        return (*boxes, *masks)


def set_precision(network: AlphaRefineNet, precision: ComputePrecision) -> None:
    """Convert the layers of a network to a precision.

    In 16 bits, the backbone and the heads of boxes and masks have 16 bits. As under autocast, normalization,
    correlation and the decoding of the corners are float32. So is the quality head.

    Args:
        network: Network in float32, changed in place.
        precision: Floating-point precision of the layers, not ``auto``.
    """
    if precision != "32":
        dtype = _LOW_PRECISIONS[precision]
        for part in (network.backbone, network.corner_head, network.mask_head):
            if part is not None:
                part.to(dtype).register_forward_pre_hook(partial(_first_input_to, dtype))


def _first_input_to(dtype: torch.dtype, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *others = inputs  # others: the features, which have the type already
    return (first.to(dtype), *others)


def _images(crops: Tensor) -> Tensor:
    # The cast comes first: TensorRT takes uint8 for nothing else.
    return crops.float().permute(0, 3, 1, 2)
