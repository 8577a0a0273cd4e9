"""Records out of log lines: DuckDB where it provably agrees, else the definition.

A ``Parser`` turns the rows of a ``Block`` into Arrow columns.  Rows our own writer wrote
go through one DuckDB query per block over views of the block's bytes; ``screen`` says
which results stand.  All other rows, and those the reader has already decoded, take
their values from ``events.parse_event``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Any, NamedTuple

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.events import DELETE, FIELDS, OTHER, NotJson, Parsed, parse_event
from meshlab.tables.connection import connect
from meshlab.tables.screen import count_keys
from meshlab.tables.schema import EMOTIONAL_SIGNATURE, EVENT_SCHEMA, RECORD_FIELDS
from meshlab.tables.slices import spread, strings, views
from meshlab.wal.lines import Block

HEAD = len(b'{"Insert":')
"""Bytes before the record in a plain event; ``Update`` and ``Delete`` have as many."""

_BATCH_ROWS = 8192
"""DuckDB spreads record batches over its threads: several for each, per block."""

_RAW_LIST = "trauma_indicators"


LEAST_ROWS = 4000
"""Plain rows from which a query, which takes some 15 ms to begin with, is faster."""


class Records(NamedTuple):
    """What the rows of a block say, one row per event.

    ``columns`` maps names to Arrow arrays, ``op`` is final (int8, index into ``OPS``),
    ``failed`` maps rows that turned out to be no JSON to the reason.
    """

    columns: dict[str, pa.Array]
    op: Any
    failed: dict[int, str]


class Parser:
    """Parses blocks; holds one DuckDB connection, so use it from one thread at a time.

    ``columns`` are names of ``EVENT_SCHEMA``; only what they need is computed.  Blocks
    with fewer than ``least_rows`` plain rows are not worth a query.
    """

    def __init__(self, columns: Collection[str], *, least_rows: int = LEAST_ROWS) -> None:
        self._wanted = _needed(columns)
        self._with_extra = "extra" in columns
        self._least_rows = least_rows

    def parse(self, block: Block) -> Records:
        """The records of a block; every row is parsed, whatever the columns."""
        slow = np.ones(len(block.op), bool)
        columns = {}
        if np.count_nonzero(block.plain) >= self._least_rows:
            columns, slow = self._parse_plain(block)
        rows = np.flatnonzero(slow)
        if not columns or len(rows):
            parsed, failed = _parse_slowly(block, rows)
            columns = _merge(columns, rows, _decoded_columns(parsed, self._wanted, self._with_extra))
            op = block.op.copy()
            op[rows] = [event.op for event in parsed]
            return Records(columns, op, failed)
        if self._with_extra:
            columns["extra"] = pa.nulls(len(block.op), pa.string())
        return Records(columns, block.op, {})

    def _parse_plain(self, block: Block) -> tuple[dict[str, pa.Array], Any]:
        start, stop = block.event_start + HEAD, block.event_stop - 1
        is_record = block.plain & (block.op < DELETE)
        found = self._from_json(block.data, start, stop, is_record)
        if found is None:
            return {}, np.ones(len(start), bool)
        seen, doubtful = count_keys(block.data, start, stop)
        agreed = is_record & ~doubtful & (seen == _numbers(found["keys"])) & _numbers(found["sound"]).astype(bool)
        deletes = np.flatnonzero(block.plain & (block.op == DELETE))
        ids, readable = _plain_strings(block.data, start[deletes], stop[deletes])
        agreed[deletes[readable]] = True
        columns = {name: found[name] for name in self._wanted}
        if len(deletes):
            columns["id"] = pc.coalesce(columns["id"], spread(ids, deletes, len(start)))
        lists, strict = _read_lists(found["lists"])
        if "emotional_signature" in columns:
            columns["emotional_signature"] = _with_lists(columns["emotional_signature"], lists)
        return columns, ~(agreed & strict)

    def _from_json(self, data: Any, start: Any, stop: Any, rows: Any) -> dict[str, pa.Array] | None:
        """The query's columns for the masked slices; None when DuckDB gives up on them."""
        for _ in range(2):
            try:
                return self._run(self._query, views(data, start, stop, rows))
            except duckdb.Error:
                rows = rows & self._valid(data, start, stop, rows)
        return None

    def _valid(self, data: Any, start: Any, stop: Any, rows: Any) -> Any:
        query = "select coalesce(json_valid(record), false)::utinyint as valid from block"
        try:
            return _numbers(self._run(query, views(data, start, stop, rows))["valid"]).astype(bool)
        except duckdb.Error:
            return np.zeros(len(rows), bool)

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return connect()

    @cached_property
    def _query(self) -> str:
        return _query(self._wanted)

    def _run(self, query: str, records: pa.Array) -> dict[str, pa.Array]:
        schema = pa.schema([("record", records.type)])
        parts = [records.slice(low, _BATCH_ROWS) for low in range(0, len(records), _BATCH_ROWS)]
        block = pa.Table.from_batches([pa.record_batch([part], schema=schema) for part in parts], schema)
        self._connection.register("block", block)
        try:
            result = self._connection.sql(query).to_arrow_table()
        finally:
            self._connection.unregister("block")
        return {name: _whole(result.column(name)) for name in result.column_names}


