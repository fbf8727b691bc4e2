from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from alpharefine.crops import Window
from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.coco import COCO
from alpharefine.data.got10k import GOT10k
from alpharefine.data.mask_video import MaskVideo, Saliency
from alpharefine.data.pairs import Frame, PairBatch, PairDataset, PairSource
from alpharefine.errors import UserError
from tests.data.numbered import STILL, Numbered, NumberedImages, NumberedMasks, Rectangle


def numbers(frames: tuple[Frame, Frame]) -> tuple[int, int, int]:
    """Return the sequence, template frame and search frame of a pair from a `Numbered`."""
    template, search = frames
    assert template.box_xywh[0] == search.box_xywh[0]
    return int(template.box_xywh[0]), int(template.box_xywh[1]), int(search.box_xywh[1])


def dataset(source: object, augmentation: PairAugmentation = STILL, seed: int = 0) -> PairDataset:
    return PairDataset([source], [1.0], augmentation, num_pairs=10, seed=seed)


def mirrored(pair: PairBatch) -> PairBatch:
    def boxes(crop_xyxy: torch.Tensor) -> torch.Tensor:
        x1, y1, x2, y2 = crop_xyxy.tolist()
        return torch.tensor([256 - x2, y1, 256 - x1, y2])

    return PairBatch(
        pair.template.flip(-1),
        boxes(pair.template_xyxy),
        pair.search.flip(-1),
        boxes(pair.target_xyxy),
        pair.mask.flip(-1),
        pair.has_mask,
    )


