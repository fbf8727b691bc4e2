"""Precise RoI pooling against the definition, and against outputs of the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from alpharefine.models import precise_roi_pool


def interpolated(features: Tensor, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear values ``(C, Y, X)`` of a map that is zero outside, by its definition."""
    values = features.numpy()
    hat_y = np.maximum(0, 1 - np.abs(y[:, None] - np.arange(values.shape[1])))
    hat_x = np.maximum(0, 1 - np.abs(x[:, None] - np.arange(values.shape[2])))
    return np.einsum("yi,cij,xj->cyx", hat_y, values, hat_x)


@pytest.mark.parametrize(
    "box",
    [(16, 32, 80, 96), (3.3, 5.7, 61.2, 40.4), (-20, -8, 30, 200), (100, 100, 101, 101), (300, 10, 340, 40)],
    ids=str,
)
def test_bins_are_means_of_the_interpolation(box: tuple[float, ...]) -> None:
    features = torch.randn(1, 3, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pooled = precise_roi_pool(features, torch.tensor([[box]], dtype=torch.float64), 4, 1 / 16)[0, 0]
    x1, y1, x2, y2 = np.array(box) / 16
    samples = (np.arange(4 * 400) + 0.5) / (4 * 400)
    dense = interpolated(features[0], y1 + samples * (y2 - y1), x1 + samples * (x2 - x1))
    means = dense.reshape(3, 4, 400, 4, 400).mean(axis=(2, 4))
    np.testing.assert_allclose(pooled.numpy(), means, atol=1e-5)


EMPTY = [(20, 20, 20, 50), (40, 20, 20, 50), (20, 50, 60, 20), (110, 20, 20, 50), (-90, 20, -40, 50)]


@pytest.mark.parametrize("box", EMPTY, ids=str)
def test_a_box_without_area_or_outside_of_the_map_gives_zeros(box: tuple[float, ...]) -> None:
    boxes = torch.tensor([[box]], dtype=torch.float64, requires_grad=True)
    pooled = precise_roi_pool(torch.ones(1, 2, 8, 8, dtype=torch.float64), boxes, 3, 1 / 16)
    assert not pooled.any()
    pooled.sum().backward()
    assert boxes.grad is not None
    assert not boxes.grad.any()


def test_gradients() -> None:
    rng = torch.Generator().manual_seed(1)
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64, generator=rng, requires_grad=True)
    low = torch.rand(2, 3, 2, dtype=torch.float64, generator=rng) * 40
    size = 5 + torch.rand(2, 3, 2, dtype=torch.float64, generator=rng) * 30
    boxes = torch.cat([low, low + size], dim=-1).requires_grad_()
    assert torch.autograd.gradcheck(lambda f, b: precise_roi_pool(f, b, 2, 1 / 16), (features, boxes))


def test_single_precision_is_close_to_double() -> None:
    features = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[[63.4, 63.6, 191.3, 191.7], [100.0, 100.0, 101.0, 100.5]]])
    single = precise_roi_pool(features, boxes, 8, 1 / 16)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, precise_roi_pool(features.double(), boxes, 8, 1 / 16), atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["1x1_s16", "3x3_s8", "3x3_s16", "5x5_s8", "4x4_s16"])
def test_values_and_gradients_of_the_original(golden: Path, name: str) -> None:
    with np.load(golden / "tracker_prroi.npz") as arrays:
        features = torch.from_numpy(arrays["features"])
        rois, out, cotangent, gradient = (
            torch.from_numpy(arrays[key]) for key in ("rois_bxyxy", f"out_{name}", f"cot_{name}", f"grad_rois_{name}")
        )
    bins, scale = int(name[0]), 1 / int(name.rpartition("s")[2])
    boxes = rois[:, None, 1:].clone().requires_grad_()
    pooled = precise_roi_pool(features[rois[:, 0].long()], boxes, bins, scale)[:, 0]
    np.testing.assert_allclose(pooled.detach(), out, atol=2e-6)
    (pooled * cotangent).sum().backward()
    assert boxes.grad is not None
    np.testing.assert_allclose(boxes.grad[:, 0], gradient[:, 1:], atol=2e-6 * float(gradient.abs().max()))
