"""Interface between the refiner and implementations of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from alpharefine.models.config import HeadName
from alpharefine.options import GeometryName


class CropPredictions(NamedTuple):
    """Predictions for B search crops of S x S pixels, as float32 arrays on the CPU.

    Attributes:
        crop_xyxy: Boxes, ``(B, 4)`` in crop pixels. Corners may be out of order. None if the corner head was not run.
        score: Confidence in each box, ``(B,)`` in 0..1, see `alpharefine.models.Prediction.score`. None if the corner
            head was not run.
        masks: Probability maps, ``(B, S, S)``. None if the mask head was not run.
    """

    crop_xyxy: np.ndarray | None
    score: np.ndarray | None
    masks: np.ndarray | None

    def part(self, crops: slice) -> CropPredictions:
        """Return the predictions for some of the crops.

        Args:
            crops: Indices of the crops.
        """
        return CropPredictions(*(None if values is None else values[crops] for values in self))


class InferenceBackend(Protocol):
    """Network on a device that encodes templates and predicts from search crops.

    `Refiner` uses a network only through this protocol. An implementation stores nothing about a target.
    """

    @property
    def geometry(self) -> GeometryName:
        """Crop geometry of the network, see `alpharefine.crops`."""

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """Heads of the network."""

    @property
    def device(self) -> str:
        """Name of the device, such as ``cpu`` or ``cuda:0``."""

    @property
    def precision(self) -> str:
        """Precision, such as ``32``, ``16`` or ``bf16``."""

    def encode_templates(self, crops: Sequence[np.ndarray], targets_xyxy: np.ndarray) -> Sequence[Any]:
        """Encode the targets in template crops.

        Args:
            crops: B template crops, ``(S, S, 3)`` uint8 RGB, with any strides.
            targets_xyxy: Boxes of the targets, ``(B, 4)`` in crop pixels.

        Returns:
            B encodings, which are opaque to everything but `predict` of the same backend.
        """

    def predict(
        self, crops: Sequence[np.ndarray], templates: Sequence[Any], heads: Sequence[HeadName]
    ) -> CropPredictions:
        """Predict the boxes and masks of the targets in search crops.

        Args:
            crops: B search crops, ``(S, S, 3)`` uint8 RGB, with any strides. They may be computed by threads while the
                first ones are used: take them in order, and those that are needed first before others.
            templates: B encodings from `encode_templates`.
            heads: Heads to run.
        """