def equal(a: PairBatch, b: PairBatch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class TestAcceptance:
    @pytest.mark.parametrize(
        ("kind", "num_frames", "num_visible", "accepted"),
        [
            pytest.param(Numbered, 20, 5, True, id="video, 20 frames, 5 visible"),
            pytest.param(Numbered, 20, 4, False, id="video, 20 frames, 4 visible"),
            pytest.param(Numbered, 19, 19, False, id="video, 19 frames"),
            pytest.param(NumberedMasks, 5, 5, True, id="video with masks, 5 frames"),
            pytest.param(NumberedMasks, 5, 4, False, id="video with masks, 4 visible"),
            pytest.param(NumberedMasks, 1, 1, False, id="video with masks, 1 frame"),
            pytest.param(NumberedImages, 1, 1, True, id="image"),
            pytest.param(NumberedImages, 1, 0, False, id="image without target"),
        ],
    )
    def test_which_sequences_are_used(
        self, tmp_path: Path, kind: type[Numbered], num_frames: int, num_visible: int, accepted: bool
    ) -> None:
        good = [True] * (30 if kind.is_video else 1)
        case = [True] * num_visible + [False] * (num_frames - num_visible)
        source = PairSource(kind(tmp_path, [case, good]))
        assert source.sequences.tolist() == ([0, 1] if accepted else [1])

    @pytest.mark.parametrize(
        ("lengths", "min_frames", "used"),
        [
            pytest.param([12], None, [0], id="a single short clip"),
            pytest.param([12, 3, 1], None, [0], id="short clips, 5 visible frames needed"),
            pytest.param([3, 1], None, [0], id="a very short clip"),
            pytest.param([12, 20], None, [1], id="a long one beside a short one"),
            pytest.param([12, 20, 11], 12, [0, 1], id="an option"),
            pytest.param([3, 20, 2], 3, [0, 1], id="a low option"),
        ],
    )
    def test_short_videos(self, tmp_path: Path, lengths: list[int], min_frames: int | None, used: list[int]) -> None:
        source = PairSource(Numbered(tmp_path, [[True] * n for n in lengths]), min_frames=min_frames)
        assert source.sequences.tolist() == used
        source.draw(np.random.default_rng(0))

    def test_too_short_even_so(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"30 in total, and the longest has 20; .* a lower `data\.min_frames`"):
            PairSource(Numbered(tmp_path, [[True] * 20]), min_frames=30)
        with pytest.raises(UserError, match=r"`min_frames` must be at least 2 frames, got 1"):
            PairSource(Numbered(tmp_path, [[True] * 20]), min_frames=1)

    def test_no_sequence_to_train_on(self, tmp_path: Path) -> None:
        with pytest.raises(
            UserError, match=r"none of the 2 sequences in .* is suitable for training; a video needs 5 visible"
        ):
            PairSource(Numbered(tmp_path, [[True] * 19, [False] * 40]))


class TestDrawing:
    def test_the_gap_is_50_back_to_49_ahead(self, tmp_path: Path) -> None:
        source, rng = PairSource(Numbered(tmp_path, [[True] * 300])), np.random.default_rng(0)
        drawn = np.array([numbers(source.draw(rng)) for _ in range(3000)])
        gaps = drawn[:, 2] - drawn[:, 1]
        assert (gaps.min(), gaps.max()) == (-50, 49)
        amid = gaps[(drawn[:, 1] >= 50) & (drawn[:, 1] < 250)]
        counts = np.bincount(amid + 50, minlength=100)
        assert ((counts - amid.size / 100) ** 2).sum() / (amid.size / 100) < 150  # chi-square, 99 degrees of freedom
        templates = np.bincount(drawn[:, 1] // 30, minlength=10)
        assert ((templates - 300) ** 2).sum() / 300 < 28  # 9 degrees of freedom

    def test_the_gap_counts_frame_numbers(self, tmp_path: Path) -> None:
        source, rng = PairSource(Numbered(tmp_path, [[True] * 60], step=5)), np.random.default_rng(1)
        drawn = [numbers(source.draw(rng)) for _ in range(600)]
        assert {search - template for _, template, search in drawn} == set(range(-10, 10))

    def test_another_gap(self, tmp_path: Path) -> None:
        source, rng = PairSource(Numbered(tmp_path, [[True] * 60]), max_gap=1), np.random.default_rng(1)
        drawn = [numbers(source.draw(rng)) for _ in range(100)]
        assert {search - template for _, template, search in drawn} == {-1, 0}

    def test_only_visible_frames(self, tmp_path: Path) -> None:
        visible = [i in (0, 3, 40, 41, 120) for i in range(121)]
        source, rng = PairSource(Numbered(tmp_path, [visible])), np.random.default_rng(2)
        pairs = {numbers(source.draw(rng))[1:] for _ in range(500)}
        near = [0, 3, 40, 41]
        assert pairs == {(a, b) for a in near for b in near} | {(120, 120)}

    def test_sequences_are_drawn_independently_of_their_length(self, tmp_path: Path) -> None:
        source, rng = (
            PairSource(Numbered(tmp_path, [[True] * 20, [False] * 50, [True] * 200])),
            np.random.default_rng(3),
        )
        counts = np.bincount([numbers(source.draw(rng))[0] for _ in range(1000)], minlength=3)
        assert counts[1] == 0
        assert abs(counts[0] - 500) < 80

    def test_an_image_is_its_own_template(self, tmp_path: Path) -> None:
        source = PairSource(NumberedImages(tmp_path, [[True]]))
        template, search = source.draw(np.random.default_rng(0))
        assert template is search

    def test_data_sets_are_drawn_by_weight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def number(dataset: PairDataset, template: Frame, search: Frame, rng: np.random.Generator) -> int:
            return int(template.box_xywh[0])

        monkeypatch.setattr(PairDataset, "_pair", number)
        sources = [Rectangle((x, 5, 8, 8)) for x in (0, 1, 2, 3)]
        mixture = PairDataset(sources, [1, 2, 0, 5], STILL, num_pairs=10)
        counts = np.bincount([mixture[i] for i in range(2000)], minlength=4)
        assert counts[2] == 0
        expected = np.array([250, 500, 1250])
        assert ((counts[[0, 1, 3]] - expected) ** 2 / expected).sum() < 13.8  # 2 degrees of freedom


class TestLabel:
    @pytest.mark.parametrize(
        ("box_xywh", "target_xyxy"),
        [
            pytest.param((20, 30, 40, 20), (64, 64, 192, 192), id="even sides are centered"),
            pytest.param(
                (20, 30, 41, 21), (256 * 20 / 82, 256 * 10 / 42, 256 * 61 / 82, 256 * 31 / 42), id="odd sides"
            ),
            pytest.param((0, 0, 10, 10), (64, 64, 192, 192), id="in the corner of the image"),
        ],
    )
    def test_hand_worked_without_jitter(self, box_xywh: tuple[int, ...], target_xyxy: tuple[float, ...]) -> None:
        pair = dataset(Rectangle(box_xywh))[0]
        np.testing.assert_allclose(pair.target_xyxy, target_xyxy, atol=1e-4)

    def test_hand_worked_with_fractions(self) -> None:
        """Window of (20.3, 30.6, 41.5, 21.2): x0 = round(-0.45) = 0, y0 = round(19.7) = 20, 83 x 43 pixels."""
        source = Rectangle((20, 30, 41, 21))
        source.frame = Frame(source.frame.image, np.array([20.3, 30.6, 41.5, 21.2]), None)
        expected = [20.3 * 256 / 83, 10.6 * 256 / 43, 61.8 * 256 / 83, 31.8 * 256 / 43]
        np.testing.assert_allclose(dataset(source)[0].target_xyxy, expected, atol=1e-4)

    @pytest.mark.parametrize("flip_prob", [0.0, 1.0])
    @pytest.mark.parametrize("center_jitter", [0.25, 2.5], ids=["as in training", "far out of the crop"])
    def test_the_label_and_the_mask_lie_on_the_rectangle(self, center_jitter: float, flip_prob: float) -> None:
        augmentation = PairAugmentation(center_jitter=center_jitter, gray_prob=0, brightness=0, flip_prob=flip_prob)
        pairs = dataset(Rectangle((50, 30, 30, 40)), augmentation)
        clamped = 0
        for i in range(25):
            pair = pairs[i]
            x1, y1, x2, y2 = pair.target_xyxy.tolist()
            assert 0 <= min(x1, y1, x2, y2) <= max(x1, y1, x2, y2) <= 256
            bright = pair.search[0].numpy() > 130
            assert (bright != pair.mask.numpy().astype(bool)).mean() < 0.008  # ties along the edges
            rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
            if min(x2 - x1, y2 - y1) > 2:
                found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                np.testing.assert_allclose(found, [x1, y1, x2, y2], atol=1)
            clamped += min(x1, y1) == 0 or max(x2, y2) == 256
        assert clamped >= (8 if center_jitter > 1 else 0)


class TestPair:
    def test_shapes_and_types(self) -> None:
        pair = dataset(Rectangle((50, 30, 30, 40)), PairAugmentation())[3]
        assert pair.template.shape == pair.search.shape == (3, 256, 256)
        assert pair.template.dtype == pair.search.dtype == pair.mask.dtype == torch.uint8
        assert (pair.target_xyxy.shape, pair.target_xyxy.dtype) == ((4,), torch.float32)
        assert pair.mask.shape == (256, 256)
        assert set(pair.mask.unique().tolist()) == {0, 1}
        assert (pair.has_mask.shape, pair.has_mask.dtype, bool(pair.has_mask)) == ((), torch.bool, True)

    def test_without_a_mask(self) -> None:
        pair = dataset(Rectangle((50, 30, 30, 40), mask=False), PairAugmentation(flip_prob=1))[0]
        assert not pair.has_mask
        assert not pair.mask.any()

    def test_crops_are_cut_around_the_box_and_the_jittered_box(self) -> None:
        source, jitter = Rectangle((50, 30, 30, 40)), PairAugmentation(gray_prob=0, brightness=0)
        image, box_xywh = source.frame.image, source.frame.box_xywh
        expected = Window.around(box_xywh).cut(image).transpose(2, 0, 1)
        pairs = [dataset(source, jitter)[i] for i in range(5)]
        assert all(np.array_equal(pair.template, expected) for pair in pairs)
        assert not any(np.array_equal(pair.search, expected) for pair in pairs)
        assert np.array_equal(dataset(source)[0].search, expected)

    @pytest.mark.parametrize(
        "augmentation", [PairAugmentation(), PairAugmentation(gray_prob=0.5, contrast=0.3, blur_prob=0.5)]
    )
    def test_a_flip_mirrors_all_of_it(self, augmentation: PairAugmentation) -> None:
        source = Rectangle((50, 30, 30, 40))
        flipping = PairAugmentation(**{**vars(augmentation), "flip_prob": 1.0})
        for i in range(5):
            plain, flipped = dataset(source, augmentation)[i], dataset(source, flipping)[i]
            assert torch.equal(flipped.search, plain.search.flip(-1))
            assert torch.equal(flipped.template, plain.template.flip(-1))
            assert torch.equal(flipped.mask, plain.mask.flip(-1))
            torch.testing.assert_close(flipped.target_xyxy, mirrored(plain).target_xyxy, rtol=0, atol=1e-4)
            torch.testing.assert_close(mirrored(mirrored(plain)).target_xyxy, plain.target_xyxy, rtol=0, atol=1e-4)

    def test_both_crops_are_gray_or_none(self) -> None:
        pairs = dataset(Rectangle((50, 30, 30, 40)), PairAugmentation(gray_prob=0.5))
        gray = [[bool((crop == crop[:1]).all()) for crop in (pairs[i].template, pairs[i].search)] for i in range(40)]
        assert all(template == search for template, search in gray)
        assert 8 < sum(template for template, _ in gray) < 32

    def test_the_original_turns_one_in_twenty_gray_and_flips_none(self) -> None:
        assert (PairAugmentation().gray_prob, PairAugmentation().flip_prob, PairAugmentation().brightness) == (
            0.05,
            0.0,
            0.2,
        )


class TestRepeatability:
    def test_a_pair_depends_on_the_seed_and_its_number_alone(self) -> None:
        augmentation = PairAugmentation(gray_prob=0.3, contrast=0.3, saturation=0.3, blur_prob=0.5, flip_prob=0.5)
        source = Rectangle((50, 30, 30, 40))
        forward, backward = dataset(source, augmentation), dataset(source, augmentation)
        first = [forward[i] for i in range(6)]
        second = [backward[i] for i in reversed(range(6))][::-1]
        assert all(equal(a, b) for a, b in zip(first, second, strict=True))
        assert not any(equal(first[0], other) for other in first[1:])
        assert not equal(dataset(source, augmentation, seed=1)[0], first[0])

    def test_numpys_and_torchs_own_generators_play_no_part(self) -> None:
        pairs = dataset(Rectangle((50, 30, 30, 40)), PairAugmentation(blur_prob=0.5))
        torch.manual_seed(0)
        first = pairs[4]
        torch.manual_seed(1)
        assert equal(first, pairs[4])

    def test_a_number_beyond_the_epoch_is_a_pair(self) -> None:
        pairs = dataset(Rectangle((50, 30, 30, 40)), PairAugmentation())
        assert len(pairs) == 10
        assert pairs[10**9].search.shape == (3, 256, 256)


class TestFromDisk:
    def test_masks_of_every_kind(self, data_root: Path) -> None:
        readers = [MaskVideo(data_root / "davis2016"), Saliency(data_root / "ecssd"), COCO(data_root / "coco")]
        for reader in readers:
            source, rng = PairSource(reader), np.random.default_rng(0)
            for _ in range(5):
                template, search = (frame.load() for frame in source.draw(rng))
                assert search.mask is not None
                assert search.mask.shape == search.image.shape[:2]
                x, y, w, h = cv2.boundingRect(search.mask)
                np.testing.assert_allclose(search.box_xywh, [x, y, w, h], atol=1)
                assert (template.mask is None) == reader.is_video

    def test_masks_of_two_objects(self, tmp_path: Path) -> None:
        labels = np.zeros((40, 50), np.uint8)
        labels[2:14, 3:20], labels[20:32, 25:45] = 1, 2
        for i in range(5):
            for folder in ("JPEGImages/v", "Annotations/v"):
                (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / f"JPEGImages/v/{i}.jpg"), np.zeros((40, 50, 3), np.uint8))
            image = Image.fromarray(labels).convert("P")
            image.putdata(labels.ravel().tolist())
            image.save(tmp_path / f"Annotations/v/{i}.png")
        source, rng = PairSource(MaskVideo(tmp_path)), np.random.default_rng(0)
        seen = set()
        for _ in range(20):
            search = source.draw(rng)[1].load()
            object_id = {3: 1, 25: 2}[int(search.box_xywh[0])]
            assert np.array_equal(search.mask, labels == object_id)
            seen.add(object_id)
        assert seen == {1, 2}

    def test_a_frame_that_does_not_decode(self, data_root: Path, tmp_path: Path) -> None:
        shutil.copytree(data_root / "got10k", tmp_path / "got10k")
        source = PairSource(GOT10k(tmp_path / "got10k"))
        for frame in (tmp_path / "got10k").rglob("*.jpg"):
            frame.write_bytes(b"no image")
        with pytest.raises(UserError, match=r"\d{8}\.jpg: cannot decode this image; restore it"):
            source.draw(np.random.default_rng(0))[1].cut(Window(0, 0, 9, 9))

    def test_a_mask_image_of_another_size(self, data_root: Path, tmp_path: Path) -> None:
        shutil.copytree(data_root / "ecssd", tmp_path / "ecssd")
        for mask in (tmp_path / "ecssd/ground_truth_mask").iterdir():
            cv2.imwrite(str(mask), np.full((96, 72), 255, np.uint8))
        source = PairSource(Saliency(tmp_path / "ecssd"))
        with pytest.raises(
            UserError, match=r"\.png: mask and image must have the same size, got 72x96 and 96x72 pixels; restore both"
        ):
            source.draw(np.random.default_rng(0))[1].cut(Window(0, 0, 9, 9))

    def test_a_coco_image_of_another_size(self, data_root: Path, tmp_path: Path) -> None:
        shutil.copytree(data_root / "coco", tmp_path / "coco")
        source = PairSource(COCO(tmp_path / "coco"))
        for image in (tmp_path / "coco/train2017").iterdir():
            cv2.imwrite(str(image), np.zeros((96, 72, 3), np.uint8))
        with pytest.raises(
            UserError, match=r"\.jpg: mask and image must have the same size, got 96x72 and 72x96 pixels; restore both"
        ):
            source.draw(np.random.default_rng(0))[1].cut(Window(0, 0, 9, 9))

    def test_a_coco_object_without_mask_is_not_drawn(self, data_root: Path, tmp_path: Path) -> None:
        shutil.copytree(data_root / "coco", tmp_path / "coco")
        file = tmp_path / "coco/annotations/instances_train2017.json"
        content = json.loads(file.read_text())
        content["annotations"][0]["segmentation"] = []
        file.write_text(json.dumps(content))
        assert 0 not in PairSource(COCO(tmp_path / "coco")).sequences


class TestMistakes:
    @pytest.mark.parametrize("max_gap", [0, -3])
    def test_max_gap(self, tmp_path: Path, max_gap: int) -> None:
        with pytest.raises(UserError, match=f"`max_gap` must be at least 1 frame, got {max_gap}"):
            PairSource(Numbered(tmp_path, [[True] * 20]), max_gap=max_gap)

    @pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
    def test_weights(self, weights: list[float]) -> None:
        with pytest.raises(UserError, match=r"The `weight` of a data set must be finite and not negative, .* got \["):
            PairDataset([Rectangle((5, 5, 9, 9))] * 2, weights, STILL, num_pairs=1)
