"""Slices of a byte buffer as Arrow arrays.

>>> data = np.frombuffer(b"one two three four" + bytes(16), np.uint8)
>>> views(data, np.array([0, 4]), np.array([3, 18])).to_pylist()
['one', 'two three four']
>>> strings(data, np.array([0, 4]), np.array([3, 18])).to_pylist()
['one', 'two three four']
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

INLINE = 12
"""Longest string that a view holds itself instead of pointing at it."""


def views(data: Any, start: Any, stop: Any, valid: Any = None) -> pa.Array:
    """A ``string_view`` array over ``data[start:stop]`` that copies no long slice.

    ``data`` (uint8, under 2 GiB) must hold UTF-8 in every slice and have 12 bytes
    behind the last one.  ``valid`` masks rows; the others are null.
    """
    length = stop - start
    view = np.zeros((len(start), 4), np.int32)
    view[:, 0] = length
    view[:, 1] = words(data, "<i4")[start]
    view[:, 3] = start
    short = np.flatnonzero(length <= INLINE)
    if len(short):
        view[short, 1:] = inline(data, start[short], length[short])
    nulls = None
    if valid is not None:
        view[~valid] = 0
        nulls = pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [nulls, pa.py_buffer(view), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string_view(), len(start), buffers)


def strings(data: Any, start: Any, stop: Any) -> pa.Array:
    """A ``string`` array with a copy of each slice, which must be UTF-8."""
    length = stop - start
    offsets = np.zeros(len(start) + 1, np.int64)
    np.cumsum(length, out=offsets[1:])
    if len(offsets) and offsets[-1] > np.iinfo(np.int32).max:
        raise OverflowError("the slices hold more than 2 GiB")
    copied = data[np.repeat(start - offsets[:-1], length) + np.arange(offsets[-1])]
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(copied)]
    return pa.Array.from_buffers(pa.string(), len(start), buffers)


def spread(values: pa.Array, rows: Any, count: int) -> pa.Array:
    """``values`` at ``rows`` of an array of ``count``; null elsewhere.

    >>> spread(pa.array(["a", "b"]), np.array([0, 2]), 3).to_pylist()
    ['a', None, 'b']
    """
    if not len(rows):
        return pa.nulls(count, values.type)
    index = np.zeros(count, np.int32)
    index[rows] = np.arange(len(rows))
    given = np.zeros(count, bool)
    given[rows] = True
    return values.take(pa.array(index, mask=~given))


def words(data: Any, kind: str) -> Any:
    """The integer at every byte position of ``data``, without a copy."""
    size = np.dtype(kind).itemsize
    return np.ndarray(shape=(len(data) - size + 1,), dtype=kind, buffer=data, strides=(1,))


def inline(data: Any, start: Any, size: Any) -> Any:
    """The bytes of short texts, padded with NULs, as three words each."""
    places = start[:, None] + np.arange(INLINE)
    inside = np.arange(INLINE) < size[:, None]
    held = np.zeros((len(start), INLINE), np.uint8)
    held[inside] = data[places[inside]]
    return held.view(np.int32)
