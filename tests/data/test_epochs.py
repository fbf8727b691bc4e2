from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from alpharefine.data.augmentation import PairAugmentation
from alpharefine.data.coco import COCO
from alpharefine.data.got10k import GOT10k
from alpharefine.data.mask_video import MaskVideo
from alpharefine.data.pairs import EpochSampler, PairBatch, PairDataset, PairSource
from tests.data.numbered import Rectangle

COLORFUL = PairAugmentation(gray_prob=0.2, contrast=0.2, saturation=0.2, blur_prob=0.3, flip_prob=0.5)


def stream(num_pairs: int) -> PairDataset:
    return PairDataset([Rectangle((40, 30, 30, 40))], [1.0], COLORFUL, num_pairs)


def numbers(num_pairs: int, epoch: int, num_replicas: int, fixed: bool = False) -> list[list[int]]:
    """Return the indices of each process in an epoch."""
    taken = []
    for rank in range(num_replicas):
        sampler = EpochSampler(stream(num_pairs), fixed, num_replicas, rank)
        sampler.set_epoch(epoch)
        taken.append(list(sampler))
        assert len(sampler) == len(taken[-1])
    return taken


class TestSampler:
    @pytest.mark.parametrize(
        ("num_pairs", "num_replicas", "epoch", "taken"),
        [
            pytest.param(4, 1, 0, [[0, 1, 2, 3]], id="one process"),
            pytest.param(4, 1, 3, [[12, 13, 14, 15]], id="one process, a later epoch"),
            pytest.param(6, 2, 0, [[0, 2, 4], [1, 3, 5]], id="two processes"),
            pytest.param(6, 2, 1, [[6, 8, 10], [7, 9, 11]], id="two processes, a later epoch"),
            pytest.param(5, 2, 1, [[6, 8, 10], [7, 9, 11]], id="rounded up"),
            pytest.param(1, 3, 0, [[0], [1], [2]], id="fewer pairs than processes"),
        ],
    )
    def test_hand_worked(self, num_pairs: int, num_replicas: int, epoch: int, taken: list[list[int]]) -> None:
        assert numbers(num_pairs, epoch, num_replicas) == taken

    @pytest.mark.parametrize("num_replicas", [1, 2, 3, 4])
    def test_processes_part_the_epochs_and_none_is_seen_twice(self, num_replicas: int) -> None:
        seen = [n for epoch in range(5) for part in numbers(10, epoch, num_replicas) for n in part]
        assert sorted(seen) == list(range(len(seen)))

    @pytest.mark.parametrize("num_replicas", [1, 2])
    def test_a_fixed_sampler_repeats_the_first_epoch(self, num_replicas: int) -> None:
        first = numbers(10, 0, num_replicas)
        assert numbers(10, 7, num_replicas, fixed=True) == numbers(10, 0, num_replicas, fixed=True) == first

    @pytest.mark.parametrize("num_replicas", [2, 4])
    def test_processes_together_make_the_steps_of_one(self, num_replicas: int) -> None:
        """A step of R processes with B pairs each uses the same pairs as a step of one process with R * B pairs."""
        parts = np.array(numbers(16, 2, num_replicas))
        assert np.sort(
            parts.reshape(num_replicas, -1, 2).transpose(1, 0, 2).reshape(-1, 2 * num_replicas)
        ).tolist() == (np.array(numbers(16, 2, 1)[0]).reshape(-1, 2 * num_replicas).tolist())


def batches(dataset: PairDataset, num_workers: int, epoch: int = 0, rank: int = 0, **kwargs: object) -> list[PairBatch]:
    sampler = EpochSampler(dataset, fixed=False, num_replicas=2, rank=rank)
    sampler.set_epoch(epoch)
    return list(DataLoader(dataset, batch_size=3, sampler=sampler, num_workers=num_workers, **kwargs))


def equal(a: list[PairBatch], b: list[PairBatch]) -> bool:
    return all(torch.equal(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def mixture(data_root: Path) -> PairDataset:
    readers = [GOT10k(data_root / "got10k"), MaskVideo(data_root / "davis2016"), COCO(data_root / "coco")]
    return PairDataset([PairSource(reader) for reader in readers], [1, 1, 1], COLORFUL, num_pairs=12)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
class TestWorkers:
    def test_two_workers_make_the_batches_of_none(self, mixture: PairDataset) -> None:
        torch.manual_seed(1)
        alone = batches(mixture, 0)
        torch.manual_seed(2)
        assert [len(batch.search) for batch in alone] == [3, 3]
        assert equal(batches(mixture, 2, multiprocessing_context="fork"), alone)

    @pytest.mark.slow
    def test_spawned_workers_make_them_too(self, mixture: PairDataset) -> None:
        assert equal(batches(mixture, 1, multiprocessing_context="spawn"), batches(mixture, 0))

    def test_what_a_spawned_worker_is_sent_is_small_and_makes_the_same(self, mixture: PairDataset) -> None:
        sent = pickle.dumps(mixture)
        assert len(sent) < 30_000
        assert equal([pickle.loads(sent)[5]], [mixture[5]])

    def test_epochs_and_processes_differ(self, mixture: PairDataset) -> None:
        crops = [
            crop.numpy().tobytes()
            for epoch, rank in ((0, 0), (0, 1), (1, 0), (1, 1))
            for batch in batches(mixture, 0, epoch, rank)
            for crop in batch.search
        ]
        assert len(set(crops)) == len(crops) == 24

    def test_workers_draw_colors_on_their_own_and_epochs_do_not_repeat_them(self) -> None:
        """By default, albumentations repeats its random values in every worker and every epoch."""
        source = Rectangle((0, 0, 120, 90))  # the center of the crop shows the brightness factor
        dataset = PairDataset([source], [1.0], PairAugmentation(0, 0, 0, brightness=0.15), num_pairs=24)
        first, second = (
            torch.cat([b.search[:, 0, 128, 128] for b in batches(dataset, 2, epoch, multiprocessing_context="fork")])
            for epoch in (0, 1)
        )
        assert len(first) == len(second) == 12
        assert len(set(first.tolist())) >= 9
        assert len(set(second.tolist())) >= 9
        assert (first != second).sum() >= 9
        again = torch.cat([b.search[:, 0, 128, 128] for b in batches(dataset, 0)])
        assert torch.equal(again, first)
