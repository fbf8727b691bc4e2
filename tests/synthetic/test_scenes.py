from __future__ import annotations

import cv2
import numpy as np
import pytest

from alpharefine.data.images import box_of_mask
from alpharefine.errors import UserError
from alpharefine.synthetic import SyntheticSequence, generate_crowd, generate_image, generate_sequence
from alpharefine.synthetic.drawing import PATTERNS, SHAPES, Palette, Sprite, draw_outline, scale_and_rotate

SIZE = (96, 128)
TINY = (64, 80)


@pytest.fixture(scope="module")
def sequences() -> list[SyntheticSequence]:
    return [generate_sequence(0, index, 60, SIZE) for index in range(20)]


def same(a: SyntheticSequence, b: SyntheticSequence) -> bool:
    return a.name == b.name and all(
        np.array_equal(getattr(a, field), getattr(b, field))
        for field in ("frames", "boxes_xywh", "masks", "full_occlusion", "out_of_view", "visible_ratio", "cut_by_image")
    )


class TestSprite:
    """Drawn sprites are at the requested subpixel positions."""

    def sprite(self) -> Sprite:
        rng = np.random.default_rng(0)
        return Sprite.draw(rng, "rectangle", (10.0, 5.0), Palette.draw(rng, 0.3, 0.5))

    @pytest.mark.parametrize(
        ("angle", "scale_x", "scale_y", "center", "box_xywh"),
        [
            (0.0, 1.0, 1.0, (30.0, 20.0), (20, 15, 20, 10)),
            (0.0, 2.0, 1.0, (30.0, 20.0), (10, 15, 40, 10)),
            (0.0, 0.5, 2.0, (30.0, 20.0), (25, 10, 10, 20)),
            (np.pi / 2, 1.0, 1.0, (30.0, 20.0), (25, 10, 10, 20)),
            (0.0, 1.0, 1.0, (5.0, 2.0), (0, 0, 15, 7)),
            (0.0, 1.0, 1.0, (62.0, 40.0), (52, 35, 12, 10)),
        ],
        ids=["as drawn", "wider", "narrower and taller", "quarter turn", "cut at the left and top", "cut at the right"],
    )
    def test_a_rectangle_covers_its_pixels_exactly(self, angle, scale_x, scale_y, center, box_xywh) -> None:
        layer = self.sprite().place(scale_and_rotate(angle, scale_x, scale_y), np.array(center))
        mask = layer.frame_mask((48, 64))
        assert box_of_mask(mask).tolist() == list(box_xywh)
        assert mask.sum() == box_xywh[2] * box_xywh[3]

    def test_masks_are_unbiased_at_fractions_of_a_pixel(self) -> None:
        rng = np.random.default_rng(1)
        sprite, errors = self.sprite(), []
        for _ in range(100):
            center = rng.uniform(25, 30, size=2)
            box_xywh = box_of_mask(sprite.place(scale_and_rotate(0.0), center).frame_mask((64, 64)))
            errors.append(box_xywh[:2] + box_xywh[2:] / 2 - center)
        assert np.abs(errors).max() <= 0.55
        assert np.abs(np.mean(errors, axis=0)).max() < 0.08

    def test_a_layer_out_of_the_frame_paints_nothing(self) -> None:
        frame = np.zeros((48, 64, 3), np.uint8)
        layer = self.sprite().place(scale_and_rotate(0.0), np.array([-40.0, 100.0]))
        layer.paint(frame)
        assert not frame.any()
        assert not layer.frame_mask((48, 64)).any()

    @pytest.mark.parametrize("shape", SHAPES)
    def test_outlines_fill_the_unit_square(self, shape) -> None:
        for seed in range(5):
            outline = draw_outline(np.random.default_rng(seed), shape)
            np.testing.assert_allclose([outline.min(0), outline.max(0)], [[-1, -1], [1, 1]], atol=1e-12)

    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_patterns_have_contrast(self, pattern) -> None:
        rng = np.random.default_rng(2)
        sprite = Sprite.draw(rng, "ellipse", (20.0, 20.0), Palette.draw(rng, 0.6, 0.5), pattern)
        assert sprite.texture[sprite.alpha == 255].std(axis=0).max() > 8


