"""What the events of a segment take: totals by hour, op, dialect and field.

They are counted while a segment is sealed and stand in the description of its copy, so
that telling what a log is full of opens no Parquet file.

A group of events is a number, from its highest bits on: the hour (since 1970, floor), two
bits of op, two of dialect, and for fields 24 bits of the field's place in ``names``.

>>> Sizes().packed().names[:2]
('id', 'concept_id')
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from meshlab.records import FIELDS
from meshlab.tables.parse import Records
from meshlab.times import HOUR
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.lines import Block

NO_HOUR = -(1 << 33)
"""The hour of events without an effective time."""

MOST_NAMES = 1000
"""Names of fields told apart in one segment; all others share ``OTHER_FIELDS``."""

OTHER_FIELDS = "(other fields)"

_HOUR, _OP, _DIALECT = 28, 26, 24
_FIELD = (1 << _DIALECT) - 1


class Packed(NamedTuple):
    """Totals as little-endian int64: groups with their events and bytes, groups of fields with theirs."""

    groups: bytes = b""
    events: bytes = b""
    nbytes: bytes = b""
    names: tuple[str, ...] = FIELDS
    field_groups: bytes = b""
    field_nbytes: bytes = b""


class Groups(NamedTuple):
    """Groups taken apart, as arrays: hours since 1970 or ``NO_HOUR``, index into ``OPS`` and ``DIALECTS``, field."""

    hour: Any
    op: Any
    dialect: Any
    field: Any

    @classmethod
    def of(cls, groups: bytes) -> Groups:
        """The groups in a ``Packed``."""
        held = numbers(groups)
        return cls(held >> _HOUR, held >> _OP & 3, held >> _DIALECT & 3, held & _FIELD)


def numbers(data: bytes) -> Any:
    """The numbers in a part of a ``Packed``."""
    return np.frombuffer(data, "<i8")


class Sizes:
    """Totals of the blocks added so far."""

    def __init__(self) -> None:
        self._parts: list[Any] = [np.zeros((3, 0), np.int64)]
        self._fields: list[Any] = [np.zeros((2, 0), np.int64)]
        self._names = {name: place for place, name in enumerate(FIELDS)}

    def add(self, block: Block, records: Records) -> None:
        """Take the events of a block, and their fields if ``records`` has them."""
        hour = np.where(block.effective == LONG_AGO, NO_HOUR, block.effective // HOUR)
        group = hour << _HOUR | records.op.astype(np.int64) << _OP | block.dialect.astype(np.int64) << _DIALECT
        sound = np.ones(len(group), bool)
        sound[list(records.failed)] = False
        self._parts.append(_summed(group[sound], np.ones(int(sound.sum()), np.int64), block.nbytes[sound]))
        if records.fields is not None:
            found = records.fields
            places = np.array([self._place(name) for name in found.names], np.int64)
            self._fields.append(_summed(group[found.row] | places[found.code], found.nbytes))

    def packed(self) -> Packed:
        """All of them as bytes."""
        groups, events, nbytes = _summed(*np.concatenate(self._parts, axis=1))
        field_groups, field_nbytes = _summed(*np.concatenate(self._fields, axis=1))
        held = [_bytes(column) for column in (groups, events, nbytes, field_groups, field_nbytes)]
        return Packed(held[0], held[1], held[2], tuple(self._names), held[3], held[4])

    def _place(self, name: str) -> int:
        if name not in self._names and len(self._names) >= MOST_NAMES:
            name = OTHER_FIELDS
        return self._names.setdefault(name, len(self._names))


def _summed(group: Any, *weights: Any) -> Any:
    """Each group once, ascending, and the sums of its weights, as rows."""
    groups, place = np.unique(group, return_inverse=True)
    sums = np.zeros((1 + len(weights), len(groups)), np.int64)
    sums[0] = groups
    for row, weight in zip(sums[1:], weights, strict=True):
        row[:] = np.bincount(place, weight, len(groups))  # doubles are exact up to 2^53
    return sums


def _bytes(column: Any) -> bytes:
    return np.ascontiguousarray(column, "<i8").tobytes()
