"""DataLoader that continues inside an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from alpharefine.data.pairs import EpochSampler, PairBatch


class EpochLoader(DataLoader[PairBatch]):
    """DataLoader that starts at the first batch of the epoch that has not been trained on.

    Epoch and position are read when the first batch is requested. Lightning creates the iterator of a resumed run
    before it restores the epoch, and workers read ahead from the moment that the iterator exists.

    Args:
        dataset: Data set of pairs or batches.
        sampler: Sampler of their indices.
        num_done: Function that returns the number of batches of the current epoch that have been trained on.
        receive: Function that turns what the workers return into a batch, in the process of the training.
        options: Further arguments of `DataLoader`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        sampler: EpochSampler,
        num_done: Callable[[], int],
        receive: Callable[[Any], PairBatch] | None = None,
        **options: Any,
    ) -> None:
        # A generator of its own: the seeds of the workers are not drawn from the random state of the training.
        options.setdefault("generator", torch.Generator())
        super().__init__(dataset, sampler=sampler, **options)
        self.num_done, self.receive = num_done, receive
        self._waited_s = 0.0

    def __iter__(self) -> Iterator[PairBatch]:  # type: ignore[override]
        """Iterate over the remaining batches of the epoch."""
        if isinstance(self.sampler, EpochSampler):  # Lightning replaces it for `overfit_batches`
            self.sampler.num_skipped = 0 if self.sampler.fixed else self.num_done() * (self.batch_size or 1)
        batches = super().__iter__()
        while True:
            start = perf_counter()
            batch = next(batches, None)
            self._waited_s += perf_counter() - start
            if batch is None:
                return
            yield self.receive(batch) if self.receive else batch

    def take_wait(self) -> float:
        """Return the time in seconds that was spent on waiting for batches since the last call."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s
