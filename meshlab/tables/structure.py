"""Where the fields of records stand in the bytes of events: sizes without parsing.

The events of a stretch are looked at all at once.  Quotes, braces and brackets are found
by their bytes; the parity of the quotes so far tells strings from what is between them,
and the braces so far tell how deep it is.  A field of the record is a string at depth 2,
as in ``{"Insert":{"id":...}}``, with a colon behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np

from meshlab.records import FIELDS
from meshlab.tables.slices import strings, words
from meshlab.wal.lines import PAD

UNKNOWN = len(FIELDS)
"""The code of the first field that is none of the seventeen, and the bit for all of them."""

_STRETCH = 1 << 20
"""Bytes that are looked at at once."""

_QUOTE, _OPEN, _CLOSE, _BACKSLASH, _COLON, _NULL = b'"{}\\:n'
_RECORD = 2
"""How deep the keys of a record stand."""

_DEEPER = np.zeros(256, np.int8)
_DEEPER[list(b"{[")] = 1
_DEEPER[list(b"}]")] = -1

_SPACE, _BACKSLASHES = b" \t\n\r", b"\\"
_AT_ONCE = 8
"""Bytes of a run that are passed for all rows at a time; longer ones are rare and go row by row."""


class Fields(NamedTuple):
    """The record fields in some events, in the order of their bytes; one entry per field and event.

    ``row``     which event
    ``code``    index into ``names``: first the seventeen, then whatever else was found
    ``nbytes``  of the key with its quotes and of the value, as they were written
    ``given``   whether the event gives it: null in a field of the seventeen is no value, and
    of an event that says ``Insert`` twice only the last one counts
    """

    names: list[str]
    row: Any
    code: Any
    nbytes: Any
    given: Any

    def masks(self, rows: int) -> Any:
        """Per event, a bit for each field that is given; of a repeated field the last one says.

        Unknown fields share the bit ``UNKNOWN``.
        """
        known = self.code < UNKNOWN
        table = np.zeros((rows, UNKNOWN + 1), bool)
        table[self.row[known], self.code[known]] = self.given[known]
        table[self.row[self.given & ~known], UNKNOWN] = True
        return table @ (1 << np.arange(UNKNOWN + 1, dtype=np.int32))


def find_fields(data: Any, start: Any, stop: Any) -> Fields:
    """The fields of the records in ``data[start:stop]``, each slice one event, valid JSON.

    ``data`` is uint8 with ``PAD`` zero bytes behind it; the slices stand in order.

    >>> text = b'{"Update":{"id":"m1", "mode" : null}}'
    >>> data = np.frombuffer(text + bytes(PAD), np.uint8)
    >>> fields = find_fields(data, np.array([0]), np.array([len(text)]))
    >>> [(fields.names[code], nbytes) for code, nbytes in zip(fields.code, fields.nbytes.tolist())]
    [('id', 8), ('mode', 10)]
    >>> fields.masks(1).tolist()
    [1]
    """
    names = {name: code for code, name in enumerate(FIELDS)}
    parts = [(np.zeros(0, np.int64),) * 3 + (np.zeros(0, bool),)]
    for low, high in _ranges(start):
        row, *found = _fields(data[: stop[high - 1] + PAD], start[low:high], stop[low:high], names)
        parts.append((row + low, *found))
    return Fields(list(names), *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _ranges(start: Any) -> Iterator[tuple[int, int]]:
    """Events that stand in stretches which stay in the cache."""
    if not len(start):
        return iter(())
    cuts = np.searchsorted(start, np.arange(start[0], start[-1] + 1, _STRETCH))
    return pairwise(np.unique([*cuts, len(start)]).tolist())


def _fields(data: Any, start: Any, stop: Any, names: dict[str, int]) -> tuple[Any, Any, Any, Any]:
    """Row, code, size and whether it is given of each field; new names are added."""
    found = _structure(data, start, stop)
    opens, closes = _keys(data, found)
    row = _events_of(opens, start)
    value = _skip_space(data, _skip_space(data, closes + 1) + 1)
    end, counts = _value_ends(data, opens, value, found.record_ends, stop[row])
    code = _codes(data, opens + 1, closes, names)
    return row, code, closes + 1 - opens + end - value, counts & ((data[value] != _NULL) | (code >= UNKNOWN))


class _Structure(NamedTuple):
    """Quotes of strings, and braces and brackets outside of them: place, byte, how deep it is behind it."""

    place: Any
    byte: Any
    depth: Any

    @property
    def record_ends(self) -> Any:
        """The braces at which records end."""
        return self.place[(self.byte == _CLOSE) & (self.depth == 1)]


def _structure(data: Any, start: Any, stop: Any) -> _Structure:
    place = _candidates(data, start[0], stop[-1])
    place = place[_inside(place, start, stop)]
    byte = data[place]
    quote = byte == _QUOTE
    special = np.flatnonzero(quote & (data[place - 1] == _BACKSLASH))
    runs = place[special] - _trim(data, place[special], _BACKSLASHES, place[special - 1])
    escaped = special[runs % 2 == 1]
    if len(escaped):
        place, byte, quote = (np.delete(column, escaped) for column in (place, byte, quote))
    open_string = np.cumsum(quote, dtype=np.int32) & 1 == 1
    kept = quote | ~open_string
    place, byte = place[kept], byte[kept]
    return _Structure(place, byte, np.cumsum(_DEEPER[byte], dtype=np.int16))


def _candidates(data: Any, start: int, stop: int) -> Any:
    """Positions of quotes, braces and brackets: with this bit set, these are three bytes."""
    part = data[start:stop] | 0x20
    return np.flatnonzero((part == _QUOTE) | (part == _OPEN) | (part == _CLOSE)) + start


def _inside(place: Any, start: Any, stop: Any) -> Any:
    """Which places are in one of the slices."""
    low, high = np.searchsorted(place, start), np.searchsorted(place, stop)
    edges = np.bincount(low, minlength=len(place) + 1) - np.bincount(high, minlength=len(place) + 1)
    return np.cumsum(edges[:-1]) > 0


def _keys(data: Any, found: _Structure) -> tuple[Any, Any]:
    """The quotes around the keys of records."""
    quotes = np.flatnonzero(found.byte == _QUOTE)
    opening = quotes[0::2][found.depth[quotes[0::2]] == _RECORD]
    opens, closes = found.place[opening], found.place[opening + 1]
    is_key = data[_skip_space(data, closes + 1)] == _COLON
    return opens[is_key], closes[is_key]


def _events_of(place: Any, start: Any) -> Any:
    """The event that each place is in, both in order."""
    bounds = np.append(np.searchsorted(place, start), len(place))
    return np.repeat(np.arange(len(start)), np.diff(bounds))


def _value_ends(data: Any, opens: Any, value: Any, record_ends: Any, stop: Any) -> tuple[Any, Any]:
    """The end of each value, and whether it is in the last record of its event, which ends at ``stop``.

    A value ends before the comma in front of the next key, or before the brace of the record.
    """
    place = np.searchsorted(record_ends, opens)
    end = record_ends[place]
    following = np.append(opens[1:], end[-1:])
    last = following >= end
    end = _trim(data, np.where(last, end, following), _SPACE, value)
    end[~last] = _trim(data, end[~last] - 1, _SPACE, value[~last])
    return end, np.append(record_ends, len(data))[place + 1] >= stop


def _skip_space(data: Any, at: Any) -> Any:
    """Each position, moved behind white space."""
    at, space = at.copy(), _those(_SPACE)
    rows = np.flatnonzero(space[data[at]])
    for _ in range(_AT_ONCE):
        at[rows] += 1
        rows = rows[space[data[at[rows]]]]
    for row in rows.tolist():
        passed = _SPACES.match(memoryview(data), int(at[row]))
        assert passed is not None
        at[row] = passed.end()
    return at


_SPACES = re.compile(rb"[ \t\n\r]*")


def _trim(data: Any, at: Any, kind: bytes, least: Any) -> Any:
    """Each position, moved before bytes of a kind, none of which stands at ``least``."""
    at, those = at.copy(), _those(kind)
    rows = np.flatnonzero(those[data[at - 1]])
    for _ in range(_AT_ONCE):
        at[rows] -= 1
        rows = rows[those[data[at[rows] - 1]]]
    for row in rows.tolist():
        at[row] = least[row] + len(data[least[row] : at[row]].tobytes().rstrip(kind))
    return at


def _those(kind: bytes) -> Any:
    """Which bytes are of a kind."""
    found = np.zeros(256, bool)
    found[list(kind)] = True
    return found


# Names


class _Shape(NamedTuple):
    """What tells names apart: length, and the words of eight bytes at the start, behind it, and at the end."""

    length: Any
    first: Any
    middle: Any
    last: Any


def _shape(data: Any, start: Any, stop: Any) -> _Shape:
    word, length = words(data, "<u8"), stop - start
    mask, back = _MASKS[np.minimum(length, 8)], np.maximum(stop - 8, start)
    return _Shape(length, word[start] & mask, word[np.minimum(start + 8, back)] & mask, word[back] & mask)


_MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
_TEXT = np.frombuffer("".join(FIELDS).encode() + bytes(PAD), np.uint8)
_STOPS = np.cumsum([len(name) for name in FIELDS])
_KNOWN = _shape(_TEXT, np.append(0, _STOPS[:-1]), _STOPS)
_MIXED = _KNOWN.first ^ _KNOWN.length.astype(np.uint64)
_ORDER = np.argsort(_MIXED)
assert len(set(_MIXED.tolist())) == len(FIELDS)


def _codes(data: Any, start: Any, stop: Any, names: dict[str, int]) -> Any:
    """The code of each name; names that are not known, or not written plainly, get theirs by their text."""
    shape = _shape(data, start, stop)
    mixed = shape.first ^ shape.length.astype(np.uint64)
    at = np.minimum(np.searchsorted(_MIXED[_ORDER], mixed), len(FIELDS) - 1)
    code = _ORDER[at]
    known = np.all([found == told[code] for found, told in zip(shape, _KNOWN, strict=True)], axis=0)
    rows = np.flatnonzero(~known)
    if len(rows):
        texts = strings(data, start[rows], stop[rows]).dictionary_encode()
        code[rows] = np.array([_code(text, names) for text in texts.dictionary.to_pylist()])[texts.indices.to_numpy()]
    return code


def _code(text: str, names: dict[str, int]) -> int:
    """The code of a name as it stands between quotes; a new one is added."""
    name = msgspec.json.decode(f'"{text}"'.encode(), type=str)
    return names.setdefault(name, len(names))
