"""Protocol between the refiner and the implementations of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from alpharefine.models.config import HeadName
from alpharefine.options import GeometryName


class CropPredictions(NamedTuple):
    """Predictions for B search crops of S x S pixels, float32 arrays on the CPU.

    Attributes:
        crop_xyxy: ``(B, 4)``, boxes in crop pixels, the corners may be out of order; None without the corner head.
        peak: ``(B,)``, confidence of each box in 0..1; None without the corner head.
        masks: ``(B, S, S)``, probabilities; None without the mask head.
    """

    crop_xyxy: np.ndarray | None
    peak: np.ndarray | None
    masks: np.ndarray | None


class InferenceBackend(Protocol):
    """A network on a device that encodes templates and predicts from search crops.

    `Refiner` and the evaluation use a network through this protocol only. An implementation keeps no state of a target.
    """

    @property
    def geometry(self) -> GeometryName:
        """Crop geometry of the weights, see `alpharefine.crops`."""

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """Heads of the network."""

    @property
    def device(self) -> str:
        """Name of the device, such as ``cpu`` or ``cuda:0``."""

    @property
    def precision(self) -> str:
        """Floating-point precision, such as ``32``, ``16`` or ``bf16``."""

    def encode_templates(self, crops: Sequence[np.ndarray], targets_xyxy: np.ndarray) -> Sequence[Any]:
        """Encode targets.

        Args:
            crops: B template crops, ``(S, S, 3)`` uint8 RGB.
            targets_xyxy: ``(B, 4)``, targets in crop pixels.

        Returns:
            B encodings. Only `predict` of the same backend looks into them.
        """

    def predict(
        self, crops: Sequence[np.ndarray], templates: Sequence[Any], heads: Sequence[HeadName]
    ) -> CropPredictions:
        """Find the targets in search crops.

        Args:
            crops: B search crops, ``(S, S, 3)`` uint8 RGB, with any strides.
            templates: B encodings from `encode_templates`.
            heads: Heads to run.
        """
