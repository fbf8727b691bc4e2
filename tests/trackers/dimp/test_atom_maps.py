from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from alpharefine.trackers.dimp.atom_maps import gaussian_labels, normalized, upsampled
from tests.trackers.dimp.golden import read_arrays


@pytest.mark.parity
def test_golden_map(golden: Path) -> None:
    arrays = read_arrays(golden / "tracker_atom.npz")
    larger = upsampled(arrays["small/up_in"], 288)
    rotated = np.roll(larger, (144, 144), axis=(0, 1))  # the authors' map before its halves change places
    np.testing.assert_allclose(rotated[::4, ::4], arrays["small/up_out_288_stride4"], atol=1e-5)


@pytest.mark.parity
def test_golden_label(golden: Path) -> None:
    wanted = read_arrays(golden / "tracker_logic.npz")["label_spatial/18x18_sig1.2_c0.7_-1.3"]
    np.testing.assert_allclose(gaussian_labels(torch.tensor([[0.7, -1.3]]), 18, 1.2)[0], np.squeeze(wanted), atol=1e-6)


@pytest.mark.parametrize("frequency", [0, 1, 3, 8])
def test_waves_are_interpolated_exactly(frequency: int) -> None:
    coarse = np.cos(2 * np.pi * (frequency * np.arange(18)[:, None] / 18 + np.arange(18) / 18) + 0.4)
    fine = np.cos(2 * np.pi * (frequency * np.arange(72)[:, None] / 72 + np.arange(72) / 72) + 0.4)
    np.testing.assert_allclose(upsampled(coarse.astype(np.float32), 72), fine, atol=1e-5)


def test_the_highest_frequency_counts_twice() -> None:
    alternating = np.tile(np.array([1, -1], np.float32), 9)[:, None] * np.ones(18, np.float32)
    larger = upsampled(alternating, 36)
    np.testing.assert_allclose(larger[::2], 2 * alternating[:, :1] * np.ones(36), atol=1e-5)


def test_a_label_peaks_at_its_center_with_the_height_worked_out_by_hand() -> None:
    labels = gaussian_labels(torch.tensor([[0.5, -1.5], [0.0, 0.0]]), 18, 0.9)
    assert np.unravel_index(int(labels[0].argmax()), (18, 18)) == (9, 7)
    assert labels[0, 9, 7] == 1
    assert labels[0, 10, 9] == pytest.approx(np.exp(-(1 + 4) / (2 * 0.81)), rel=1e-5)
    assert labels[1].max() == pytest.approx(np.exp(-0.5 / (2 * 0.81)), rel=1e-5)


def test_each_picture_has_a_mean_square_of_one() -> None:
    features = (
        torch.randn(3, 8, 5, 5, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-2, 1, 50])[:, None, None, None]
    )
    torch.testing.assert_close(normalized(features).square().mean(dim=(1, 2, 3)), torch.ones(3), rtol=1e-4, atol=0)
    assert torch.equal(normalized(torch.zeros(1, 2, 3, 3)), torch.zeros(1, 2, 3, 3))
