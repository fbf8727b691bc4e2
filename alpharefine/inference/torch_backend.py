"""Inference with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from alpharefine.inference.backend import CropPredictions
from alpharefine.inference.exported import output_names, predictions_of
from alpharefine.inference.networks import SearchNetwork, TemplateEncoder, set_precision
from alpharefine.inference.options import resolve_precision
from alpharefine.models import AlphaRefineNet, HeadName
from alpharefine.models.cuda_graphs import GraphedFunction
from alpharefine.models.device import select_device
from alpharefine.models.folding import fold_batch_norms, fuse_activations
from alpharefine.models.precision import full_float32
from alpharefine.options import ComputePrecision, GeometryName

MAX_BATCH = 32
"""Number of crops that are computed together. On a GPU, the crops of the next batch are cut meanwhile."""


class TorchBackend:
    """An `InferenceBackend` that runs the network in PyTorch.

    On a GPU, the search network runs as CUDA graphs, one for each set of heads and each power of two of crops up to
    `MAX_BATCH`. The first call of each records it and keeps its memory. One thread at a time may use the backend.

    Args:
        network: Network to run. A copy in evaluation mode, with folded batch norms, is moved to the device.
        device: Torch device such as ``cpu`` or ``cuda:1``; ``auto`` selects the GPU if there is one.
        precision: Floating-point precision. ``auto``: see `resolve_precision`. TF32 is disabled, and the correlation
            always runs in 32 bits.

    Raises:
        UserError: If the precision is ``8``, which only an export has.
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
        self._network = deepcopy(network).eval()
        fold_batch_norms(self._network)
        set_precision(self._network, self._precision)
        self._network.to(self._device).to(memory_format=torch.channels_last)
        if self._on_gpu and self._precision != "32":
            fuse_activations(self._network)
        self._searches: dict[tuple[HeadName, ...], GraphedFunction] = {}

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
        with torch.inference_mode(), full_float32():
            target_xyxy = torch.from_numpy(targets_xyxy.astype(np.float32)).to(self._device)
            return list(TemplateEncoder(self._network)(torch.from_numpy(np.stack(crops)).to(self._device), target_xyxy))

    def predict(
        self, crops: Sequence[np.ndarray], templates: Sequence[Tensor], heads: Sequence[HeadName]
    ) -> CropPredictions:
        """Find the targets in search crops.

        Args:
            crops: B search crops, ``(S, S, 3)`` uint8 RGB, with any strides. On a GPU, the later ones are taken while
                it computes.
            templates: B kernels from `encode_templates`.
            heads: Heads to run.
        """
        key = tuple(heads)
        if key not in self._searches:
            self._searches[key] = GraphedFunction(SearchNetwork(self._network, key), pads=True)
        parts = []
        with torch.inference_mode(), full_float32():
            for start in range(0, len(crops), MAX_BATCH):
                pixels, kernels = crops[start : start + MAX_BATCH], templates[start : start + MAX_BATCH]
                outputs = self._searches[key](
                    torch.from_numpy(pixels if isinstance(pixels, np.ndarray) else np.stack(pixels)),
                    kernels[0][None] if len(kernels) == 1 else torch.stack(list(kernels)),
                    device=self._device,
                )
                parts.append([self._to_host(values[: len(kernels)]) for values in outputs])
            if self._on_gpu:
                torch.cuda.current_stream(self._device).synchronize()
        whole = (values[0] if len(values) == 1 else torch.cat(values) for values in zip(*parts, strict=True))
        return predictions_of(dict(zip(output_names(heads), (values.numpy() for values in whole), strict=True)))

    @property
    def _on_gpu(self) -> bool:
        return self._device.type == "cuda"

    def _to_host(self, values: Tensor) -> Tensor:
        """Copy an output to the host. The copy from a GPU is complete when its stream is."""
        if not self._on_gpu:
            return values
        return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
