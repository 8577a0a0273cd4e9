"""Which records DuckDB's ``from_json`` provably reads as the Python decoder does.

``from_json`` takes the first of a repeated key, drops unknown keys, turns misfits into
NULL or converts them, and forgives NaN, huge exponents and trailing commas.  It is
told from the definition (``dialects.parse_event``) by the bytes:

- Every key is written ``":`` unless white space stands before the colon, and such rows
  are doubtful here.  An unknown, repeated, null or misfit key, and a ``":`` inside a
  string, only ever add to the number of ``":`` over the number of values found.  So
  when both numbers are equal, every key is known, is there once, and has a value.
- Then no value was converted when its first byte fits the type of its key, which the
  last four bytes of the key tell; a count must be digits up to ``,`` or ``}``.
  (An escape inside a key cannot forge an ending: see ``test_screen``.)
- A comma before a closing bracket is doubtful.  Infinities and NaN show in the values.

Doubt only costs time: doubtful rows are parsed by the definition.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from meshlab.records import FIELDS
from meshlab.tables.schema import COMFORT_METRICS, EMOTIONAL_SIGNATURE, RECORD_FIELDS

_QUOTE, _COLON, _COMMA, _SPACE, _BRACE = b'":, }'
_NOTHING = np.zeros(0, np.int64)
_STEP = 1 << 19
"""Bytes looked at in one go, so that the masks stay in the cache."""

_MARGIN = 8
"""Bytes around the slices, so that a look from a colon stays inside the data."""

_MAX_DIGITS = 20


class Screened(NamedTuple):
    """Number of ``":`` in each slice, a mask of the slices that are doubtful, and where all the colons stand."""

    keys: Any
    doubtful: Any
    colons: Any


def count_keys(data: Any, start: Any, stop: Any) -> Screened:
    """Look at slices of a buffer.

    ``start`` must ascend; slices must not overlap; eight bytes stand before the first
    and behind the last.
    """
    keys, doubts = [_NOTHING], [_NOTHING]
    for low in range(_MARGIN, len(data) - _MARGIN, _STEP):
        part = data[low : min(low + _STEP, len(data) - _MARGIN)]
        before = data[low - 1 : low - 1 + len(part)]
        colon = part == _COLON
        at = np.flatnonzero((before == _QUOTE) & colon) + low
        keys.append(at)
        doubts.append(_misfits(data, at))
        spaced = (colon | ((part | 0x20) == _BRACE)) & ((before <= _SPACE) | (before == _COMMA))
        if spaced.any():
            doubts.append(_badly_spaced(data, np.flatnonzero(spaced) + low))
    colons = np.concatenate(keys)
    edges = np.searchsorted(colons, np.stack([start, stop], axis=1).ravel()).reshape(-1, 2)
    return Screened(edges[:, 1] - edges[:, 0], _rows_holding(np.concatenate(doubts), start, stop), colons)


def _badly_spaced(data: Any, at: Any) -> Any:
    """Colons behind a quote, and closing brackets behind a comma, with white space between."""
    before = at - 1
    active = np.arange(len(at))
    while len(active):
        active = active[(data[before[active]] <= _SPACE) & (before[active] > 0)]
        before[active] -= 1
    wrong = np.where(data[at] == _COLON, _QUOTE, _COMMA)
    return at[data[before] == wrong]


def _rows_holding(positions: Any, start: Any, stop: Any) -> Any:
    """Mask of the slices that hold at least one of the positions."""
    held = np.zeros(len(start), bool)
    if len(positions) and len(start):
        row = np.searchsorted(start, positions, side="right") - 1
        held[row[(row >= 0) & (positions < stop[row])]] = True
    return held


# The first byte of a value


def _endings() -> dict[bytes, bytes]:
    """The last four bytes before the closing quote of every key, and the first bytes of its values."""
    first = {"string": b'"', "double": b"-0123456789", "uint64": b"0123456789", "struct": b"{", "list": b"["}
    endings: dict[bytes, bytes] = {}
    for field in [*RECORD_FIELDS, *EMOTIONAL_SIGNATURE, *COMFORT_METRICS]:
        allowed = first[str(field.type).split("<")[0]]
        for mark in b"{", b",":
            ending = (mark + b'"' + field.name.encode())[-4:]
            assert endings.setdefault(ending, allowed) == allowed, f"{field.name} needs a longer ending"
    return endings


