"""MD5 of many slices at once, by DuckDB."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from meshlab.tables.connection import borrow
from meshlab.tables.slices import views
from meshlab.wal.lines import md5_digests

_BATCH_ROWS = 8192
LEAST_SLICES = 4000
"""Slices from which a query is faster than a loop."""


_EIGHT_BYTES = "(md5_number({0}) & 18446744073709551615::uhugeint)::ubigint"
"""``md5_number`` is little-endian; DuckDB's own function for its half takes half as long again."""

_QUERY = f"select {_EIGHT_BYTES.format('slice')} as digest from slices"
_KEY_QUERY = f"select {_EIGHT_BYTES.format('text')} as key from texts"


class DuckDigests:
    """``Digests`` (see ``wal.lines``) on all cores; for use by one thread at a time.

    The loop over hashlib takes longer and holds the interpreter lock, so that nothing
    else moves meanwhile.
    """

    def __call__(self, data: Any, starts: Any, stops: Any) -> Any:
        if len(starts) < LEAST_SLICES:
            return md5_digests(data, starts, stops)
        slices = views(data, starts, stops)
        parts = [slices.slice(low, _BATCH_ROWS) for low in range(0, len(slices), _BATCH_ROWS)]
        self._connection.register("slices", pa.Table.from_batches([pa.record_batch({"slice": part}) for part in parts]))
        try:
            result = self._connection.sql(_QUERY).to_arrow_table()
        finally:
            self._connection.unregister("slices")
        return result.column("digest").combine_chunks().to_numpy()

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return borrow()


def text_keys(texts: pa.Array) -> pa.Array:
    """The first eight bytes of the MD5 of each text (a ``string`` array), as int64; null for null.

    >>> text_keys(pa.array(["sea", None, "sea"])).to_pylist()
    [1965188074215591808, None, 1965188074215591808]
    """
    if len(texts) < LEAST_SLICES:
        return _few_keys(texts)
    parts = [pa.record_batch({"text": texts.slice(low, _BATCH_ROWS)}) for low in range(0, len(texts), _BATCH_ROWS)]
    connection = borrow()
    connection.register("texts", pa.Table.from_batches(parts, pa.schema([("text", texts.type)])))
    try:
        found = connection.sql(_KEY_QUERY).to_arrow_table()["key"].combine_chunks()
    finally:
        connection.unregister("texts")
    return found.view(pa.int64())


def _few_keys(texts: pa.Array) -> pa.Array:
    offsets = np.frombuffer(texts.buffers()[1] or bytes(4), np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    digests = md5_digests(data, offsets[:-1], offsets[1:])
    return pa.array(digests.view(np.int64), mask=texts.is_null().to_numpy(zero_copy_only=False))