class TestSequence:
    def test_the_same_seed_gives_the_same_bytes(self, sequences) -> None:
        assert same(sequences[7], generate_sequence(0, 7, 60, SIZE))

    @pytest.mark.parametrize(("seed", "index"), [(1, 4), (0, 8)], ids=["another seed", "another index"])
    def test_another_scene_has_other_pixels(self, sequences, seed, index) -> None:
        assert not np.array_equal(sequences[4].frames, generate_sequence(seed, index, 60, SIZE).frames)

    def test_shapes_and_types(self, sequences) -> None:
        sequence = sequences[2]
        assert (sequence.name, sequence.shape) == ("blob-3", "blob")
        assert len(sequence.frames) == 60
        assert all(frame.shape == (*SIZE, 3) and frame.dtype == np.uint8 for frame in sequence.frames)
        assert sequence.boxes_xywh.shape == (60, 4)
        assert sequence.boxes_xywh.dtype == np.float64
        assert sequence.masks.shape == (60, *SIZE)
        assert sequence.masks.dtype == np.uint8
        assert sequence.masks.max() == 1
        for flags in (sequence.full_occlusion, sequence.out_of_view, sequence.cut_by_image):
            assert flags.shape == (60,)
            assert flags.dtype == np.bool_

    def test_the_first_frame_shows_the_whole_target(self, sequences) -> None:
        for sequence in sequences:
            assert sequence.visible_ratio[0] == 1
            assert not sequence.cut_by_image[0]
            assert sequence.boxes_xywh[0, 2:].min() >= 8

    def test_boxes_are_tight_where_nothing_hides_the_target(self, sequences) -> None:
        for sequence in sequences:
            whole = np.flatnonzero(sequence.visible_ratio == 1)
            assert whole.size > 5
            assert all(np.array_equal(sequence.boxes_xywh[i], box_of_mask(sequence.masks[i])) for i in whole)

    def test_boxes_reach_beyond_what_is_visible_of_an_occluded_target(self, sequences) -> None:
        larger = 0
        for sequence in sequences:
            for frame in np.flatnonzero(sequence.masks.any(axis=(1, 2)) & (sequence.visible_ratio < 1)):
                x, y, w, h = sequence.boxes_xywh[frame]
                seen_x, seen_y, seen_w, seen_h = box_of_mask(sequence.masks[frame])
                assert x <= seen_x
                assert y <= seen_y
                assert x + w >= seen_x + seen_w
                assert y + h >= seen_y + seen_h
                larger += w * h > seen_w * seen_h
        assert larger > 20

    def test_boxes_lie_in_the_image(self, sequences) -> None:
        for sequence in sequences:
            low, high = sequence.boxes_xywh[:, :2], sequence.boxes_xywh[:, :2] + sequence.boxes_xywh[:, 2:]
            assert low.min() >= 0
            assert (high <= (SIZE[1], SIZE[0])).all()

    def test_targets_are_occluded_in_part_and_wholly(self, sequences) -> None:
        partly = [((s.visible_ratio > 0.2) & (s.visible_ratio < 0.8) & ~s.cut_by_image).any() for s in sequences]
        hidden = [(s.full_occlusion & ~s.cut_by_image).any() for s in sequences]
        assert 4 <= sum(partly) < 20
        assert 1 <= sum(hidden) < 10
        assert all((s.visible_ratio[s.full_occlusion] < 0.05).all() for s in sequences)

    def test_targets_leave_and_come_back(self, sequences) -> None:
        leavers = [s for s in sequences if s.out_of_view.any()]
        assert 1 <= len(leavers) < 10
        for sequence in leavers:
            gone = sequence.out_of_view
            assert not sequence.boxes_xywh[gone].any()
            assert not sequence.masks[gone].any()
            assert not sequence.full_occlusion[gone].any()
            assert sequence.cut_by_image.any()
            assert sequence.visible_ratio[-1] > 0

    def test_scale_and_aspect_change_but_slowly(self, sequences) -> None:
        sides, aspects, steps = [], [], []
        for sequence in sequences:
            whole = sequence.boxes_xywh[sequence.visible_ratio == 1, 2:]
            sides.append(np.sqrt(whole.prod(1)).max() / np.sqrt(whole.prod(1)).min())
            aspect = whole[:, 0] / whole[:, 1]
            aspects.append(aspect.max() / aspect.min())
            pairs = (sequence.visible_ratio[1:] == 1) & (sequence.visible_ratio[:-1] == 1)
            ratios = np.sqrt(sequence.boxes_xywh[1:, 2:][pairs] / sequence.boxes_xywh[:-1, 2:][pairs])
            steps.append(np.abs(np.log(ratios)).max())
        assert np.median(sides) > 1.25
        assert max(sides) > 1.6
        assert np.median(aspects) > 1.25
        assert max(steps) < 0.2

    def test_targets_stand_out_from_what_surrounds_them(self, sequences) -> None:
        for sequence in sequences:
            inside = sequence.masks[0]
            around = cv2.dilate(inside, np.ones((9, 9), np.uint8)) & (1 - inside)
            frame = sequence.frames[0].astype(float)
            assert np.abs(frame[inside == 1].mean(0) - frame[around == 1].mean(0)).max() > 25

    @pytest.mark.parametrize("num_frames", [1, 2, 12, 75])
    def test_any_length(self, num_frames) -> None:
        sequence = generate_sequence(3, 1, num_frames, TINY)
        assert len(sequence.frames) == len(sequence.boxes_xywh) == len(sequence.masks) == num_frames
        assert sequence.visible_ratio[0] == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((-1, 0, 5, TINY), "`seed` must be at least 0, got -1"),
            ((0, -2, 5, TINY), "`index` must be at least 0, got -2"),
            ((0, 0, 0, TINY), "`num_frames` must be at least 1, got 0"),
            ((0, 0, 5, (64, 20)), r"`frame_size \(each side\)` must be at least 48, got 20"),
        ],
    )
    def test_arguments_out_of_range(self, arguments, message) -> None:
        with pytest.raises(UserError, match=message):
            generate_sequence(*arguments)