def _needed(columns: Iterable[str]) -> list[str]:
    """The record fields the columns are made of; ``id`` decides what a row is."""
    names = set(columns) | {"id"}
    sources = {"creation_ts": "creation_time", "last_accessed_ts": "last_accessed", "content_nbytes": "content"}
    names.update(sources[name] for name in names & set(sources))
    if "extra" in names:
        names.add("emotional_signature")
    return [name for name in FIELDS if name in names]


# The query


_SQL_TYPES = {"string": "VARCHAR", "double": "DOUBLE", "uint64": "UBIGINT"}


def _structure(fields: Iterable[pa.Field]) -> str:
    """What ``from_json`` is asked for; lists come as raw text."""
    parts = []
    for field in fields:
        kind = f'"{_SQL_TYPES.get(str(field.type), "JSON")}"'
        parts.append(f'"{field.name}":{_structure(field.type) if pa.types.is_struct(field.type) else kind}')
    return "{" + ",".join(parts) + "}"


def _leaves(fields: Iterable[pa.Field], prefix: str = "") -> list[tuple[str, pa.DataType]]:
    """Every key as an SQL expression, nested ones behind their parent."""
    leaves = []
    for field in fields:
        name = f'{prefix}"{field.name}"'
        leaves.append((name, field.type))
        if pa.types.is_struct(field.type):
            leaves += _leaves(field.type, name + ".")
    return leaves


def _query(wanted: list[str]) -> str:
    """All keys are parsed, since all must be counted; only wanted ones are given back.

    ``sound``: the id is usable and every number finite (NaN counts as the greatest).
    """
    leaves = _leaves(RECORD_FIELDS)
    keys = "+".join(f"({name} is not null)::utinyint" for name, _ in leaves)
    numbers = ",".join(f"abs({name})" for name, kind in leaves if pa.types.is_float64(kind))
    columns = ",".join(f'"{name}"' for name in wanted)
    return (
        f"select {columns}, {keys} as keys, "
        f'"emotional_signature"."{_RAW_LIST}" as lists, '
        f"(coalesce(id <> '', false) and coalesce(isfinite(greatest({numbers})), true))::utinyint as sound "
        f"from (select unnest(from_json(record, '{_structure(RECORD_FIELDS)}')) from block)"
    )


# Arrow pieces