_ENVELOPE = (b"tamp", b"vent", b"sert", b"date", b"lete", b'"seq', b"prev", b'"sum', b'"key')
"""Endings of the keys around a record, which may have any value."""

_BITS = 10
_COUNT_ENDING = int.from_bytes(b"ount", "little")


def _perfect_hash(endings: list[bytes]) -> int:
    """An odd multiplier under which the endings fall into different slots."""
    numbers = np.array([int.from_bytes(ending, "little") for ending in endings], np.uint32)
    for multiplier in range(0x9E3779B1, 1 << 32, 2):
        if len(np.unique(numbers * np.uint32(multiplier) >> np.uint32(32 - _BITS))) == len(numbers):
            return multiplier
    raise AssertionError("the endings need more slots")


def _tables() -> tuple[Any, Any, Any]:
    endings = _endings() | dict.fromkeys(_ENVELOPE, bytes(range(256)))
    multiplier = np.uint32(_perfect_hash(list(endings)))
    names = np.zeros(1 << _BITS, np.uint32)
    allowed = np.zeros((1 << _BITS, 256), bool)
    for ending, first in endings.items():
        number = np.array([int.from_bytes(ending, "little")], np.uint32)
        slot = int((number * multiplier >> np.uint32(32 - _BITS))[0])
        names[slot] = number[0]
        allowed[slot, list(first)] = True
    return multiplier, names, allowed.ravel()


_MULTIPLIER, _NAMES, _ALLOWED = _tables()


def _misfits(data: Any, colon: Any) -> Any:
    """Colons of keys whose ending is unknown or whose value starts as its type cannot."""
    ending, slot = _ending_before(data, colon)
    good = (_NAMES[slot] == ending) & _ALLOWED[slot << 8 | data[colon + 1]]
    counts = colon[ending == _COUNT_ENDING]
    return np.concatenate([colon[~good], counts[~_is_whole_number(data, counts + 1)]])


def _ending_before(data: Any, colon: Any) -> tuple[Any, Any]:
    """The last four bytes of the key before each colon as a number, and its slot."""
    # Byte by byte: the part is in the cache, and unaligned words are slow to gather.
    tail = np.empty((len(colon), 4), np.uint8)
    for place in range(4):
        tail[:, place] = data[colon - (5 - place)]
    ending = tail.view("<u4").ravel()
    return ending, (ending * _MULTIPLIER >> np.uint32(32 - _BITS)).astype(np.intp)


def _is_whole_number(data: Any, at: Any) -> Any:
    """Whether only digits stand at each position, up to a comma or a closing brace."""
    at = at.copy()
    active = np.arange(len(at))
    for _ in range(_MAX_DIGITS):
        byte = data[at[active]]
        active = active[(byte >= 0x30) & (byte <= 0x39)]
        if not len(active):
            break
        at[active] += 1
    return (data[at] == _COMMA) | (data[at] == ord("}"))


# Which field a key is


def fields_before(data: Any, colon: Any) -> Any:
    """Index into ``FIELDS`` of the key before each colon, by its ending; -1 for a key that is none of a record.

    Only keys in slices that are beyond doubt have the name that their ending says, and
    even they may be spelled with an escape before it.
    """
    ending, slot = _ending_before(data, colon)
    code = np.where(_NAMES[slot] == ending, _CODES[slot], np.int8(-1))
    code[(code == _POSITION) & (data[colon - 6] == ord("a"))] = -1  # "perturbation"
    return code


_POSITION = FIELDS.index("position")


def _codes() -> Any:
    """The field of each slot, -1 where there is none."""
    codes = np.full(1 << _BITS, -1, np.int8)
    for code, name in enumerate(FIELDS):
        for mark in b"{", b",":
            number = np.array([int.from_bytes((mark + b'"' + name.encode())[-4:], "little")], np.uint32)
            codes[int((number * _MULTIPLIER >> np.uint32(32 - _BITS))[0])] = code
    return codes


_CODES = _codes()
