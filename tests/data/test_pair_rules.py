"""Rules of pairs: which videos are used, redraws, descriptions, mirrored labels, places in an epoch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.pairs import (
    EpochSampler,
    Frame,
    PairDataset,
    PairSource,
    RedrawnPairs,
    _one_of,
    collate_drawn,
)
from alpharefine.errors import UserError
from tests.data.numbered import STILL, Numbered, NumberedImages, NumberedMasks, Rectangle


class Unreadable(Rectangle):
    """`Rectangle` whose first draws cannot be read. The box of draw ``n`` starts at ``x = n``."""

    def __init__(self, num_bad: int) -> None:
        super().__init__((30, 20, 30, 30))
        self.num_bad, self.num_draws, self.seen = num_bad, 0, []

    def draw(self, rng: np.random.Generator) -> tuple[Frame, Frame]:
        self.seen.append(rng.random())
        self.num_draws += 1
        if self.num_draws <= self.num_bad:
            raise UserError(f"{self.num_draws}.jpg: bad")
        return super().draw(rng)


class TestVideos:
    @pytest.mark.parametrize("kind", [Numbered, NumberedMasks])
    def test_two_visible_frames_are_the_least(self, tmp_path: Path, kind: type[Numbered]) -> None:
        assert PairSource(kind(tmp_path, [[True] * 2, [True]])).sequences.tolist() == [0]
        with pytest.raises(
            UserError, match=r"a video needs 2 visible frames and 2 in total, and the longest has 1; give "
        ):
            PairSource(kind(tmp_path, [[True]]))
        with pytest.raises(UserError, match="needs 2 visible frames"):
            PairSource(kind(tmp_path, [[True, False]]))

    def test_the_least_option_is_two(self, tmp_path: Path) -> None:
        source = PairSource(Numbered(tmp_path, [[True] * 30, [True] * 2]), min_frames=2)
        assert source.sequences.tolist() == [0, 1]

    def test_images_without_a_visible_object(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="suitable for training; an image needs a visible object"):
            PairSource(NumberedImages(tmp_path, [[False], [False]]))

    def test_the_index_is_kept_in_the_given_folder(self, tmp_path: Path) -> None:
        PairSource(Numbered(tmp_path, [[True] * 20]), cache_dir=tmp_path / "indexes")
        assert any((tmp_path / "indexes").iterdir())


class TestRedraws:
    @pytest.fixture(autouse=True)
    def _three_redraws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("alpharefine.data.pairs.MAX_REDRAWS", 3)

    def pairs(self, num_bad: int) -> tuple[RedrawnPairs, Unreadable]:
        source = Unreadable(num_bad)
        return RedrawnPairs(PairDataset([source], [1.0], PairAugmentation(), num_pairs=7)), source

    @pytest.mark.parametrize("num_bad", [0, 1, 3])
    def test_from_the_same_stream_until_it_can_be_read(self, num_bad: int) -> None:
        pairs, source = self.pairs(num_bad)
        assert len(pairs) == 7
        assert pairs[4].faults == [f"{n}.jpg: bad" for n in range(1, num_bad + 1)]
        assert len(set(source.seen)) == num_bad + 1
        again, other = self.pairs(num_bad)
        assert torch.equal(again[4].pair.search, self.pairs(num_bad)[0][4].pair.search)
        assert other.seen == source.seen

    def test_the_first_draw_is_the_pair_itself(self) -> None:
        drawn, pair = self.pairs(0)[0][4].pair, self.pairs(0)[0].pairs[4]
        assert all(torch.equal(a, b) for a, b in zip(drawn, pair, strict=True))

    def test_not_for_ever(self) -> None:
        pairs, source = self.pairs(99)
        with pytest.raises(UserError, match=r"4\.jpg: bad"):
            pairs[0]
        assert source.num_draws == 4

    def test_a_batch_joins_the_faults(self) -> None:
        drawn = [self.pairs(num_bad)[0][0] for num_bad in (2, 0, 1)]
        batch = collate_drawn(drawn)
        assert batch.faults == ["1.jpg: bad", "2.jpg: bad", "1.jpg: bad"]
        assert torch.equal(batch.pair.search, torch.stack([each.pair.search for each in drawn]))


class TestDescription:
    def test_the_two_frames_of_a_video(self, tmp_path: Path) -> None:
        class Named(Numbered):
            def frame_path(self, name: str, frame_name: str) -> Path:
                return Path("videos", name, frame_name)

        source = PairSource(Named(tmp_path, [[True] * 20]))
        source.index.frame_names = np.array([f"{n}.png" for n in range(20)])
        sequence, template, search = source.choose(np.random.default_rng(3))
        assert template != search
        assert (
            source.describe(np.random.default_rng(3)) == f"videos/{sequence}/{template}.png and videos/0/{search}.png"
        )

    def test_an_image_is_named_once(self, tmp_path: Path) -> None:
        source = PairSource(NumberedImages(tmp_path, [[True]]))
        assert source.describe(np.random.default_rng(0)) == str(tmp_path / "frame.png")

    def test_a_pair_is_described_as_it_is_drawn(self, tmp_path: Path) -> None:
        folders = [tmp_path / name for name in ("a", "b")]
        for folder in folders:
            folder.mkdir()
        sources = [PairSource(NumberedImages(folder, [[True]])) for folder in folders]
        assert cv2.imwrite(str(folders[1] / "frame.png"), np.full((8, 8, 3), 200, np.uint8))
        pairs = PairDataset(sources, [1, 1], STILL, num_pairs=1)
        described = [pairs.describe(n) for n in range(20)]
        assert set(described) == {str(folder / "frame.png") for folder in folders}
        assert [pairs[n].template.max() == 50 for n in range(20)] == [str(folders[0]) in text for text in described]


class TestLabels:
    @pytest.mark.parametrize("geometry", ["exact", "original"])
    def test_mirrored_labels_stay_in_the_crop(self, geometry: str) -> None:
        """Labels of the original geometry are mirrored about 127.5, which takes 256 to -1."""
        augmentation = PairAugmentation(0.25, 1.5, gray_prob=0, brightness=0, flip_prob=1.0)
        pairs = PairDataset([Rectangle((50, 30, 30, 40))], [1.0], augmentation, 20, geometry=geometry)
        plain = PairDataset(
            [Rectangle((50, 30, 30, 40))], [1.0], PairAugmentation(0.25, 1.5, 0, 0), 20, geometry=geometry
        )
        reached: set[float] = set()
        for n in range(20):
            (x1, y1, x2, y2), label = plain[n].target_xyxy.tolist(), pairs[n].target_xyxy.tolist()
            end = 256 if geometry == "exact" else 255
            assert label == pytest.approx([max(end - x2, 0), y1, max(end - x1, 0), y2], abs=1e-4)
            reached |= {x1, x2}
        assert (min(reached), max(reached)) == (0, 256)

    def test_a_flip_mirrors_an_image_that_is_not_symmetric(self) -> None:
        source = Rectangle((50, 30, 30, 40))
        source.frame.image[:, :60] = 0
        plain, flipped = (
            PairDataset([source], [1.0], PairAugmentation(0, 0, 0, 0, flip_prob=prob), 1)[0] for prob in (0, 1)
        )
        assert not torch.equal(plain.template, plain.template.flip(-1))
        assert torch.equal(flipped.template, plain.template.flip(-1))
        assert torch.equal(flipped.search, plain.search.flip(-1))
        assert flipped.template_xyxy.dtype == flipped.target_xyxy.dtype == torch.float32

    def test_pairs_without_a_mask_have_an_empty_one(self) -> None:
        pair = PairDataset([Rectangle((50, 30, 30, 40), mask=False)], [1.0], STILL, 1)[0]
        assert (pair.mask.shape, pair.mask.dtype, int(pair.mask.sum())) == ((256, 256), torch.uint8, 0)
        assert (pair.has_mask.shape, bool(pair.has_mask)) == ((), False)
        assert PairDataset([Rectangle((50, 30, 30, 40))], [1.0], STILL, 1)[0].has_mask


class TestPlace:
    @pytest.mark.parametrize("fixed", [False, True])
    def test_the_first_indices_are_left_out(self, fixed: bool) -> None:
        pairs = PairDataset([Rectangle((40, 30, 30, 40))], [1.0], STILL, 10)
        sampler = EpochSampler(pairs, fixed, num_replicas=2, rank=1)
        sampler.set_epoch(3)
        first = 0 if fixed else 30
        assert list(sampler) == list(range(first + 1, first + 10, 2))
        sampler.num_skipped = 2
        assert list(sampler) == [first + 5, first + 7, first + 9]
        assert list(sampler.indices(4)) == [first + 9]
        assert list(sampler.indices(5)) == []


@pytest.mark.parametrize("weights", [[1, 0], [0.5, 0.25]])
def test_weights_that_are_allowed(weights: list[float]) -> None:
    pairs = PairDataset([Rectangle((5, 5, 9, 9))] * 2, weights, STILL, num_pairs=1)
    assert pairs.probabilities.tolist() == pytest.approx(np.array(weights) / sum(weights))


def test_sources_and_frames_are_drawn_as_numpy_draws_them() -> None:
    sources = [Rectangle((5, 5, 9, 9)) for _ in range(3)]
    pairs = PairDataset(sources, [1, 5, 3], STILL, num_pairs=1)
    for seed in range(200):
        ours, numpys = np.random.default_rng(seed), np.random.default_rng(seed)
        assert pairs._source(ours) is sources[numpys.choice(3, p=pairs.probabilities)]
        assert _one_of(np.arange(10, 17), ours) == numpys.choice(np.arange(10, 17))