class TestImage:
    def test_the_same_seed_gives_the_same_bytes(self) -> None:
        (first, first_masks), (second, second_masks) = generate_image(0, 3, SIZE), generate_image(0, 3, SIZE)
        assert np.array_equal(first, second)
        assert np.array_equal(first_masks, second_masks)
        assert not np.array_equal(first, generate_image(0, 4, SIZE)[0])

    def test_masks_do_not_overlap_and_can_be_seen(self) -> None:
        counts = []
        for index in range(10):
            image, masks = generate_image(0, index, SIZE)
            assert image.shape == (*SIZE, 3)
            assert all(mask.dtype == np.uint8 and mask.sum() >= 30 for mask in masks)
            assert np.sum(masks, axis=0).max() == 1
            counts.append(len(masks))
        assert min(counts) >= 1
        assert max(counts) >= 4


class TestCrowd:
    """Videos of several objects."""

    def test_boxes_enclose_the_visible_parts_of_their_objects(self) -> None:
        crowd = generate_crowd(0, 7, 10, (240, 320))
        assert crowd.boxes_xywh.shape == (10, 7, 4)
        assert [frame.shape for frame in crowd.frames] == [(240, 320, 3)] * 10
        for boxes_xywh, labels in zip(crowd.boxes_xywh, crowd.labels, strict=True):
            assert set(np.unique(labels)) <= set(range(8))
            for number, (x, y, w, h) in enumerate(boxes_xywh.astype(int), start=1):
                mask = labels == number
                assert mask.sum() > 50
                assert mask[y : y + h, x : x + w].sum() == mask.sum()

    def test_objects_move(self) -> None:
        boxes_xywh = generate_crowd(0, 3, 30).boxes_xywh
        assert (np.abs(boxes_xywh[-1] - boxes_xywh[0])[:, :2].max(1) > 3).all()

    def test_it_depends_on_the_seed_alone(self) -> None:
        first, same_seed, other = (generate_crowd(seed, 2, 2, SIZE) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.frames, same_seed.frames)
        assert (first.boxes_xywh != other.boxes_xywh).any()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((-1, 2), "`seed`"),
            ((0, 0), "`num_objects` must be at least 1"),
            ((0, 256), "at most 255, got 256"),
            ((0, 60), "leave each less than 48 pixels"),
        ],
    )
    def test_bad_arguments(self, arguments: tuple[int, int], message: str) -> None:
        with pytest.raises(UserError, match=message):
            generate_crowd(*arguments)
