"""Memory of the training samples of a classifier."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def with_room(values: Tensor, size: int) -> Tensor:
    """Return a memory whose first slots hold the given values; the other slots are zero.

    Args:
        values: Values of the first samples, ``(n, ...)``.
        size: Number of slots.
    """
    slots = values.new_zeros(size, *values.shape[1:])
    slots[: len(values)] = values
    return slots


class SampleWeights:
    """Weights of the slots of a memory; they also select the slot that the next sample replaces.

    Args:
        capacity: Number of slots.
        num_initial: Number of slots that the first frame fills, at least 1.
        minimum_initial: Minimum total weight of those slots, which are then never replaced; None for no minimum.
        fills_in_order: Fills free slots in order; otherwise the slot with the smallest weight is taken.

    Attributes:
        values: Weights, ``(capacity,)`` float32. Their sum is 1, or slightly more while the minimum applies.
    """

    def __init__(
        self, capacity: int, num_initial: int, minimum_initial: float | None, fills_in_order: bool = True
    ) -> None:
        self.values = np.zeros(capacity, dtype=np.float32)
        self.values[:num_initial] = 1 / num_initial
        self.num_stored = num_initial
        self._num_initial, self._minimum_initial = num_initial, minimum_initial
        self._fills_in_order = fills_in_order
        self._previous: int | None = None

    def add(self, learning_rate: float) -> int:
        """Add a sample and return the slot to write it to.

        Args:
            learning_rate: Weight of the sample, between 0 and 1; the other weights decay.
        """
        weights, rate = self.values, np.float32(learning_rate)
        slot = self._next_slot()
        if self._previous is None:
            weights /= 1 - rate
            weights[slot] = rate
        else:
            weights[slot] = weights[self._previous] / (1 - rate)
        weights /= weights.sum()
        if self._minimum_initial and weights[: self._num_initial].sum() < self._minimum_initial:
            weights /= self._minimum_initial + weights[self._num_initial :].sum()
            weights[: self._num_initial] = self._minimum_initial / self._num_initial
        self._previous = slot
        self.num_stored += 1
        return slot

    def _next_slot(self) -> int:
        if self._fills_in_order and self.num_stored < len(self.values):
            return self.num_stored
        first = self._num_initial if self._minimum_initial else 0
        return first + int(self.values[first:].argmin())
