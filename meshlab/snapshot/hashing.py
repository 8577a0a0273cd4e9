"""The state hash: one number that tells whether two states hold the same records.

A record is written down in one canonical way (docs/format.md, "State hash") and hashed
with MD5; the hash of a state is the sum of the hashes of its records, modulo 2^128.  So
the order of records does not matter, and a change costs what changed, not the state.

>>> table = pa.Table.from_pylist([{"id": "m1"}, {"id": "m2"}], schema=RECORD_SCHEMA)
>>> whole = state_hash(table)
>>> whole.hexdigest()
'aae66ea9ea78f34c6b840cb5d3cec693'
>>> whole.remove(row_hashes(table.slice(1))) == state_hash(table.slice(0, 1))
True
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import SnapshotError
from meshlab.records import FIELDS
from meshlab.tables.connection import borrow
from meshlab.tables.schema import RECORD_FIELDS, RECORD_SCHEMA
from meshlab.tables.slices import spread

DIGEST = pa.binary(16)
"""The type of a row hash: the sixteen bytes of an MD5."""

NAN_BITS = 0x7FF8_0000_0000_0000
"""What any NaN counts as: the payload of a NaN does not survive every tool."""

FEW = 1000
"""Records from which a query, which takes some 10 ms to begin with, is faster than plain Python."""

_SLICE_ROWS = 262_144
_BATCH_ROWS = 8192
_BATCH_BYTES = 32 << 20
"""Contents that DuckDB is handed at once: it copies up to a vector of records."""

_SCHEMA = RECORD_FIELDS.append(RECORD_SCHEMA.field("extra"))
_MODULUS = 1 << 128
_ORDER = sorted(FIELDS)  # code points sort as their UTF-8 does
_SLOTS = len(_ORDER) + 1
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True)
class StateHash:
    """The sum of row hashes modulo 2^128; each is taken as a little-endian number.

    ``hexdigest`` writes the sixteen bytes in the same order, so that a state of one
    record prints as the MD5 of that record does.
    """

    EMPTY: ClassVar[StateHash]
    value: int = 0

    def add(self, hashes: pa.Array | pa.ChunkedArray) -> StateHash:
        """The hash of a state that also has the records of these row hashes."""
        return StateHash((self.value + _sum(hashes)) % _MODULUS)

    def remove(self, hashes: pa.Array | pa.ChunkedArray) -> StateHash:
        """The hash of a state that no longer has the records of these row hashes."""
        return StateHash((self.value - _sum(hashes)) % _MODULUS)

    def hexdigest(self) -> str:
        """32 hex digits."""
        return self.value.to_bytes(16, "little").hex()

    @classmethod
    def parse(cls, text: str) -> StateHash:
        """The hash that ``hexdigest`` wrote.  Raises ``SnapshotError``.

        >>> StateHash.parse("00" * 16) == StateHash.EMPTY
        True
        """
        if not re.fullmatch("[0-9a-f]{32}", text, re.ASCII):
            raise SnapshotError(f"a state hash has 32 hex digits, found {text!r}")
        return cls(int.from_bytes(bytes.fromhex(text), "little"))

    def __str__(self) -> str:
        return self.hexdigest()


StateHash.EMPTY = StateHash()


def state_hash(table: pa.Table | pa.RecordBatch) -> StateHash:
    """The hash of a state: a table with the columns of ``RECORD_SCHEMA``."""
    return StateHash.EMPTY.add(row_hashes(table))


def row_hashes(table: pa.Table | pa.RecordBatch) -> pa.Array:
    """The MD5 of every record, in the order of the rows.

    Reads the seventeen fields, with contents whole, and ``extra``.  Memory beyond the
    table: some tens of MiB, whatever its size.
    """
    table = pa.table(table).select(_SCHEMA.names)
    if table.num_rows < FEW:
        return pa.array([one for batch in _cut(table) for one in _hash_few(batch)], DIGEST)
    starts = range(0, table.num_rows, _SLICE_ROWS)
    with closing(borrow()) as connection:
        parts = [_hash_slice(table.slice(start, _SLICE_ROWS), connection) for start in starts]
    digests = np.concatenate([np.empty((0, 2), "<u8"), *parts])
    return pa.FixedSizeBinaryArray.from_buffers(DIGEST, len(digests), [None, pa.py_buffer(digests)])


def _sum(hashes: pa.Array | pa.ChunkedArray) -> int:
    """The sum of sixteen-byte numbers: of each 32-bit limb by itself, then of the four."""
    total = 0
    for chunk in hashes.chunks if isinstance(hashes, pa.ChunkedArray) else [hashes]:
        if chunk.type != DIGEST or chunk.null_count:
            raise TypeError(f"row hashes are {DIGEST} without nulls, found {chunk.type}")
        limbs = np.frombuffer(chunk.buffers()[1] or b"", "<u4").reshape(-1, 4)
        sums = limbs[chunk.offset : chunk.offset + len(chunk)].sum(axis=0, dtype=np.uint64)
        total += sum(limb << 32 * place for place, limb in enumerate(sums.tolist()))
    return total


def _hash_slice(table: pa.Table, connection: Any) -> Any:
    """The MD5s of a slice, each as two 64-bit words."""
    with_extra = table["extra"].null_count < table.num_rows
    batches = [_leaves(batch, with_extra) for batch in _cut(table)]
    connection.register("records", pa.Table.from_batches(batches))
    try:
        words = connection.sql(_query(with_extra)).to_arrow_table()
    finally:
        connection.unregister("records")
    return np.stack([words["low"].to_numpy(), words["high"].to_numpy()], axis=1)


def _cut(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Batches with few rows and few bytes of contents."""
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        batch = batch if batch.schema.types == _SCHEMA.types else batch.cast(_SCHEMA)
        lengths = pc.binary_length(batch["content"]).fill_null(0).to_numpy()
        cuts = np.flatnonzero(np.diff(np.cumsum(lengths, dtype=np.int64) // _BATCH_BYTES)) + 1
        starts = [0, *cuts.tolist()]
        for start, stop in zip(starts, [*starts[1:], batch.num_rows], strict=True):
            yield batch.slice(start, stop - start)


# Columns ------------------------------------------------------------------------------


def _leaves(batch: pa.RecordBatch, with_extra: bool) -> pa.RecordBatch:
    """The columns that the query reads: integers and texts; of a struct whether it is there, and its parts."""
    columns: dict[str, pa.Array] = {}
    for name in RECORD_FIELDS.names:
        _add_leaves(columns, name, batch[name])
    if with_extra:
        columns |= _extra_columns(batch["extra"])
    return pa.record_batch(columns)


def _add_leaves(columns: dict[str, pa.Array], name: str, column: pa.Array) -> None:
    if pa.types.is_struct(column.type):
        columns[name] = column.is_valid()
        for field, child in zip(column.type, column.flatten(), strict=True):
            _add_leaves(columns, f"{name}.{field.name}", child)
    elif pa.types.is_floating(column.type):
        columns[name] = _bits(column)
    elif pa.types.is_list(column.type):
        columns[name] = _joined(column)
    else:
        columns[name] = column


def _bits(column: pa.Array) -> pa.Array:
    """The bits of doubles as signed integers."""
    bits = column.view(pa.int64())
    nan = pc.is_nan(column)
    return pc.if_else(nan, NAN_BITS, bits) if nan.true_count else bits


def _joined(column: pa.Array) -> pa.Array:
    """The items of each list of texts, each behind its length, one after the other."""
    offsets = column.offsets
    first = offsets[0].as_py() if len(column) else 0
    items = column.values.slice(first, offsets[-1].as_py() - first)
    items = pc.binary_join_element_wise(pc.binary_length(items).cast(pa.string()), items, ":").fill_null("")
    lists = pa.ListArray.from_arrays(pc.subtract(offsets, first).cast(pa.int32()), items, mask=column.is_null())
    return pc.binary_join(lists, "")


def _extra_columns(texts: pa.Array) -> dict[str, pa.Array]:
    """What the entries of ``extra`` add, by the place of their names among the fields.

    There is a slot before each field, and one behind the last.  An entry with the name
    of a field, a value that does not fit, stands in the slot before it.
    """
    slots: list[dict[int, str]] = [{} for _ in range(_SLOTS)]
    rows = np.flatnonzero(texts.is_valid()).tolist()
    for row, text in zip(rows, texts.drop_null().to_pylist(), strict=True):
        for name, raw in sorted(_decode(text).items()):
            slot, label = _slot(name)
            value = bytes(raw)
            slots[slot][row] = slots[slot].get(row, "") + f"{label}{len(value)}:{value.decode()}"
    return {_slot_name(slot): _spread(pieces, len(texts)) for slot, pieces in enumerate(slots)}


@lru_cache(maxsize=4096)
def _slot(name: str) -> tuple[int, str]:
    return bisect_left(_ORDER, name), _label(name)


def _spread(pieces: dict[int, str], count: int) -> pa.Array:
    return spread(pa.array(pieces.values(), pa.string()), np.array(list(pieces), np.int64), count)


# A few records ------------------------------------------------------------------------


def _hash_few(batch: pa.RecordBatch) -> Iterator[bytes]:
    """The MD5s of a batch, record by record."""
    fields = [_entries(name, batch[name]) for name in _ORDER]
    records = zip(*fields, strict=True)
    for record, extra in zip(records, batch["extra"].to_pylist(), strict=True):
        pieces = record if extra is None else _among(record, extra)
        yield hashlib.md5(b"".join(pieces), usedforsecurity=False).digest()


def _entries(name: str, column: pa.Array) -> list[bytes]:
    """What a field adds to each record: nothing where it is absent."""
    if column.null_count == len(column):
        return [b""] * len(column)
    label = _label(name).encode()
    return [b"" if text is None else b"%b%d:%b" % (label, len(text), text) for text in _values(column)]


def _values(column: pa.Array) -> list[bytes | None]:
    """The values as they are written; None where there is none."""
    if pa.types.is_struct(column.type):
        parts = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
        texts = zip(*(_entries(name, parts[name]) for name in sorted(parts)), strict=True)
        there = column.is_valid().to_pylist()
        return [b"".join(text) if one else None for text, one in zip(texts, there, strict=True)]
    if pa.types.is_list(column.type):
        column = _joined(column)
    if pa.types.is_primitive(column.type):
        numbers = _bits(column) if pa.types.is_floating(column.type) else column
        return [None if number is None else b"%d" % number for number in numbers.to_pylist()]
    return list(column.cast(pa.binary()).to_pylist())


def _among(record: Sequence[bytes], extra: str) -> list[bytes]:
    """The entries of a record and those of its ``extra``, which stand before the field of the same name."""
    slots = [b""] * _SLOTS
    for name, raw in sorted(_decode(extra).items()):
        slot, label = _slot(name)
        value = bytes(raw)
        slots[slot] += b"%b%d:%b" % (label.encode(), len(value), value)
    return [piece for pair in zip(slots, [*record, b""], strict=True) for piece in pair]


# The query ----------------------------------------------------------------------------
#
# ``concat`` leaves out nulls and ``||`` is null beside one; so an absent field leaves nothing.

_DIGITS = 20
"""The longest number, sign included.  What stands before one is looked up, in a third of the time of writing it."""


@lru_cache(maxsize=2)
def _query(with_extra: bool) -> str:
    """The MD5 of every row of ``records`` as two words, by three steps: texts of leaves, structs, records."""
    structs = {field.name: field.type for field in RECORD_FIELDS if pa.types.is_struct(field.type)}
    leaves = [field.name for field in RECORD_FIELDS if field.name not in structs]
    leaves += [f"{name}.{field.name}" for name, kind in structs.items() for field in kind]
    slots = [_slot_name(slot) for slot in range(_SLOTS)] if with_extra else []
    texts = [f'"{name}"::varchar as "{name}"' for name in leaves]
    wholes = [f'case when "{name}" then {_struct_text(name, kind)} end as "{name}"' for name, kind in structs.items()]
    return f"""
        select (sum & 18446744073709551615::uhugeint)::ubigint as low, (sum >> 64)::ubigint as high
        from (select md5_number({_record_text(slots)}) as sum
        from (select {_list([*_quoted(leaves), *wholes, *slots])}
        from (select {_list([*texts, *_quoted(structs), *slots])} from records)))"""


def _record_text(slots: Sequence[str]) -> str:
    pieces = [_pieces(name, name, RECORD_FIELDS.field(name).type) for name in _ORDER]
    if slots:
        pieces = [[slot, *field] for slot, field in zip(slots, [*pieces, []], strict=True)]
    return f"concat({_list(piece for field in pieces for piece in field)})"


def _struct_text(struct: str, kind: pa.DataType) -> str:
    fields = sorted(kind, key=lambda field: str(field.name))
    pieces = [_pieces(field.name, f"{struct}.{field.name}", field.type) for field in fields]
    return f"concat({_list(piece for field in pieces for piece in field)})"


def _pieces(name: str, column: str, kind: pa.DataType) -> list[str]:
    """A field: what stands before its value, null when the value is, and the value."""
    head = f"'{_label(name)}' || strlen(\"{column}\") || ':'"
    if pa.types.is_primitive(kind):
        heads = _list(f"'{_label(name)}{length}:'" for length in range(1, _DIGITS + 1))
        head = f'[{heads}][strlen("{column}")]'
    return [head, f'"{column}"']


def _label(name: str) -> str:
    return f"{len(name.encode())}:{name} "


def _slot_name(slot: int) -> str:
    return f"slot_{slot}"


def _quoted(names: Any) -> list[str]:
    return [f'"{name}"' for name in names]


def _list(parts: Any) -> str:
    return ", ".join(parts)
