"""Columns of RFC 3339 text as µs UTC, fast for the common forms.

Agrees with ``meshlab.times.parse_time`` on every text; null where that says None.

>>> to_timestamps(pa.array(["2025-07-07T10:00:00.5+02:00", "soon", None])).view(pa.int64()).to_pylist()
[1751875200500000, None, None]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.tables.schema import TIME
from meshlab.times import parse_canonical, parse_time

_LENGTH = 27
_YEAR_ONE = -62_135_596_800_000_000
"""Arrow reads a year 0000, which is no time here."""


def to_timestamps(texts: pa.Array) -> pa.Array:
    """The µs UTC column of a ``string`` array."""
    given = texts.drop_null()
    if not len(given):
        return pa.nulls(len(texts), TIME)
    times = _all_canonical(texts, given)
    return _mixed(texts) if times is None else times


def _all_canonical(texts: pa.Array, given: pa.Array) -> pa.Array | None:
    """Arrow's own parser, when every text has the form and length meshlab writes."""
    rows = _matrix(given)
    if rows is None or not ((rows[:, 19] == ord(".")) & (rows[:, 26] == ord("Z")) & (rows[:, 10] == ord("T"))).all():
        return None
    try:
        times = pc.cast(texts, TIME)
    except pa.ArrowInvalid:
        return None
    return None if pc.min(times.view(pa.int64())).as_py() < _YEAR_ONE else times


def _matrix(given: pa.Array) -> Any:
    """The bytes of texts that are all 27 long, as a matrix without a copy, else None."""
    offsets = np.frombuffer(given.buffers()[1], np.int32)[given.offset : given.offset + len(given) + 1]
    if not (np.diff(offsets) == _LENGTH).all():
        return None
    return np.frombuffer(given.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, _LENGTH)


def _mixed(texts: pa.Array) -> pa.Array:
    """Each different text once: the usual forms by padding to 27 bytes, the rest in Python."""
    encoded = texts.dictionary_encode()
    micros, good = _by_padding(encoded.dictionary)
    known = np.zeros(len(good), bool) | good
    for row in np.flatnonzero(~good).tolist():
        moment = parse_time(encoded.dictionary[row].as_py())
        if moment is not None:
            micros[row], known[row] = moment, True
    return pa.array(micros, mask=~known).view(TIME).take(encoded.indices)


_FORMS = {20: (19, 0), 24: (20, 3), 27: (20, 6), 30: (20, 6)}
"""Length of a ``Z`` form: where its digits behind the point start, and how many are kept."""


def _by_padding(texts: pa.Array) -> tuple[Any, Any]:
    """Times of the texts in a ``Z`` form with 0, 3, 6 or 9 digits behind the point."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    micros, good = np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    for length, (point, digits) in _FORMS.items():
        rows = np.flatnonzero(np.diff(offsets) == length)
        if not len(rows):
            continue
        given = data[offsets[rows][:, None] + np.arange(length)]
        padded = np.full((len(rows), _LENGTH), ord("0"), np.uint8)
        padded[:, : point + digits] = given[:, : point + digits]
        padded[:, 19] = given[:, 19] if digits else ord(".")
        padded[:, 26] = given[:, -1]
        micros[rows], good[rows] = parse_canonical(padded)
        if length == 30:
            good[rows] &= ((given[:, 26:29] >= 0x30) & (given[:, 26:29] <= 0x39)).all(axis=1)
    return micros, good
