"""The shipped weights are small, in half precision, and find a target that moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import alpharefine
from alpharefine import Refiner

FILES = sorted((Path(alpharefine.__file__).parent / "weights").glob("*.safetensors"))


def test_there_are_weights() -> None:
    assert [path.stem for path in FILES] == ["ar18_cm"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_weights(path: Path) -> None:
    assert path.stat().st_size <= 16 * 2**20
    assert path.with_suffix(".md").is_file()
    assert {value.dtype for value in load_file(path).values() if value.is_floating_point()} == {torch.float16}
    refiner = Refiner.from_checkpoint(path.stem, device="cpu", precision="32")
    assert refiner.heads == ("corner", "mask")
    assert refiner.geometry == "exact"
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 110, (15, 20, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    first, second = ground.copy(), ground.copy()
    first[60:120, 80:140], second[90:155, 150:210] = (230, 60, 40), (230, 60, 40)
    refiner.initialize(first, np.array([80.0, 60, 60, 60]))
    found = refiner.refine(second, np.array([140.0, 80, 80, 70]), mask=True)
    np.testing.assert_allclose(found.box_xywh, [150, 90, 60, 65], atol=4)
    assert found.mask is not None
    assert found.mask[95:150, 155:205].mean() > 0.8
    assert found.mask[:60].max() < 0.2
    lost = refiner.refine(first, np.array([200.0, 160, 60, 60]))
    assert lost.score < 0.5 < 0.7 < found.score
