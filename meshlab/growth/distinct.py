"""Sums over the records that a stretch of events is about, each counted once.

Of the events ``[start, stop)`` the last about each record are those whose next one lies
at ``stop`` or behind it, so a sum over records is a sum over points (event, next event)
in a corner of the plane.  Prefix sums over a coarse grid answer all but the margins,
which are looked at event by event: an answer costs about a 500th of the trace.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from meshlab.growth.lives import Lives

_CELLS = 512
"""Columns of the grid, at most."""

_LEAST = 7
"""A column has 2^7 events, at least."""


class Distinct:
    """Answers for one trace; a record weighs what its last event in the stretch does.

    ``weights`` are arrays of ``uint8``, one number for each event about a record, in the
    order of ``told``; an answer has one sum for each array.
    """

    def __init__(self, told: Lives, weights: list[Any]) -> None:
        self.count = len(told.trace)
        self._next = told.trace.next
        self._previous = np.full(self.count, -1, np.int32)
        self._previous[told.order[1:]] = np.where(told.first[1:], -1, told.order[:-1])
        befores = [np.where(told.first, 0, np.append(after[-1:], after[:-1])) for after in weights]
        self._after = _in_columns([told.in_log_order(after) for after in weights])
        self._before = _in_columns([told.in_log_order(before.astype(np.uint8)) for before in befores])
        self._total = np.zeros((self.count + 1, len(weights)))
        np.cumsum(self._after - self._before, axis=0, dtype=np.float64, out=self._total[1:])
        self._shift = max(_LEAST, (max(self.count, 1) - 1).bit_length() - _CELLS.bit_length() + 1)
        self._grid = self._make_grid()

    def upto(self, stop: int) -> Any:
        """The sums over all records that the events before ``stop`` are about."""
        return self._total[stop]

    def over(self, start: int, stop: int) -> Any:
        """The sums over the records that the events from ``start`` to before ``stop`` are about."""
        if stop - start <= 2 << self._shift:
            return _sum(self._next[start:stop] >= stop, self._after[start:stop])
        return self._total[stop] - self._crossing(start, stop)

    def _crossing(self, start: int, stop: int) -> Any:
        """The sums over events before ``start`` whose next is at ``stop`` or behind it."""
        low, high = start >> self._shift, -(-stop >> self._shift)
        left, right = low << self._shift, min(high << self._shift, self.count)
        found = self._grid[low, high] + _sum(self._next[left:start] >= stop, self._after[left:start])
        return found + _sum(self._previous[stop:right] < left, self._before[stop:right])

    def _make_grid(self) -> Any:
        """``[a, b]``: the sums over events before column ``a`` whose next is in column ``b`` or behind."""
        cells = (self.count >> self._shift) + 2
        column = np.where(self._next < self.count, self._next >> self._shift, cells - 1)
        place = (np.arange(self.count) >> self._shift) * cells + column
        grid = np.zeros((cells + 1, cells, self._after.shape[1]))
        for index, after in enumerate(self._after.T):
            cell = np.bincount(place, after, cells * cells).reshape(cells, cells)
            grid[1:, :, index] = np.cumsum(np.cumsum(cell, axis=0)[:, ::-1], axis=1)[:, ::-1]
        return grid


def _in_columns(weights: list[Any]) -> Any:
    return np.stack(weights, axis=1).astype(np.float32)


def _sum(chosen: Any, weights: Any) -> Any:
    """Sums over some of a few thousand events: single floats are exact up to 2^24, and multiply fast."""
    return chosen.astype(np.float32) @ weights
