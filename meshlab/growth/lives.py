"""The lives of records: after each event, whether its record is alive and where its content came from.

The rule is that of the fold (``snapshot.fold``): an insert, or an update that gives all
seventeen fields, sets a record; a delete ends it; any other update changes a record that
is there, and is an orphan when there is none.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from meshlab.dialects import DELETE, INSERT
from meshlab.records import FIELDS

if TYPE_CHECKING:
    from meshlab.growth.trace import Trace

ALL_GIVEN = (1 << len(FIELDS)) - 1
"""``given`` of an update that is as good as an insert."""

CONTENT = 1 << FIELDS.index("content")

PARTIAL, SET, GONE = range(3)


class Lives:
    """What a trace does to records.

    ``order`` are the events about records, by record and within one in log order.  All
    arrays follow that order, ``ids``, ``kind`` and ``first`` (the first event about its
    record) too; ``in_log_order`` spreads them over the trace.  ``alive_before`` and
    ``alive`` tell whether the record lives before and after an event.
    """

    def __init__(self, found: Trace) -> None:
        self.trace = found
        self.order = by_record(found.id)
        self.ids = found.id[self.order]
        self.kind = kinds(found.op, found.given)[self.order]
        self.first = np.append(True, self.ids[1:] != self.ids[:-1])[: len(self.ids)]
        self._place = np.arange(len(self.ids), dtype=np.int32)
        began = self.first & (self.kind != SET) & (not found.begun)
        turned = self.kind[self.since((self.kind != PARTIAL) | self.first)]
        self.alive = turned == SET
        if not found.begun:  # a record whose first event changes it lived before
            self.alive |= turned == PARTIAL
        self.alive_before = np.where(self.first, began, np.append(False, self.alive[:-1])[: len(self.ids)])

    @property
    def orphans(self) -> Any:
        """Which events are partial updates of records that do not exist."""
        return (self.kind == PARTIAL) & ~self.alive

    @cached_property
    def decides(self) -> Any:
        """Which events decide on the content of their record, be it that it has none."""
        gives = self.trace.given[self.order] & CONTENT != 0
        return gives | (self.kind != PARTIAL)

    @cached_property
    def content(self) -> Any:
        """Bytes of the content that the record has after each event; 0 for none, and where nobody knows."""
        wrote = self.since(self.decides | self.first)
        sizes = np.where(self.decides & self.alive, self.trace.content[self.order], 0)
        return np.where(self.alive, sizes[wrote], 0)

    @cached_property
    def stands(self) -> Any:
        """Which events the state at the end still holds something of.

        The record lives, nothing has set it since, and a field that the event gives was
        given by none later; its id counts as a field, and one that nobody knows as never
        given again, for which it was is not in the trace.
        """
        found = np.zeros(len(self.ids), bool)
        given = self.trace.given[self.order]
        rows = np.flatnonzero(self._lasting)
        for bit in range(len(FIELDS)):
            giving = rows[(given[rows] >> bit) & 1 == 1]
            found[giving[np.append(self.ids[giving[1:]] != self.ids[giving[:-1]], True)[: len(giving)]]] = True
        found[rows[given[rows] > ALL_GIVEN]] = True
        return found

    @property
    def _lasting(self) -> Any:
        """Events of the life that each record is in at the end, if it is in one."""
        ends = np.append(self.first[1:], True)[: len(self.ids)]
        sizes = np.diff(np.append(np.flatnonzero(self.first), len(self.ids)))
        turn = self.since((self.kind != PARTIAL) | self.first)
        return np.repeat(self.alive[ends], sizes) & (turn == np.repeat(turn[ends], sizes))

    def deaths(self) -> tuple[Any, Any, Any]:
        """Deletes that ended a record: events, where each of those lives began, and where the next one begins.

        In log order.  -1 stands for a life from before the trace, the number of events for no later one.
        """
        at = np.flatnonzero((self.kind == GONE) & self.alive_before)
        at = at[np.argsort(self.order[at])]
        births = (self.kind == SET) & ~self.alive_before
        began = np.where(self.first & self.alive_before, -1, self.order)
        born = began[self.since(births | self.first)[at]]
        return self.order[at], born, self.until(self.kind == SET)[at]

    def since(self, marks: Any) -> Any:
        """For each event the place of the last mark, itself included; the first event of a record has to be one."""
        return np.maximum.accumulate(np.where(marks, self._place, 0)) if len(marks) else self._place

    def until(self, marks: Any) -> Any:
        """For each event the next one about the same record that is marked; the number of events for none."""
        count = len(self.ids)
        later = np.minimum.accumulate(np.where(marks, self._place, count)[::-1])[::-1]
        later = np.append(later[1:], count)[:count]
        same = np.append(self.ids, -1)[later] == self.ids
        return np.where(same, np.append(self.order, 0)[later], len(self.trace))

    def in_log_order(self, values: Any) -> Any:
        """Values of the events about records, zero for all others."""
        found = np.zeros(len(self.trace), values.dtype)
        found[self.order] = values
        return found


def kinds(op: Any, given: Any) -> Any:
    """What events do to their record: see ``snapshot.fold``."""
    whole = (op == INSERT) | ((given & ALL_GIVEN) == ALL_GIVEN)
    return np.where(op == DELETE, GONE, np.where(whole, SET, PARTIAL)).astype(np.int8)


def by_record(ids: Any) -> Any:
    """The events that are about a record, in the order of records and within one in log order.

    >>> by_record(np.array([1, 0, -1, 1])).tolist()
    [1, 0, 3]
    """
    packed = (ids.astype(np.int64) << 32) | np.arange(len(ids))
    packed.sort()  # no two are equal, so it need not be stable: much faster than argsort
    return packed[np.searchsorted(packed, 0) :] & 0xFFFF_FFFF


def next_of(ids: Any) -> Any:
    """For each event the next one about the same record, the number of events where there is none.

    >>> next_of(np.array([1, 0, -1, 1])).tolist()
    [3, 4, 4, 4]
    """
    found = np.full(len(ids), len(ids), np.int32)
    order = by_record(ids)
    same = ids[order[1:]] == ids[order[:-1]]
    found[order[:-1][same]] = order[1:][same]
    return found
