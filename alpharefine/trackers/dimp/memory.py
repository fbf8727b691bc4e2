"""The samples that a target's filter is learned from."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def with_room(values: Tensor, size: int) -> Tensor:
    """Values ``(n, ...)`` of the first samples at the beginning of as many slots as a memory has, the rest zeros."""
    slots = values.new_zeros(size, *values.shape[1:])
    slots[: len(values)] = values
    return slots


class SampleWeights:
    """How much each slot of a memory counts, and which one is given up for the next sample.

    Args:
        capacity: number of slots.
        num_initial: how many of them the first frame has filled, at least one.
        minimum_initial: least share of those together, which are then never given up; None lets them fade.
        fills_in_order: whether slots that are free are filled in order; else the one that counts least is.

    Attributes:
        values: ``(capacity,)`` float32, summing to 1, or to a little more while the first ones are held at their share.
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
        """Weigh one more sample.

        Args:
            learning_rate: its share, between 0 and 1; the others fade.

        Returns:
            The slot to write it to.
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