def _whole(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _numbers(array: pa.Array) -> Any:
    return pc.fill_null(array, 0).to_numpy(zero_copy_only=False)


def _plain_strings(data: Any, start: Any, stop: Any) -> tuple[pa.Array, Any]:
    """The texts of JSON strings, and a mask of those that are sound and free of escapes."""
    start, stop = start + 1, stop - 1
    texts = strings(data, start, stop)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)
    held = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    special = np.flatnonzero((held == 0x22) | (held == 0x5C) | (held < 0x20))
    sound = (stop > start) & (data[start - 1] == 0x22) & (data[stop] == 0x22)
    sound[np.searchsorted(offsets, special, side="right") - 1] = False
    return texts, sound


_decode_texts = msgspec.json.Decoder(list[str]).decode


def _read_lists(raw: pa.Array) -> tuple[pa.Array, Any]:
    """Decode lists given as JSON text, each different one once; the mask tells rows without a misfit."""
    texts = raw.dictionary_encode()
    lists, fits = [], []
    for text in texts.dictionary.to_pylist():
        try:
            lists.append(_decode_texts(text))
            fits.append(True)
        except msgspec.MsgspecError:
            lists.append(None)
            fits.append(False)
    kind = EMOTIONAL_SIGNATURE.field(_RAW_LIST).type
    index = pc.fill_null(texts.indices, len(fits)).to_numpy(zero_copy_only=False)
    return pa.array(lists, kind).take(texts.indices), np.array([*fits, True])[index]


def _with_lists(signature: pa.Array, lists: pa.Array) -> pa.Array:
    """Signatures with decoded lists in the place of raw ones."""
    children = dict(zip([field.name for field in signature.type], signature.flatten(), strict=True))
    children[_RAW_LIST] = lists
    fields = list(EMOTIONAL_SIGNATURE)
    arrays = [children[field.name] for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=signature.is_null())


# Rows parsed by the definition


def _parse_slowly(block: Block, rows: Any) -> tuple[list[Parsed], dict[int, str]]:
    """The events of some rows, and why those that are no JSON failed."""
    data = memoryview(block.data)
    parsed, failed = [], {}
    for row in rows.tolist():
        event = block.parsed.get(row)
        if event is None:
            try:
                event = parse_event(bytes(data[block.event_start[row] : block.event_stop[row]]))
            except NotJson as error:
                event = Parsed(OTHER, None, None, None)
                failed[row] = str(error)
        parsed.append(event)
    return parsed, failed


def _decoded_columns(parsed: list[Parsed], wanted: list[str], with_extra: bool) -> dict[str, pa.Array]:
    columns = {}
    for name in wanted:
        values = [event.id for event in parsed] if name == "id" else _field_values(parsed, name)
        columns[name] = pa.array(values, EVENT_SCHEMA.field(name).type)
    if with_extra:
        columns["extra"] = pa.array([extra_text(event.extra) for event in parsed], pa.string())
    return columns


def _field_values(parsed: list[Parsed], name: str) -> list[Any]:
    values = [None if event.fields is None else getattr(event.fields, name) for event in parsed]
    if name in ("emotional_signature", "comfort_metrics"):
        return [None if value is None else msgspec.structs.asdict(value) for value in values]
    return values


def extra_text(extra: dict[str, bytes] | None) -> str | None:
    """The ``extra`` column of an event: a JSON object with the values as they were written.

    >>> extra_text({"theme": b'"dark"', "n": b"1.0"})
    '{"theme":"dark","n":1.0}'
    """
    if not extra:
        return None
    parts = [msgspec.json.encode(name) + b":" + value for name, value in extra.items()]
    return (b"{" + b",".join(parts) + b"}").decode()


def _merge(fast: dict[str, pa.Array], rows: Any, slow: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Put the slow values at their rows; without fast columns they are all there is."""
    if not fast:
        return slow
    count = len(next(iter(fast.values())))
    index = np.arange(count)
    index[rows] = count + np.arange(len(rows))
    merged = {}
    for name, values in slow.items():
        before = fast.get(name)
        if before is None:
            merged[name] = spread(values, rows, count)
        else:
            merged[name] = pa.concat_arrays([before.cast(values.type), values]).take(pa.array(index))
    return merged

