"""Records to the bytes of a phase-1 map (see ``layout``), whole columns at a time.

The format has room for the seventeen fields, all of them given, and for nothing else:
``fits_map`` tells which records it can hold, ``misfit`` why one does not fit.

>>> from meshlab.tables.schema import RECORD_SCHEMA
>>> rows = pa.RecordBatch.from_pylist([{"id": "m1", "amplitude": 0.5}], schema=RECORD_SCHEMA)
>>> fits_map(rows).to_pylist(), misfit(rows, 0)
([False], 'no concept_id is given')
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import SnapshotError
from meshlab.records import FIELD_SET
from meshlab.snapshot.layout import COMFORTS, FEELINGS, FLOATS, VARIANTS

_COUNT = struct.Struct("<Q")
_PART_ROWS = 65_536
_names_in = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def write_map(sink: Any, batches: Iterable[pa.RecordBatch], count: int) -> int:
    """Write a map of ``count`` records, batch by batch; returns the bytes written.

    ``sink`` is anything with ``write``.  The ids are for the caller to keep apart.
    Raises ``SnapshotError`` naming the record and field that do not fit, and when the
    batches hold another number of records: what was written is no map then.
    """
    sink.write(_COUNT.pack(count))
    done, nbytes = 0, _COUNT.size
    for batch in batches:
        for start in range(0, batch.num_rows, _PART_ROWS):
            data = map_entries(batch.slice(start, _PART_ROWS))
            sink.write(memoryview(data))
            nbytes += data.size
        done += batch.num_rows
    if done != count:
        raise SnapshotError(f"a map: expected {count} records, found {done}", hint="nothing of it is to be used")
    return nbytes


def map_entries(batch: pa.RecordBatch) -> pa.Buffer:
    """The entries of some records (``RECORD_SCHEMA``), one behind the other.

    Raises ``SnapshotError`` naming the first record that does not fit, and why.
    """
    fits = fits_map(batch)
    if not pc.all(fits).as_py():
        row = fits.index(False).as_py()
        raise SnapshotError(
            f"record {batch['id'][row].as_py()!r} does not fit the bincode format: {misfit(batch, row)}"
        )
    if not batch.num_rows:
        return pa.py_buffer(b"")
    return _packed([part for parts in _parts(batch) for part in parts])


def fits_map(batch: pa.RecordBatch) -> pa.BooleanArray:
    """Which records (``RECORD_SCHEMA``) the format can hold as they are."""
    fits = np.ones(batch.num_rows, bool)
    for good in _checks(batch).values():
        fits &= good
    return pa.array(fits)


def misfit(batch: pa.RecordBatch, row: int) -> str:
    """Why the format cannot hold a record; empty when it can.  The first reason, in the order of the fields."""
    extra = batch["extra"][row].as_py()
    misfits = FIELD_SET.intersection(_names_in(extra)) if extra else frozenset()
    for name, good in _checks(batch.slice(row, 1)).items():
        if good[0]:
            continue
        if name == "extra":
            return f"the format has no field {min(_names_in(extra))!r}"
        if name in misfits:
            return f"the {name} given does not fit its type"
        if name in VARIANTS and batch[name][row].is_valid:
            return f"the format has no {name} {batch[name][row].as_py()!r}"
        return f"no {name} is given"
    return ""


def _checks(batch: pa.RecordBatch) -> dict[str, Any]:
    """For every part of a record, in which rows it can be written."""
    checks: dict[str, Any] = {}
    for name in batch.schema.names:
        column = batch.column(name)
        if name in VARIANTS:
            checks[name] = _flags(pc.is_in(column, pa.array(VARIANTS[name])))
        elif pa.types.is_struct(column.type):
            checks[name] = _flags(column.is_valid())
            for field, child in zip(column.type, column.flatten(), strict=True):
                checks[f"{name}.{field.name}"] = _flags(child.is_valid()) & _whole_lists(child)
        elif name in FIELD_SET:
            checks[name] = _flags(column.is_valid())
    return checks | {"extra": _flags(batch.column("extra").is_null())}


def _whole_lists(column: pa.Array) -> Any:
    """Rows whose list, if the column has lists, holds no null."""
    whole = np.ones(len(column), bool)
    if pa.types.is_list(column.type):
        sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        whole[np.repeat(np.arange(len(column)), sizes)[_flags(column.flatten().is_null())]] = False
    return whole


def _flags(column: pa.Array) -> Any:
    return column.to_numpy(zero_copy_only=False)


# Bytes: an entry is what its columns are, joined

_Numbers = list[tuple[str, Any]]
"""Numbers that stand side by side: the type of each in a file, and a column of it."""


def _parts(batch: pa.RecordBatch) -> Iterable[tuple[pa.Array, ...]]:
    """What an entry consists of, in order, as columns of bytes: numbers, then a string behind its length."""
    yield from (_string(batch, "id"), _string(batch, "id"), _string(batch, "concept_id"))
    yield _string(batch, "creation_time", [("<f8", batch[name]) for name in FLOATS])
    yield _string(batch, "last_accessed")
    yield _string(batch, "content", [("<u8", batch["access_count"])])
    *feelings, indicators = batch["emotional_signature"].flatten()
    before: _Numbers = [_variant(batch, "content_type"), *(("<f8", column) for column in feelings[: len(FEELINGS)])]
    yield _numbers([*before, ("<u8", pc.list_value_length(indicators))]), _lists(indicators)
    comforts = batch["comfort_metrics"].flatten()[: len(COMFORTS)]
    after = [_variant(batch, "vault_status"), _variant(batch, "mode"), *(("<f8", column) for column in comforts)]
    yield (_numbers(after),)


def _string(batch: pa.RecordBatch, name: str, before: _Numbers | None = None) -> tuple[pa.Array, pa.Array]:
    """The numbers in front of a string and its length, and the string."""
    column = batch[name]
    return _numbers([*(before or ()), ("<u8", pc.binary_length(column))]), column.cast(pa.large_binary())


def _variant(batch: pa.RecordBatch, name: str) -> tuple[str, pa.Array]:
    return "<u4", pc.index_in(batch[name], pa.array(VARIANTS[name]))


def _numbers(columns: _Numbers) -> pa.Array:
    """Rows of numbers as a column of bytes."""
    rows = np.empty(len(columns[0][1]), [(str(index), kind) for index, (kind, _) in enumerate(columns)])
    for index, (_, column) in enumerate(columns):
        rows[str(index)] = column.to_numpy(zero_copy_only=False)
    return _cut(np.arange(len(rows) + 1) * rows.itemsize, pa.py_buffer(rows))


def _lists(lists: pa.ListArray) -> pa.Array:
    """The strings of every list, each behind its length, as a column of bytes."""
    texts = lists.flatten()
    ends = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False), out=ends[1:])
    places = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(8 + pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64), out=places[1:])
    packed = _packed([_numbers([("<u8", pc.binary_length(texts))]), texts.cast(pa.large_binary())])
    return _cut(places[ends], packed)


def _packed(parts: list[pa.Array]) -> pa.Buffer:
    """The bytes of columns, row by row."""
    joined = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
    return joined.buffers()[2] if len(joined) else pa.py_buffer(b"")


def _cut(bounds: Any, data: pa.Buffer) -> pa.Array:
    """A column of bytes from its data and where each row begins and ends."""
    offsets = pa.py_buffer(np.ascontiguousarray(bounds, np.int64))
    return pa.Array.from_buffers(pa.large_binary(), len(bounds) - 1, [None, offsets, data])
