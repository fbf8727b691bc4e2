"""Rows of a table of measurements, and the alternation that measures two paths under the same load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True)
class Row:
    """Measurement of a path, beside that of a reference.

    Attributes:
        name: Name of what is measured.
        unit: Unit of both values, such as ``ms`` or ``pairs/s``.
        value: Measured value.
        reference: Value of the reference path. None for a row without a reference.
        note: Reference path, and what the limit is, in a few words.
        limit: Value that the path is held against, such as that of decoding alone. None if there is none.
    """

    name: str
    unit: str
    value: float
    reference: float | None = None
    note: str = ""
    limit: float | None = None

    @property
    def is_rate(self) -> bool:
        """True if a larger value is better: units such as ``pairs/s``."""
        return self.unit.endswith("/s")

    @property
    def ratio(self) -> float | None:
        """How many times faster than the reference."""
        if self.reference is None:
            return None
        return self.value / self.reference if self.is_rate else self.reference / self.value


def alternate(
    paths: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, list[float]]:
    """Call functions in turn, so that all of them see the same load of the machine.

    Args:
        paths: Functions by name.
        rounds: Number of measured calls of each function.
        warm_up: Number of calls of each function before.
        clock: Clock in seconds, such as `time.process_time`.

    Returns:
        Seconds of each measured call, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(warm_up + rounds):
        for name, call in paths.items():
            start = clock()
            call()
            times[name].append(clock() - start)
    return {name: each[warm_up:] for name, each in times.items()}


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of each path.

    Args:
        times: Seconds by name, from `alternate`.
    """
    return {name: median(each) for name, each in times.items()}
