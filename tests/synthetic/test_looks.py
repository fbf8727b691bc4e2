"""Videos of objects cut out of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import alpharefine.synthetic
from alpharefine.data.images import box_of_mask
from alpharefine.synthetic import SyntheticSequence, generate_sequence
from alpharefine.synthetic.drawing import Sprite, scale_and_rotate

SIZE = (96, 128)
PHOTOS = Path(alpharefine.synthetic.__file__).parent / "photos"


@pytest.fixture(scope="module")
def sequences() -> list[SyntheticSequence]:
    return [generate_sequence(0, index, 60, SIZE, "photos") for index in range(6)]


def test_every_photograph_has_its_source_and_rights() -> None:
    listed = (PHOTOS / "README.md").read_text()
    names = {path.name for path in PHOTOS.iterdir()} - {"README.md"}
    assert len(names) == 7
    assert all(f"`{name}`" in listed for name in names)


def test_targets_take_turns(sequences) -> None:
    names = [sequence.name for sequence in sequences]
    assert names == ["astronaut-1", "coffee-2", "shuttle-3", "astronaut-4", "coffee-5", "shuttle-6"]


def test_the_same_seed_gives_the_same_pixels(sequences) -> None:
    again = generate_sequence(0, 4, 60, SIZE, "photos")
    assert np.array_equal(again.frames, sequences[4].frames)
    assert not np.array_equal(again.frames, sequences[1].frames)
    assert not np.array_equal(again.frames, generate_sequence(0, 4, 60, SIZE).frames)


def test_boxes_are_those_of_the_masks_where_nothing_hides_the_target(sequences) -> None:
    for sequence in sequences:
        assert sequence.visible_ratio[0] == 1
        whole = np.flatnonzero(sequence.visible_ratio == 1)
        assert whole.size > 5
        assert all(np.array_equal(sequence.boxes_xywh[i], box_of_mask(sequence.masks[i])) for i in whole)


def test_the_target_differs_from_the_background(sequences) -> None:
    for sequence in sequences:
        frame, mask = sequence.frames[0].astype(float), sequence.masks[0] > 0
        assert np.abs(frame[mask].mean(0) - frame[~mask].mean(0)).max() > 10


def test_a_cutout_covers_its_picture_where_it_is_opaque() -> None:
    picture = np.full((20, 40, 4), 200, np.uint8)
    picture[..., 3] = 0
    picture[5:15, 10:30, 3] = 255
    layer = Sprite.cut_out(picture, (20.0, 10.0)).place(scale_and_rotate(0.0), np.array([32.0, 24.0]))
    np.testing.assert_allclose(box_of_mask(layer.frame_mask((48, 64))), [22, 19, 20, 10], atol=1)
    assert (layer.texture[layer.alpha > 127] == 200).all()
