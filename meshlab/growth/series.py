"""Events and bytes of every user and op, hour by hour, and what an hour usually has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.times import HOUR
from meshlab.wording import counted

LONGEST_SPAN = 24 * 400
"""Hours that are looked at, the last."""

LONGEST_GAP = 24 * 31
"""Hours without an event, of anybody, that end a history: a clock was far off, or the store was asleep."""

_ROWS = 256
"""Series in memory at once."""


class Block(NamedTuple):
    """Some of the series: user and op of each, and its events and bytes by hour."""

    names: list[tuple[str, str]]
    events: Any
    nbytes: Any


class Series:
    """The series of a table of totals of events whose hours are known.

    ``first`` is the first hour (since 1970) of ``hours``; ``notes`` say what was left out.
    """

    def __init__(self, table: pa.Table) -> None:
        keys = pc.binary_join_element_wise(table["op"], table["uid"], " ").combine_chunks().dictionary_encode()
        self.names = [(uid, op) for op, uid in (key.split(" ", 1) for key in keys.dictionary.to_pylist())]
        hour = table["hour"].cast(pa.int64()).to_numpy() // HOUR
        known = np.unique(hour)
        stretches = np.split(known, np.flatnonzero(np.diff(known) > LONGEST_GAP) + 1)
        chosen = next((some for some in reversed(stretches) if len(some) > 1), stretches[-1])
        last = int(chosen[-1])
        self.first = max(int(chosen[0]), last - LONGEST_SPAN + 1)
        self.hours = last - self.first + 1
        kept = (hour >= self.first) & (hour <= last)
        left_out = len(known) - int(((known >= self.first) & (known <= last)).sum())
        self.notes = [f"{counted(left_out, 'hour')} beyond a gap of a month or a span of 400 days left out"] * bool(
            left_out
        )
        self._place, self._hour = keys.indices.to_numpy()[kept], hour[kept] - self.first
        self._events, self._nbytes = (table[name].to_numpy()[kept] for name in ("events", "bytes"))

    @cached_property
    def season(self) -> Any:
        """What share of all events an hour has for its hour of day and, from two weeks on, its day of week.

        Hours that stand out count as a busy one, so that a burst is not taken for a habit.
        """
        hour = np.arange(self.first, self.first + self.hours)
        total = np.bincount(self._hour, self._events, self.hours)
        total = np.minimum(total, np.quantile(total, _BUSY))
        day = _profile(total, hour % 24, 24)[hour % 24]
        weekday = (hour // 24 + 3) % 7
        return day * _profile(total, weekday, 7)[weekday] if self.hours >= 24 * 14 else day

    def blocks(self) -> Iterator[Block]:
        """All series, some at a time."""
        order = np.argsort(self._place, kind="stable")
        for low in range(0, len(self.names), _ROWS):
            high = min(low + _ROWS, len(self.names))
            rows = order[slice(*np.searchsorted(self._place[order], [low, high]))]
            at = (self._place[rows] - low) * self.hours + self._hour[rows]
            size = (high - low) * self.hours
            events, nbytes = (np.bincount(at, weight[rows], size) for weight in (self._events, self._nbytes))
            yield Block(self.names[low:high], events.reshape(-1, self.hours), nbytes.reshape(-1, self.hours))


_BUSY = 0.95


def _profile(total: Any, phase: Any, phases: int) -> Any:
    """The mean of each phase over that of all, held away from 0."""
    means = np.bincount(phase, total, phases) / np.maximum(np.bincount(phase, minlength=phases), 1)
    return np.maximum(means / max(float(means.mean()), 1e-12), 0.05)
