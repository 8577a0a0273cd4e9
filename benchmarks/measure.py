"""Interleaved rounds: every contender once per round, so that a busy moment hits them all."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Sample = Callable[[], float]
"""Does a piece of work once and returns the number measured: seconds, or events per second."""


class Figure(NamedTuple):
    """The median of the rounds, and their extremes."""

    median: float
    low: float
    high: float


def figure(samples: Sequence[float]) -> Figure:
    """Sum up the samples of one contender.

    >>> figure([3.0, 1.0, 2.0])
    Figure(median=2.0, low=1.0, high=3.0)
    """
    return Figure(statistics.median(samples), min(samples), max(samples))


def timed(work: Callable[[], object]) -> Sample:
    """A sample of the seconds a piece of work takes, its result alive until the clock has stopped."""

    def sample() -> float:
        start = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        del result
        return seconds

    return sample


def interleave(contenders: Mapping[str, Sample], rounds: int) -> dict[str, Figure]:
    """Run all contenders once per round, every other round in reverse order.

    The garbage of one is collected before the next starts; the collector stays on.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            gc.collect()
            samples[name].append(contenders[name]())
            tell(f"  round {number + 1}: {name} {samples[name][-1]:.4g}")
    return {name: figure(values) for name, values in samples.items()}


def tell(message: str) -> None:
    """Progress, for the person who waits."""
    print(message, file=sys.stderr, flush=True)
