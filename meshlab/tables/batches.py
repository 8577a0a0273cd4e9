"""Blocks and their records as record batches in columns of ``COLUMNS``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import DELETE, OPS, OTHER
from meshlab.tables.digests import text_keys
from meshlab.tables.parse import Records
from meshlab.tables.schema import COLUMNS, TIME, TIME_PROJECTIONS
from meshlab.tables.slices import spread, strings
from meshlab.tables.times import to_timestamps
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.lines import DIALECTS, NO_TIME, Block


class Names(NamedTuple):
    """The dictionaries of the batches of one load: every batch has the same."""

    uid: str
    segments: Sequence[str]


def take(block: Block, rows: Any) -> Block:
    """The rows of a block given by a mask."""
    if rows.all():
        return block
    kept = np.flatnonzero(rows)
    place = {int(row): index for index, row in enumerate(kept.tolist())} if block.parsed else {}
    parsed = {place[row]: event for row, event in block.parsed.items() if row in place}
    columns = {
        field.name: getattr(block, field.name)[kept]
        for field in dataclasses.fields(block)
        if field.name not in ("segment", "base", "data", "parsed")
    }
    return dataclasses.replace(block, parsed=parsed, **columns)


def event_batch(block: Block, records: Records, names: Names, columns: Sequence[str]) -> pa.RecordBatch:
    """The events of a block, in log order; only the named columns are computed."""
    arrays = [_column(name, block, records, names) for name in columns]
    batch = pa.record_batch(arrays, schema=pa.schema([COLUMNS.field(name) for name in columns]))
    if not records.failed:
        return batch
    keep = np.ones(len(block.op), bool)
    keep[list(records.failed)] = False
    return batch.filter(pa.array(keep))


def _column(name: str, block: Block, records: Records, names: Names) -> pa.Array:
    if name in records.columns:
        return records.columns[name]
    if name in TIME_PROJECTIONS:
        return to_timestamps(records.columns[TIME_PROJECTIONS[name]])
    return _COLUMNS[name](block, records, names)


def _indexed(codes: Any, values: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values, pa.string()))


def _always(value: str, values: Sequence[str], count: int) -> pa.Array:
    return _indexed(np.full(count, values.index(value), np.int32), values)


def _moments(micros: Any, none: int) -> pa.Array:
    return pa.array(micros, mask=micros == none).view(TIME)


def _text_where(rows: Any, data: Any, start: Any, stop: Any, count: int) -> pa.Array:
    rows = np.flatnonzero(rows)
    return spread(strings(data, start[rows], stop[rows]), rows, count)


def _raw(block: Block, records: Records, names: Names) -> pa.Array:
    return _text_where(records.op == OTHER, block.data, block.event_start, block.event_stop, len(block.op))


def _key(block: Block, records: Records, names: Names) -> pa.Array:
    return _text_where(block.key_start >= 0, block.data, block.key_start, block.key_stop, len(block.op))


def _given(block: Block, records: Records, names: Names) -> pa.Array:
    assert records.fields is not None
    return pa.array(np.where(records.op == DELETE, 0, records.fields.masks(len(block.op))).astype(np.int32))


def _content_key(block: Block, records: Records, names: Names) -> pa.Array:
    return text_keys(records.columns["content"])


def _content_nbytes(block: Block, records: Records, names: Names) -> pa.Array:
    return pc.binary_length(records.columns["content"]).cast(pa.int64())


_COLUMNS: dict[str, Callable[[Block, Records, Names], pa.Array]] = {
    "uid": lambda block, records, names: _always(names.uid, [names.uid], len(block.op)),
    "segment": lambda block, records, names: _always(block.segment, names.segments, len(block.op)),
    "offset": lambda block, records, names: pa.array(block.start + block.base),
    "line": lambda block, records, names: pa.array(block.line),
    "nbytes": lambda block, records, names: pa.array(block.nbytes),
    "seq": lambda block, records, names: pa.array(block.seq, mask=block.seq == 0),
    "ts": lambda block, records, names: _moments(block.time, NO_TIME),
    "effective_ts": lambda block, records, names: _moments(block.effective, LONG_AGO),
    "op": lambda block, records, names: _indexed(records.op, OPS),
    "dialect": lambda block, records, names: _indexed(block.dialect, DIALECTS),
    "given": _given,
    "content_key": _content_key,
    "payload_nbytes": lambda block, records, names: pa.array(block.event_stop - block.event_start),
    "content_nbytes": _content_nbytes,
    "key": _key,
    "raw": _raw,
}
