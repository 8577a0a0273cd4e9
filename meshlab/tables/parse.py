"""Records out of log lines: DuckDB where it provably agrees, else the definition.

A ``Parser`` turns the rows of a ``Block`` into Arrow columns.  Rows our own writer wrote
go through one DuckDB query per block over views of the block's bytes; ``screen`` says
which results stand.  All other rows, and those the reader has already decoded, take
their values from ``dialects.parse_event``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import DELETE, OTHER, Parsed, parse_event
from meshlab.jsontext import NotJson
from meshlab.records import FIELDS
from meshlab.tables.connection import borrow
from meshlab.tables.schema import EMOTIONAL_SIGNATURE, EVENT_SCHEMA, RECORD_FIELDS
from meshlab.tables.screen import count_keys
from meshlab.tables.slices import spread, strings, views
from meshlab.tables.structure import Fields
from meshlab.wal.lines import Block

HEAD = len(b'{"Insert":')
"""Bytes before the record in a plain event; ``Update`` and ``Delete`` have as many."""

_BATCH_ROWS = 8192
"""DuckDB spreads record batches over its threads: several for each, per block."""

_RAW_LIST = "trauma_indicators"


LEAST_ROWS = 4000
"""Plain rows from which a query, which takes some 15 ms to begin with, is faster."""


class Seen(NamedTuple):
    """Where the screen saw keys (the colons behind them), and a mask of the rows for which it vouches.

    In those every key is one of a record, is there once, and has a value.
    """

    colons: Any
    rows: Any


class Records(NamedTuple):
    """What the rows of a block say, one row per event.

    ``columns`` maps names to Arrow arrays, ``op`` is final (int8, index into ``OPS``),
    ``failed`` maps rows that turned out to be no JSON to the reason.  ``seen`` is there when
    rows were screened, ``fields`` when somebody asked for the sizes of fields.
    """

    columns: dict[str, pa.Array]
    op: Any
    failed: dict[int, str]
    seen: Seen | None = None
    fields: Fields | None = None


class Parser:
    """Parses blocks; holds one DuckDB connection, so use it from one thread at a time.

    ``columns`` are names of ``COLUMNS``; only what they need is computed.  Blocks
    with fewer than ``least_rows`` plain rows are not worth a query.
    """

    def __init__(self, columns: Collection[str], *, least_rows: int = LEAST_ROWS) -> None:
        self._wanted = _needed(columns)
        self._with_extra = "extra" in columns
        self._least_rows = least_rows

    def parse(self, block: Block) -> Records:
        """The records of a block; every row is parsed, whatever the columns."""
        slow = np.ones(len(block.op), bool)
        columns: dict[str, pa.Array] = {}
        seen = None
        if np.count_nonzero(block.plain) >= self._least_rows:
            columns, seen = self._parse_plain(block)
            slow = ~seen.rows
        rows = np.flatnonzero(slow)
        if not columns or len(rows):
            parsed, failed = _parse_slowly(block, rows)
            columns = _merge(columns, rows, _decoded_columns(parsed, self._wanted, self._with_extra))
            op = block.op.copy()
            op[rows] = [event.op for event in parsed]
            return Records(columns, op, failed, seen)
        if self._with_extra:
            columns["extra"] = pa.nulls(len(block.op), pa.string())
        return Records(columns, block.op, {}, seen)

    def _parse_plain(self, block: Block) -> tuple[dict[str, pa.Array], Seen]:
        """The columns of the plain rows, and which of them stand; the other rows are to be parsed again."""
        start, stop = block.event_start + HEAD, block.event_stop - 1
        is_record = block.plain & (block.op < DELETE)
        screening = self._helper.submit(count_keys, block.data, start, stop)
        found = self._from_json(block.data, start, stop, is_record)
        keys, doubtful, colons = screening.result()
        if found is None:
            return {}, Seen(colons, np.zeros(len(start), bool))
        fields = _fields_of(found)
        lists, strict = _read_lists(_fields_of(fields["emotional_signature"])[_RAW_LIST])
        agreed = is_record & strict & ~doubtful & (keys == _count_values(fields)) & _is_sound(fields)
        columns = {name: fields[name] for name in self._wanted}
        if "emotional_signature" in columns:
            columns["emotional_signature"] = _with_lists(columns["emotional_signature"], lists)
        deletes = np.flatnonzero(block.plain & (block.op == DELETE))
        if len(deletes):
            ids, readable = _plain_strings(block.data, start[deletes], stop[deletes])
            agreed[deletes[readable]] = True
            columns["id"] = pc.coalesce(columns["id"], spread(ids, deletes, len(start)))
        return columns, Seen(colons, agreed)

    def _from_json(self, data: Any, start: Any, stop: Any, rows: Any) -> pa.Array | None:
        """The masked slices as structs; None when DuckDB gives up on them."""
        for _ in range(2):
            try:
                return self._run(_QUERY, views(data, start, stop, rows))
            except duckdb.Error:
                rows = rows & self._valid(data, start, stop, rows)
        return None

    def _valid(self, data: Any, start: Any, stop: Any, rows: Any) -> Any:
        query = "select coalesce(json_valid(record), false) as result from block"
        try:
            return self._run(query, views(data, start, stop, rows)).to_numpy(zero_copy_only=False)
        except duckdb.Error:
            return np.zeros(len(rows), bool)

    @cached_property
    def _helper(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="meshlab-screen")

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return borrow()

    def _run(self, query: str, records: pa.Array) -> pa.Array:
        """The ``result`` column of a query over a table ``block`` of ``record`` texts."""
        schema = pa.schema([("record", records.type)])
        parts = [records.slice(low, _BATCH_ROWS) for low in range(0, len(records), _BATCH_ROWS)]
        block = pa.Table.from_batches([pa.record_batch([part], schema=schema) for part in parts], schema)
        self._connection.register("block", block)
        try:
            result = self._connection.sql(query).to_arrow_table().column("result")
        finally:
            self._connection.unregister("block")
        return result.chunk(0) if result.num_chunks == 1 else result.combine_chunks()


def _needed(columns: Iterable[str]) -> list[str]:
    """The record fields the columns are made of; ``id`` decides what a row is."""
    names = set(columns) | {"id"}
    sources = {
        "creation_ts": "creation_time",
        "last_accessed_ts": "last_accessed",
        "content_nbytes": "content",
        "content_key": "content",
    }
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


_QUERY = f"select from_json(record, '{_structure(RECORD_FIELDS)}') as result from block"
"""All fields are asked for, whatever is wanted, since all must be counted."""


# Arrow pieces


def _fields_of(structs: pa.Array) -> dict[str, pa.Array]:
    """The fields of a struct array by name; null where the struct is."""
    names = [field.name for field in structs.type]
    return {name: _storage(array) for name, array in zip(names, structs.flatten(), strict=True)}


def _storage(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _count_values(fields: dict[str, pa.Array]) -> Any:
    """Number of values in each row, those of nested fields included."""
    total: Any = 0
    for array in fields.values():
        total = total + _is_given(array)
        if pa.types.is_struct(array.type):
            total = total + _count_values(_fields_of(array))
    return total


def _is_given(array: pa.Array) -> Any:
    """The validity of an array as a uint8 array of ones and zeros."""
    bitmap = array.buffers()[0]
    if bitmap is None:
        return np.ones(len(array), np.uint8)
    stop = array.offset + len(array)
    return np.unpackbits(np.frombuffer(bitmap, np.uint8), count=stop, bitorder="little")[array.offset :]


def _is_sound(fields: dict[str, pa.Array]) -> Any:
    """Rows with a usable id and finite numbers only."""
    lengths = pc.fill_null(pc.binary_length(fields["id"]), 0).to_numpy()
    return (lengths > 0) & _is_finite(fields)


def _is_finite(fields: dict[str, pa.Array]) -> Any:
    finite: Any = True
    for array in fields.values():
        if pa.types.is_float64(array.type):
            held = np.frombuffer(array.buffers()[1], np.float64)[array.offset : array.offset + len(array)]
            finite = finite & (np.isfinite(held) | (_is_given(array) == 0))
        elif pa.types.is_struct(array.type):
            finite = finite & _is_finite(_fields_of(array))
    return finite


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
    lists: list[list[str] | None] = []
    fits: list[bool] = []
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
