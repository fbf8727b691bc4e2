"""Inference with PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from alpharefine.inference.backend import CropPredictions
from alpharefine.inference.options import resolve_precision
from alpharefine.models import AlphaRefineNet, HeadName, Prediction
from alpharefine.models.device import select_device
from alpharefine.models.folding import fold_batch_norms
from alpharefine.models.precision import full_float32
from alpharefine.options import ComputePrecision, GeometryName

_AUTOCAST = {"16": torch.float16, "bf16": torch.bfloat16}


class TorchBackend:
    """An `InferenceBackend` that runs the network in PyTorch.

    Args:
        network: Network to run. A copy in evaluation mode, with folded batch norms, is moved to the device.
        device: Torch device such as ``cpu`` or ``cuda:1``; ``auto`` selects the GPU if there is one.
        precision: Floating-point precision. ``auto``: see `resolve_precision`. ``32`` disables TF32. The correlation
            always runs in 32 bits.

    Raises:
        ValueError: If the precision is unknown, or there is no such device.
    """

    def __init__(self, network: AlphaRefineNet, device: str = "auto", precision: ComputePrecision = "auto") -> None:
        if precision not in get_args(ComputePrecision):
            raise ValueError(
                f"`precision` must be one of {', '.join(get_args(ComputePrecision))}, got {precision!r}; choose one of "
                "them."
            )
        self._device = select_device(device)
        self._precision = resolve_precision(precision, self._device.type, network.geometry)
        self._network = copy.deepcopy(network).eval()
        fold_batch_norms(self._network)
        self._network.to(self._device).to(memory_format=torch.channels_last)

    @property
    def geometry(self) -> GeometryName:
        """Crop geometry of the weights."""
        return self._network.geometry

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """Heads of the network."""
        return self._network.heads

    @property
    def device(self) -> str:
        """Name of the device."""
        return str(self._device)

    @property
    def precision(self) -> str:
        """Floating-point precision, ``auto`` resolved."""
        return self._precision

    def encode_templates(self, crops: Sequence[np.ndarray], targets_xyxy: np.ndarray) -> list[Tensor]:
        """Encode targets.

        Args:
            crops: B template crops, ``(S, S, 3)`` uint8 RGB.
            targets_xyxy: ``(B, 4)``, targets in crop pixels.

        Returns:
            B kernels ``(C, 8, 8)`` on the device.
        """
        with torch.inference_mode(), self._autocast():
            target_xyxy = torch.from_numpy(targets_xyxy.astype(np.float32)).to(self._device)
            return list(self._network.encode_template(self._batch(crops), target_xyxy))

    def predict(
        self, crops: Sequence[np.ndarray], templates: Sequence[Tensor], heads: Sequence[HeadName]
    ) -> CropPredictions:
        """Find the targets in search crops.

        Args:
            crops: B search crops, ``(S, S, 3)`` uint8 RGB, with any strides.
            templates: B kernels from `encode_templates`.
            heads: Heads to run.
        """
        with torch.inference_mode(), self._autocast():
            prediction: Prediction = self._network(self._batch(crops), torch.stack(list(templates)), heads)
            corners, logits, score = prediction.corners, prediction.mask_logits, prediction.score
            # The whole batch leaves the device at once.
            return CropPredictions(
                crop_xyxy=None if corners is None else corners.crop_xyxy.cpu().numpy(),
                score=None if score is None else score.cpu().numpy(),
                masks=None if logits is None else logits.sigmoid().cpu().numpy(),
            )

    def _batch(self, crops: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(crops)).to(self._device).permute(0, 3, 1, 2)

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = _AUTOCAST.get(self._precision)
        return full_float32() if dtype is None else torch.autocast(self._device.type, dtype)
