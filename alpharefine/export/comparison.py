"""Comparison of exported files with the network in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from alpharefine.crops import CROP_SIZE
from alpharefine.errors import UserError
from alpharefine.inference.backend import CropPredictions, InferenceBackend
from alpharefine.inference.exported import ExportPrecision

Predict = Callable[[list[np.ndarray], np.ndarray], CropPredictions]
"""Function that encodes templates and finds each in its own crop, from B crops ``(S, S, 3)`` and boxes ``(B, 4)``."""


class Difference(NamedTuple):
    """Largest differences from the network in PyTorch in 32 bits.

    Attributes:
        box_px: Of a side of a box, in crop pixels.
        prob: Of a score or of a pixel of a mask, in 0..1.
    """

    box_px: float
    prob: float

    def __str__(self) -> str:
        return f"{self.box_px:.2g} px in the boxes, {self.prob:.2g} in scores and masks"


TOLERANCES: dict[ExportPrecision, Difference] = {
    "32": Difference(0.05, 0.01),
    "16": Difference(0.5, 0.05),
    "8": Difference(8.0, 0.5),
}
"""Largest accepted differences. The crop has 256 pixels a side."""


def predict_with(backend: InferenceBackend) -> Predict:
    """Return a function that predicts with a backend.

    Args:
        backend: Backend to use.
    """
    return lambda crops, targets_xyxy: backend.predict(
        crops, backend.encode_templates(crops, targets_xyxy), backend.heads
    )


def sample_crops(num_crops: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return crops of colored rectangles, ``(256, 256, 3)`` uint8, and the boxes of the rectangles, ``(N, 4)`` xyxy.

    Args:
        num_crops: Number of crops.
    """
    rng = np.random.default_rng(0)
    crops, boxes_xyxy = [], rng.integers([48, 48, 160, 160], [96, 96, 208, 208], (num_crops, 4))
    for x1, y1, x2, y2 in boxes_xyxy:
        # Several scales: contours and textures.
        cells = [rng.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (4, 16)]
        ground, texture = (cv2.resize(each, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR) for each in cells)
        ground[y1:y2, x1:x2] = 255 - texture[y1:y2, x1:x2] // 2
        crops.append(ground)
    return crops, boxes_xyxy.astype(np.float64)


def require_agreement(
    predict: Predict, reference: Predict, precision: ExportPrecision, batch_size: int | None
) -> Difference:
    """Return the largest differences between two predictions.

    Args:
        predict: Prediction with the exported files.
        reference: Prediction in PyTorch in 32 bits.
        precision: Precision of the exported files.
        batch_size: Batch size of the exported files. None compares with one and with three crops.

    Raises:
        UserError: If a difference exceeds `TOLERANCES`.
    """
    differences = []
    for num_crops in (1, 3) if batch_size is None else (batch_size,):
        samples = sample_crops(num_crops)
        differences.append(_difference(predict(*samples), reference(*samples)))
    found, limit = Difference(*np.max(differences, axis=0).tolist()), TOLERANCES[precision]
    if not (found.box_px <= limit.box_px and found.prob <= limit.prob):  # NaN is no agreement either
        raise UserError(
            f"The exported files differ from the network in PyTorch by {found} ({limit} are allowed). Nothing was "
            f"written; export the checkpoint {'' if precision == '32' else 'in 32 bits, or '}as .safetensors."
        )
    return found


def _difference(actual: CropPredictions, expected: CropPredictions) -> Difference:
    box, score, mask = (
        0.0 if one is None or other is None else float(np.abs(one - other).max())
        for one, other in zip(actual, expected, strict=True)
    )
    return Difference(box, float(np.maximum(score, mask)))
