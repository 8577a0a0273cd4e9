"""The fields of all records in a block, and their sizes: the cheaper of two ways for each.

In rows the screen vouches for, the keys are known by their colons, and every value ends
where the next key begins.  The other rows are looked at byte by byte (``structure``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from meshlab.dialects import OTHER
from meshlab.records import FIELDS
from meshlab.tables.parse import HEAD, Records
from meshlab.tables.screen import fields_before
from meshlab.tables.structure import Fields, find_fields
from meshlab.wal.lines import Block

_QUOTE, _SPACE = b'" '
_LENGTHS = np.array([len(name) for name in FIELDS])

_BEFORE = np.zeros(256, bool)
_BEFORE[list(b"{,")] = True


def record_fields(block: Block, records: Records) -> Fields:
    """The fields in the records of a block, and where its deletes give an id as an object."""
    left = records.op != OTHER
    left[list(records.failed)] = False
    parts = []
    if records.seen is not None:
        seen = np.flatnonzero(left & records.seen.rows)
        for low in range(0, len(seen), _STEP):
            rows = seen[low : low + _STEP]
            part, left[rows] = _by_colons(block, rows, records.seen.colons)
            parts.append(part)
    rest = np.flatnonzero(left)
    found = find_fields(block.data, block.event_start[rest], block.event_stop[rest])
    parts.append((rest[found.row], found.code, found.nbytes, found.given))
    return Fields(found.names, *(np.concatenate(column) for column in zip(*parts, strict=True)))


_STEP = 4096
"""Rows looked at in one go, so that what is known of them stays in the cache."""

_Columns = tuple[Any, Any, Any, Any]
"""``row``, ``code``, ``nbytes`` and ``given`` of ``Fields``."""


def _by_colons(block: Block, rows: Any, colons: Any) -> tuple[_Columns, Any]:
    """The fields of the rows that are written as we write, and a mask of the others."""
    data, start, stop = block.data, block.event_start[rows] + HEAD, block.event_stop[rows] - 1
    row, colon = _within(colons, start, stop)
    code = fields_before(data, colon)
    row, colon, code = (column[code >= 0] for column in (row, colon, code))
    length = _LENGTHS[code]
    opens = colon - 2 - length
    last = np.append(row[1:] != row[:-1], True)[: len(row)]
    end = np.where(last, stop[row], np.append(opens[1:], 0)[: len(row)]) - 1
    ours = (data[opens] == _QUOTE) & _BEFORE[data[opens - 1]] & (data[colon + 1] > _SPACE) & (data[end - 1] > _SPACE)
    odd = np.zeros(len(rows), bool)
    odd[row[~ours]] = True
    kept = ~odd[row]
    columns = (rows[row[kept]], code[kept], (end - colon + length + 1)[kept], np.ones(np.count_nonzero(kept), bool))
    return columns, odd


def _within(places: Any, start: Any, stop: Any) -> tuple[Any, Any]:
    """The ascending places that are in one of the slices: which slice, and the place."""
    low, high = np.searchsorted(places, start), np.searchsorted(places, stop)
    count = high - low
    before = np.cumsum(count) - count
    slices = np.repeat(np.arange(len(start)), count)
    return slices, places[np.arange(len(slices)) + (low - before)[slices]]
